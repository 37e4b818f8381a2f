"""What is trained on: a reference becomes examples with a fixed split, a checksum and where they come from.

A new task is a file here, whose `TASKS` says how it is opened, and a line in `FILES`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from laurel_cli.errors import RecordError, UsageError, fitting_names
from laurel_cli.paths import expanded
from laurel_cli.tasks.base import Asked, Task, TaskKind

if TYPE_CHECKING:
    from laurel_cli.tasks.reading.cache import Progress

__all__ = ["FILES", "Kind", "Task", "is_text", "kind_of", "names", "open_task"]

# Name: what follows its colon, and the file that opens it (imported when it is needed).
FILES: Mapping[str, tuple[str, str]] = {
    "scenes": ("", "scenes"),
    "imagefolder": ("DIR", "imagefolder"),
    "cifar10": ("DIR", "cifar"),
    "cifar100": ("DIR", "cifar"),
    "imagenet": ("DIR", "imagenet"),
    "stdlib": ("", "stdlib"),
    "text": ("FILE", "text"),
    "hf": ("DATASET", "hub"),
    "c4": ("", "hub"),
    "fineweb": ("", "hub"),
}
DEFAULT_SEQ_LEN = 128


def names() -> tuple[str, ...]:
    """What `open_task` takes: "scenes", "imagefolder:DIR", ..."""
    return tuple(f"{name}:{rest}" if rest else name for name, (rest, _) in FILES.items())


def kind_of(name: str) -> TaskKind:
    """What the task's file says of it, for a name of `FILES`."""
    found: TaskKind = importlib.import_module(f"laurel_cli.tasks.{FILES[name][1]}").TASKS[name]
    return found


def is_text(reference: str) -> bool:
    """Whether a reference names a task of text; an unknown one does not."""
    name = reference.partition(":")[0]
    return name in FILES and kind_of(name).what == "text"


@fitting_names()
def open_task(
    reference: str,
    *,
    image_size: int | None = None,
    seq_len: int | None = None,
    tokenizer: str = "bytes",
    tokens: int | None = None,
    train_limit: int | None = None,
    evaluation_limit: int | None = None,
    expected: str | None = None,
    cache: Path | None = None,
    on_progress: Progress = lambda step: None,
) -> Task:
    """Prepare a task, or take it from the cache.

    Args:
        reference: one of `names()`.
        image_size: pixels along each side; None for the images' own (224 for imagenet).
        seq_len: tokens that a model is given at once, 128 for None.
        tokenizer: "bytes", "bpe", "bpe:VOCABULARY" or a tokenizers file that ends in .json.
        tokens: how many to take from a dataset that is streamed.
        train_limit: use so many training images, a fixed random choice, or the first so many tokens.
        evaluation_limit: use so many images to evaluate on, likewise, or so many tokens, in windows spread evenly.
        expected: the `sha256` that the task must have.
        cache: where prepared data is kept, `cache_folder()` for None.
        on_progress: told what is being done.

    Raises:
        UsageError: an unknown reference or an option that does not fit it.
        RecordError: data that is missing, broken or not `expected`.
        ResourceError: the cache cannot be written.
    """
    from laurel_cli.tasks import opened
    from laurel_cli.tasks.reading.places import cache_folder

    name, rest = _parsed(reference)
    kind = kind_of(name)
    given = {"image_size": image_size, "seq_len": seq_len, "tokens": tokens}
    for option, value in (given | {"train_limit": train_limit, "evaluation_limit": evaluation_limit}).items():
        if value is not None and value < 1:
            raise UsageError(f"`{option}={value}` is too small.", hint=f"Try `{option}=128`.")
    asked_for = [option for option, value in given.items() if value is not None]
    for option in [*asked_for, *(["tokenizer"] if tokenizer != "bytes" else [])]:
        if option not in kind.takes:
            why = f"That is a task of {kind.of}."
            raise UsageError(f"`{option}` does not fit {name}.", why, f"Leave `{option}` out.")
    folder, warning = cache_folder(cache)
    arrays = kind.prepare(Asked(name, rest, image_size, tokenizer, tokens, folder, on_progress))
    shown, warnings = kind.shown(name, rest), (warning,) if warning else ()
    if kind.what == "image":
        task = opened.of_images(shown, arrays, train_limit, evaluation_limit, warnings)
    else:
        length = DEFAULT_SEQ_LEN if seq_len is None else seq_len
        task = opened.of_text(shown, arrays, length, train_limit, evaluation_limit, warnings)
    if expected is not None and task.sha256 != expected:
        raise RecordError(
            f"The data of {reference!r} has been changed.",
            f"Its checksum is {task.sha256[:16]}, not {expected[:16]}.",
            "Bring the old data back, or start another study.",
        )
    return task


def _parsed(reference: str) -> tuple[str, str]:
    name, _, rest = reference.partition(":")
    if name not in FILES:
        raise UsageError(f"Task {reference!r} is unknown.", f"There are {', '.join(names())}.", _guess(reference))
    wanted = FILES[name][0]
    if bool(wanted) != bool(rest):
        why = "It lacks what to read." if wanted else "It has no further part."
        raise UsageError(
            f"Task {reference!r} is incomplete or too long.", why, f"Try {name}:{wanted}".rstrip(":") + "."
        )
    return name, rest


def _guess(reference: str) -> str:
    path = expanded(reference)
    if path.is_dir():
        return f"Did you mean imagefolder:{reference}?"
    if path.is_file():
        return f"Did you mean text:{reference}?"
    close = difflib.get_close_matches(reference.partition(":")[0].lower(), FILES, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else "Try `task='scenes'`."
