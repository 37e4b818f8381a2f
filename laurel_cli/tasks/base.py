"""What a task is, and what its file says of it. Imports nothing that is slow: help texts name every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from laurel_cli.tasks.examples import Images, Tokens
    from laurel_cli.tasks.reading.cache import Arrays, Progress


@dataclass(frozen=True, eq=False)
class Task:
    """Examples to train on and examples to evaluate on.

    Attributes:
        name: for tables: "scenes", "cifar10", "text:books.txt".
        kind: what the examples are.
        classes: classes of the images, or the vocabulary.
        train: what batches are drawn from.
        evaluation: the fixed examples, in their fixed order.
        sha256: of data, split and preparation.
        provenance: plain JSON: source, licence, counts, checksums.
        chance_loss: nats an image or token, of a guess that knows the training labels' (tokens') frequencies alone.
        mean: of the training images' channels, where black is 0 and white is 1; empty for text.
        sd: standard deviation, likewise.
        natural: whether an image is still one of its kind when it is mirrored.
        warnings: for the user, a sentence each.
        tokenizer: of text, its own JSON; "" where tokens are bytes.
    """

    name: str
    kind: Literal["image", "text"]
    classes: int
    train: Images | Tokens
    evaluation: Images | Tokens
    sha256: str
    provenance: Mapping[str, Any]
    chance_loss: float
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()
    natural: bool = False
    warnings: tuple[str, ...] = ()
    tokenizer: str = ""

    @property
    def unit(self) -> str:
        """What its examples are counted in: "images" or "tokens"."""
        return "images" if self.kind == "image" else "tokens"


@dataclass(frozen=True)
class Asked:
    """What a task is opened with.

    Attributes:
        name: of the task, "cifar10".
        rest: what follows the colon; empty where nothing does.
        image_size: pixels along each side; None for the images' own.
        tokenizer: as `reading.tokenizers.parse` reads it.
        tokens: how many to take from what is streamed; None for the task's own number.
        folder: the cache.
        on_progress: told what is being done.
    """

    name: str
    rest: str
    image_size: int | None
    tokenizer: str
    tokens: int | None
    folder: Path
    on_progress: Progress


@dataclass(frozen=True)
class TaskKind:
    """What the file of a task says of it, in its `TASKS`.

    Attributes:
        what: the examples are images, uint8 [n, height, width, channels] with labels, or text, one run of tokens.
        prepare: makes the arrays or takes them from the cache: `train.images`, `train.labels`, or `train.tokens`, and
            the same of `evaluation`; their facts are those that `opened` reads.
        of: what it is a task of, for the sentence that refuses an option.
        takes: the options beyond the limits that fit it.
        shown: its name in tables, from its own and what followed the colon.
    """

    what: Literal["image", "text"]
    prepare: Callable[[Asked], Arrays]
    of: str
    takes: tuple[str, ...]
    shown: Callable[[str, str], str] = lambda name, rest: name


def by_file(name: str, rest: str) -> str:
    """ "text:books.txt": the first file's or the folder's name alone, since a table has no room for paths."""
    return f"{name}:{Path(rest.partition(',')[0]).name}"
