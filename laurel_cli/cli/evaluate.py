"""`laurel evaluate`: a trained language model on tasks of lm-evaluation-harness."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laurel_cli import devices
from laurel_cli.cli.options import Debug, Force, Format, Output, command_line
from laurel_cli.settings.shared import DEVICE_HELP, MODEL, device_names

if TYPE_CHECKING:
    from torch import nn

TASKS, RUN = "Tasks", "Run"


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder of `laurel convert`; or any reference, with --weights.")
    ],
    tasks: Annotated[
        list[str],
        typer.Option("--tasks", metavar="LIST", help="Tasks or groups of the harness.", rich_help_panel=TASKS),
    ],
    task_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of task files of your own; a task file may run Python code that lies beside it.",
            rich_help_panel=TASKS,
        ),
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Examples in each prompt; by default what the task says.", rich_help_panel=TASKS
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Only the first N samples of each task: to try it out.", rich_help_panel=TASKS
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Trained weights of a model without LAuReL: a file of safetensors, or a folder of them.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder with the model's tokenizer, or its tokenizer.json; by default where the weights are.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Sequences a forward pass.", rich_help_panel=RUN)] = 8,
    device: Annotated[
        str, typer.Option(metavar="NAME", help=DEVICE_HELP, autocompletion=device_names, rich_help_panel=RUN)
    ] = devices.AUTO,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Score a trained language model of transformers on tasks of lm-evaluation-harness.

    The harness asks, scores and computes the standard errors itself. Its own tasks fetch their data from the hub.

    Examples:

        laurel evaluate my-gpt2-laurel --tokenizer my-gpt2 --tasks hellaswag,mmlu

        laurel evaluate hf:./my-gpt2 --weights ./my-gpt2 --tasks hellaswag,mmlu

        laurel evaluate my-gpt2-laurel --tokenizer my-gpt2 --tasks my_task --task-dir ./my-tasks
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.settings.read import items

    destination = Destination.checked(format, output, force)
    names = items("tasks", tasks)
    if not debug:
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars of datasets and transformers; the harness's stay
    stdio.reserve(debug)
    with Progress(debug) as progress:
        place, name = _place(model, weights), devices.resolve(device, stdio.say)
        asked = {"folder": task_dir, "shots": shots, "limit": limit, "batch": batch}
        tokens = tokenizer or (place if place.is_dir() else place.parent)
        document = _scored(model, place, weights is None, tokens, names, asked, name, progress)
    head = {"schema": "laurel.evaluate/1", "command": command_line(), "model": model}
    destination.write(head | document)


def _place(model: str, weights: Path | None) -> Path:
    """Where the weights are."""
    from laurel_cli.errors import UsageError
    from laurel_cli.models.load import DESCRIPTION, is_learned
    from laurel_cli.models.reference import PICKLES, runs_users_code

    folder = Path(model)
    if is_learned(folder):
        if weights is not None:
            raise UsageError(f"{model!r} has weights of its own.", hint="Leave --weights out.")
        return folder
    if runs_users_code(model):
        why = "The harness scores models that transformers builds."
        raise UsageError(f"{model!r} is code of yours.", why, "Try hf:DIR, or `lm_eval` itself.")
    if weights is None:
        why = f"It is no folder of `laurel convert` or laurel_cli.save, with {DESCRIPTION} in it."
        raise UsageError(f"{model!r} has no weights.", why, "Name them: --weights FILE.safetensors.")
    if weights.suffix.lower() in PICKLES:
        raise UsageError(f"{str(weights)!r} is no file of safetensors.", "Reading a pickle could run code.")
    return weights


def _scored(
    model: str,
    place: Path,
    is_whole: bool,
    tokens: Path,
    names: list[str],
    asked: dict[str, Any],
    device: str,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """The answer, but for its head."""
    from laurel_cli.harness import evaluate as score
    from laurel_cli.harness import tokenizer_of
    from laurel_cli.laurel.build import laurel_layers
    from laurel_cli.proxy.weights import checksum
    from laurel_cli.records.provenance import version, versions

    progress("opening the model")
    tokenizer = tokenizer_of(tokens)
    module = _opened(model, place, is_whole)
    opened = devices.opened(device)
    layers = list(laurel_layers(module).values())
    module.to(opened.torch).eval()
    found = score(module, tokenizer, names, **asked, on_progress=progress)
    dtypes = sorted({str(own.dtype).removeprefix("torch.") for own in module.parameters()})
    return {
        "arm": layers[0].spec.name if layers else None,
        "parameters": sum(own.numel() for own in module.parameters()),
        "dtype": ", ".join(dtypes),
        "device": opened.described(),
        "weights_sha256": checksum(place),
        "tokenizer": str(tokens),
        "tokenizer_sha256": _files_sha256(tokens),
        "batch": asked["batch"],
        "limit": asked["limit"],
        "versions": versions() | {name: version(name) for name in ("lm_eval", "datasets", "tokenizers")},
    } | found


def _opened(model: str, place: Path, is_whole: bool) -> nn.Module:
    from laurel_cli.api.opened import load
    from laurel_cli.laurel import weights
    from laurel_cli.laurel.beside import refuse_other

    loaded = load(model)
    if is_whole:
        return loaded.module
    module = loaded.build()
    weights.give(module, place, loaded.inputs)
    refuse_other(module, place, model, {})
    return module


def _files_sha256(place: Path) -> str:
    """Of a tokenizer's file, or of all that a folder may have of one."""
    import hashlib

    from laurel_cli.tasks.reading.sources import file_hash

    if place.is_file():
        return file_hash(place)
    names = {"merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "chat_template.jinja"}
    files = sorted(
        path for path in place.iterdir() if path.name in names or path.name.startswith(("tokenizer", "vocab"))
    )
    return hashlib.sha256(" ".join(f"{path.name}:{file_hash(path)}" for path in files).encode()).hexdigest()
