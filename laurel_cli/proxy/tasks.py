"""What is trained on: a reference becomes examples with a fixed split, a checksum and where they come from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.proxy.data.cache import Arrays, Progress
from laurel_cli.proxy.data.counting import Counts
from laurel_cli.proxy.data.places import cache_folder
from laurel_cli.proxy.draws import key, permutation
from laurel_cli.proxy.examples import Images, Tokens
from laurel_cli.records.store import sha256_of

SCHEMA = "laurel.task/1"
DEFAULT_SEQ_LEN = 128
# What can be typed, and whether something follows the colon.
_IMAGE_KINDS = {"scenes": "", "imagefolder": "DIR", "cifar10": "DIR", "cifar100": "DIR", "imagenet": "DIR"}
_TEXT_KINDS = {"stdlib": "", "text": "FILE", "hf": "DATASET", "c4": "", "fineweb": ""}


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


def is_text(reference: str) -> bool:
    """Whether a reference names a task of text."""
    return reference.partition(":")[0] in _TEXT_KINDS


def names() -> tuple[str, ...]:
    """What `open_task` takes: "scenes", "imagefolder:DIR", ..."""
    return tuple(f"{kind}:{rest}" if rest else kind for kind, rest in (_IMAGE_KINDS | _TEXT_KINDS).items())


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
    kind, rest = _parsed(reference)
    for option, value in {
        "image_size": image_size,
        "seq_len": seq_len,
        "tokens": tokens,
        "train_limit": train_limit,
        "evaluation_limit": evaluation_limit,
    }.items():
        if value is not None and value < 1:
            raise UsageError(f"`{option}={value}` is too small.", hint=f"Try `{option}=128`.")
    folder, warning = cache_folder(cache)
    warnings = (warning,) if warning else ()
    if kind in _IMAGE_KINDS:
        _refuse(kind, "images", {"seq_len": seq_len, "tokens": tokens, "tokenizer": tokenizer != "bytes"})
        arrays = _image_arrays(kind, rest, image_size, folder, on_progress)
        task = _image_task(_name(kind, rest), arrays, train_limit, evaluation_limit, warnings)
    else:
        _refuse(kind, "text", {"image_size": image_size})
        arrays = _text_arrays(kind, rest, tokenizer, tokens, folder, on_progress)
        length = DEFAULT_SEQ_LEN if seq_len is None else seq_len
        task = _text_task(_name(kind, rest), arrays, length, train_limit, evaluation_limit, warnings)
    if expected is not None and task.sha256 != expected:
        raise RecordError(
            f"The data of {reference!r} has been changed.",
            f"Its checksum is {task.sha256[:16]}, not {expected[:16]}.",
            "Bring the old data back, or start another study.",
        )
    return task


def _parsed(reference: str) -> tuple[str, str]:
    kind, _, rest = reference.partition(":")
    kinds = _IMAGE_KINDS | _TEXT_KINDS
    if kind not in kinds:
        raise UsageError(f"Task {reference!r} is unknown.", f"There are {', '.join(names())}.", _guess(reference))
    if bool(kinds[kind]) != bool(rest):
        why = "It has no further part." if not kinds[kind] else "It lacks what to read."
        raise UsageError(
            f"Task {reference!r} is incomplete or too long.", why, f"Try {kind}:{kinds[kind]}".rstrip(":") + "."
        )
    return kind, rest


def _guess(reference: str) -> str:
    path = Path(reference).expanduser()
    if path.is_dir():
        return f"Did you mean imagefolder:{reference}?"
    if path.is_file():
        return f"Did you mean text:{reference}?"
    close = difflib.get_close_matches(reference.partition(":")[0].lower(), _IMAGE_KINDS | _TEXT_KINDS, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else "Try `task='scenes'`."


def _refuse(kind: str, what: str, options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if value:
            raise UsageError(f"`{option}` does not fit {kind}.", f"That is a task of {what}.", f"Leave `{option}` out.")


def _name(kind: str, rest: str) -> str:
    if kind not in ("imagefolder", "text", "hf"):
        return kind
    return f"{kind}:{rest if kind == 'hf' else Path(rest.partition(',')[0]).name}"


def _image_arrays(kind: str, rest: str, size: int | None, folder: Path, on_progress: Progress) -> Arrays:
    if kind == "scenes":
        from laurel_cli.proxy.data import scenes

        if size not in (None, scenes.SIZE):
            raise UsageError(f"`image_size={size}` does not fit scenes.", "They are composed at 32.", "Leave it out.")
        return scenes.prepare(folder, on_progress)
    if kind == "imagefolder":
        from laurel_cli.proxy.data import images

        return images.prepare(rest, images.Preparation(size=size), folder, on_progress)
    if kind == "imagenet":
        from laurel_cli.proxy.data import imagenet

        return imagenet.prepare(rest, folder, on_progress, size=size)
    from laurel_cli.proxy.data import cifar

    return cifar.prepare(kind, rest, folder, on_progress, size=size)


def _text_arrays(
    kind: str, rest: str, tokenizer: str, tokens: int | None, folder: Path, on_progress: Progress
) -> Arrays:
    if kind == "stdlib":
        from laurel_cli.proxy.data import stdlib

        _refuse(kind, "bytes", {"tokenizer": tokenizer != "bytes", "tokens": tokens})
        return stdlib.prepare(folder, on_progress)
    if kind == "text":
        from laurel_cli.proxy.data import text

        _refuse(kind, "local files", {"tokens": tokens})
        return text.prepare(rest, tokenizer, folder, on_progress)
    from laurel_cli.proxy.data import hub

    return hub.prepare(rest or hub.KNOWN[kind], tokenizer, tokens, folder, on_progress)


def _image_task(
    name: str, arrays: Arrays, train_limit: int | None, evaluation_limit: int | None, warnings: tuple[str, ...]
) -> Task:
    train, evaluation = (
        _limited(Images(arrays.arrays[f"{part}.images"], arrays.arrays[f"{part}.labels"]), part, limit)
        for part, limit in (("train", train_limit), ("evaluation", evaluation_limit))
    )
    counts = Counts()
    counts.add(train.labels if train.chosen is None else train.labels[train.chosen])
    facts = arrays.facts
    return Task(
        name=name,
        kind="image",
        classes=len(facts["classes"]),
        train=train,
        evaluation=evaluation,
        sha256=_checksum(arrays, len(facts["classes"]), train=len(train), evaluation=len(evaluation)),
        provenance=facts["provenance"],
        chance_loss=counts.entropy(),
        mean=tuple(facts["mean"]),
        sd=tuple(facts["sd"]),
        natural=facts["natural"],
        warnings=warnings,
    )


def _limited(images: Images, part: str, limit: int | None) -> Images:
    """A fixed random choice: the stored ones may be sorted by class."""
    if limit is None or limit >= len(images):
        return images
    return Images(images.pixels, images.labels, np.sort(permutation(key("limit", part), len(images))[:limit]))


def _text_task(
    name: str,
    arrays: Arrays,
    seq_len: int,
    train_limit: int | None,
    evaluation_limit: int | None,
    warnings: tuple[str, ...],
) -> Task:
    ids, held = arrays.arrays["train.tokens"][:train_limit], arrays.arrays["evaluation.tokens"]
    windows = (len(held) - 1) // seq_len
    wanted = windows if evaluation_limit is None else min(windows, max(1, evaluation_limit // seq_len))
    if len(ids) <= seq_len or windows < 1:
        raise UsageError(
            f"{name} is too short for windows of {seq_len} tokens.",
            f"It has {len(ids)} tokens to train on and {len(held)} to evaluate on.",
            f"Try `seq_len={max(1, min(len(ids), len(held)) // 4)}`.",
        )
    entropy = arrays.facts["entropy"]
    if len(ids) < len(arrays.arrays["train.tokens"]):
        counts = Counts()
        counts.add(ids)
        entropy = counts.entropy()
    return Task(
        name=name,
        kind="text",
        classes=arrays.facts["vocabulary"],
        train=Tokens(ids, seq_len, np.zeros(0, np.int64)),
        evaluation=Tokens(held, seq_len, np.arange(wanted) * windows // wanted * seq_len),
        sha256=_checksum(arrays, arrays.facts["vocabulary"], seq_len=seq_len, train=len(ids), evaluation=wanted),
        provenance=arrays.facts["provenance"],
        chance_loss=entropy,
        warnings=warnings,
    )


def _checksum(arrays: Arrays, classes: int, **sizes: int) -> str:
    stored = {
        name: {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": arrays.sha256[name]}
        for name, array in arrays.arrays.items()
    }
    return sha256_of({"schema": SCHEMA, "classes": classes, "arrays": stored, **sizes})
