"""Score a language model on tasks of lm-evaluation-harness, through its own Python API (the extra `eval`).

The model is given to the harness's own class for models of transformers: prompts, truncation, scoring and standard
errors are the harness's. What it does without a word, cutting prompts that are too long, is counted and said.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli.errors import LaurelError, ModelError, RecordError, ResourceError, UsageError
from laurel_cli.text import first_line, message

if TYPE_CHECKING:
    from torch import nn

SEEDS = {"random_seed": 0, "numpy_random_seed": 1234, "torch_random_seed": 1234, "fewshot_random_seed": 1234}
"""The harness's own defaults."""
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "tokenizer.model", "vocab.txt")
SPARE = 0.1  # share of a model's embeddings that may be without a token: tables are rounded up
NEVER = "\0there is no end of a text\0"  # which no model writes
ENDLESS = (
    "The tokenizer names no token that ends a text, nor does the model: what the model writes ends where its task "
    "says, or after as many tokens as that allows, and a text without a context is scored behind a line break."
)
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the number of tokens that may be written, in the harness's order."""


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    tasks: Sequence[str],
    *,
    folder: Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    batch: int = 8,
    on_progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Score a causal language model of transformers on tasks, groups or tags of the harness.

    Args:
        model: in eval mode, on the device where it is to run.
        tokenizer: of transformers, the model's own.
        tasks: names that the harness knows, or that a file in `folder` defines.
        folder: with task files of the user's; a task file may run Python code that lies beside it.
        shots: examples in each prompt, None for what each task says.
        limit: samples of each task, the first ones; None for all.
        batch: sequences a forward pass.

    Returns:
        `rows`, one for each task and group, with its metrics and their standard errors; `seeds`; `warnings`.

    Raises:
        UsageError: no such task, or one that runs the code that the model writes.
        ModelError: no causal language model of transformers, or it fails.
        RecordError: the tokenizer has more tokens than the model, or a task's data cannot be read.
        ResourceError: the harness is not installed, a task's data cannot be fetched, or memory runs out.
    """
    from laurel_cli.devices import is_out_of_memory

    harness = _package()
    warnings = _fits(model, tokenizer)
    on_progress("looking for the tasks")
    manager, names = _manager(harness, list(dict.fromkeys(tasks)), folder)
    on_progress(f"scoring {', '.join(names)}")
    try:
        wrapped, remarks = _wrapped(harness, model, tokenizer, batch)
        found = harness.simple_evaluate(
            wrapped, tasks=names, task_manager=manager, num_fewshot=shots, limit=limit, **SEEDS
        )
    except LaurelError:
        raise
    except (ConnectionError, TimeoutError) as error:
        why = first_line(error)
        raise ResourceError("The data of a task cannot be fetched.", why, "Check the network.") from error
    except FileNotFoundError as error:
        raise RecordError("The data of a task is missing.", first_line(error), "Check the task's file.") from error
    except Exception as error:
        said = first_line(error)
        if isinstance(error, AssertionError) and not message(error):  # it holds answers to their lengths without a word
            said = "An answer of a task has no token of its own, or more than the model takes."
        if is_out_of_memory(error):
            hint = f"Try `batch={max(1, batch // 2)}`."
            raise ResourceError("The model does not fit into memory with its batch.", said, hint) from error
        if "unsafe" in said.lower():
            raise UsageError("A task runs the code that the model writes.", said, "Leave it out.") from error
        raise ModelError("The tasks cannot be scored.", said, "Add --debug to see where.") from error
    rows = [_row(name, found) for name in found["results"]]
    warnings += remarks
    for name, samples in found["samples"].items():
        warnings += _cut(name, samples, wrapped)
    return {"rows": rows, "seeds": dict(SEEDS), "warnings": warnings}


def tokenizer_of(place: Path) -> Any:
    """The tokenizer in a folder, or in a tokenizer.json; no code of its own is run, nothing is fetched.

    Raises:
        RecordError: there is none, or it cannot be read.
    """
    hint = "Name a folder with tokenizer.json, or that file: --tokenizer DIR."
    if not (place.is_file() or any((place / name).is_file() for name in TOKENIZERS)):
        raise RecordError(f"There is no tokenizer in {str(place)!r}.", "Tasks are text.", hint)
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        if place.is_file() or not (place / "tokenizer_config.json").is_file():
            file = place if place.is_file() else place / "tokenizer.json"
            return PreTrainedTokenizerFast(tokenizer_file=str(file))
        return AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise RecordError(f"The tokenizer in {str(place)!r} cannot be read.", first_line(error), hint) from error


def _package() -> Any:
    """The harness, its progress on stderr and its remarks left out.

    Raises:
        ResourceError: it is not installed.
    """
    from types import SimpleNamespace

    try:
        from lm_eval import __version__, simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ResourceError(
            "lm-evaluation-harness is missing.", f"{error}.", "Try pip install 'laurel-cli[eval]'."
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return SimpleNamespace(version=__version__, simple_evaluate=simple_evaluate, HFLM=HFLM, TaskManager=TaskManager)


def _fits(model: nn.Module, tokenizer: Any) -> list[str]:
    """See that a model can be scored with a tokenizer; what is to be known about the two."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name = type(model).__name__
    if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        raise ModelError(
            f"{name} is no causal language model of transformers.",
            "The harness scores those.",
            "Name a folder of one, or hf:DIR with --weights.",
        )
    tokens, rows = len(tokenizer), model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    if tokens > rows:
        raise RecordError(
            "The tokenizer is another model's.", f"It has {tokens} tokens, the model {rows}.", "Name the model's own."
        )
    if tokens < rows * (1 - SPARE):
        return [f"The tokenizer has {tokens} tokens, the model {rows}: is it the model's own?"]
    return []


def _wrapped(harness: Any, model: nn.Module, tokenizer: Any, batch: int) -> tuple[Any, list[str]]:
    """The harness's own class with a model; what is to be known of how its texts begin and end.

    The harness takes it that every tokenizer has a token that ends a text. One that is a file alone names none, and one
    that was learned for a study has none.
    """
    given = {"pretrained": model, "tokenizer": tokenizer, "backend": "causal", "batch_size": batch}
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token_id = _end(model, tokenizer)
    if tokenizer.eos_token_id is not None:
        return harness.HFLM(**given), []

    class Endless(harness.HFLM):
        """No token ends what is written: not one that the model's configuration takes for it either."""

        def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> Any:
            return NEVER if tokens is None else super().tok_decode(tokens, skip_special_tokens=skip_special_tokens)

        def _model_generate(self, *args: Any, **options: Any) -> Any:
            settings = self.model.generation_config
            held, settings.eos_token_id = settings.eos_token_id, None
            try:
                return super()._model_generate(*args, **options)
            finally:
                settings.eos_token_id = held

    line_break = (tokenizer.encode("\n", add_special_tokens=False) or [0])[-1]
    first = line_break if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = first  # it is masked; a new token would have no row in the model
    return Endless(prefix_token_id=first, **given), [ENDLESS]


def _end(model: nn.Module, tokenizer: Any) -> int | None:
    """What ends a text by the model's configuration, where the tokenizer has it as a special token, and no word."""
    said: Any = getattr(model.config, "eos_token_id", None)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((one for one in (said if isinstance(said, list) else [said]) if one in special), None)


def _manager(harness: Any, names: list[str], folder: Path | None) -> tuple[Any, list[str]]:
    """What knows the tasks called `names`. The harness's own, some 14,000 files, are read where they are needed."""
    from laurel_cli.models.reference import did_you_mean

    if not names:
        raise UsageError("No task is named.", hint="Try --tasks hellaswag.")
    if folder is not None:
        if not folder.is_dir():
            raise UsageError(f"{str(folder)!r} is no folder.", hint="Name the folder of your task files.")
        own = harness.TaskManager(include_path=str(folder), include_defaults=False)
        if all(name in own.task_index for name in names):
            return own, names
    manager = harness.TaskManager(include_path=None if folder is None else str(folder))
    for name in names:
        if name not in manager.task_index:
            hint = did_you_mean(name, manager.all_tasks) or "`lm_eval ls tasks` lists those of the harness."
            raise UsageError(f"There is no task {name!r} in lm-evaluation-harness {harness.version}.", hint=hint)
    return manager, names


def _row(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of a task, or of a group, whose samples are those of its tasks."""
    result, samples = found["results"][name], found["n-samples"].get(name)
    better = found["higher_is_better"].get(name) or {}
    metrics = []
    for key, value in result.items():
        metric, comma, chosen = key.partition(",")
        if comma and not metric.endswith("_stderr") and _is_number(value):
            error = result.get(f"{metric}_stderr,{chosen}")
            metrics.append(
                {
                    "metric": metric,
                    "filter": chosen,
                    "value": _finite(value),
                    "stderr": _finite(error) if _is_number(error) else None,
                    "higher_is_better": better.get(metric),
                }
            )
    return {
        "task": name,
        "is_group": samples is None,
        "version": None if found["versions"].get(name) is None else str(found["versions"][name]),
        "shots": found["n-shot"].get(name),
        "samples": None if samples is None else samples["effective"],
        "of": None if samples is None else samples["original"],
        "hash": _hash(found["samples"].get(name)),
        "metrics": metrics,
    }


def _cut(name: str, samples: Sequence[Mapping[str, Any]], wrapped: Any) -> list[str]:
    """How many samples of a task are longer than the model takes: the harness leaves their beginning out."""
    longest: dict[Any, int] = {}
    for one in samples:
        for given in one["arguments"]:
            if len(given) == 2:  # one text alone is read in pieces, whole
                longest[one["doc_id"]] = max(longest.get(one["doc_id"], 0), _tokens(given[0], given[1], wrapped))
    many = sum(length > wrapped.max_length for length in longest.values())
    if not many:
        return []
    return [
        f"{many} of {len(longest)} samples of {name} are longer than the model's {wrapped.max_length} tokens: the "
        "harness left out how they begin."
    ]


def _tokens(before: str, after: str | Mapping[str, Any], wrapped: Any) -> int:
    """What the model has to read of a prompt and its continuation, or of the tokens that it may write."""
    if isinstance(after, str):
        return len(wrapped.tok_encode(before + after)) - 1  # the last one is only predicted
    most = next((after[name] for name in LENGTHS if after.get(name) is not None), wrapped.max_gen_toks)
    return len(wrapped.tok_encode(before)) + int(most)


def _hash(samples: Sequence[Mapping[str, Any]] | None) -> str | None:
    """The harness's `task_hashes`: of every document, prompt and target, as its results files have it."""
    from lm_eval.utils import hash_string

    if not samples:
        return None
    return str(hash_string("".join(one["doc_hash"] + one["prompt_hash"] + one["target_hash"] for one in samples)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
