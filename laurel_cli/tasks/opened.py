"""Prepared arrays as a task: what is trained on and evaluated on, the checksum, what a guess would lose."""

from __future__ import annotations

import numpy as np

from laurel_cli.errors import UsageError
from laurel_cli.records.canonical import sha256_of
from laurel_cli.tasks.base import Task
from laurel_cli.tasks.draws import key, permutation
from laurel_cli.tasks.examples import Images, Tokens
from laurel_cli.tasks.reading.cache import Arrays
from laurel_cli.tasks.reading.counting import Counts

SCHEMA = "laurel.task/1"


def of_images(
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


def of_text(
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
        tokenizer=bytes(arrays.arrays["tokenizer"]).decode() if "tokenizer" in arrays.arrays else "",
    )


def _checksum(arrays: Arrays, classes: int, **sizes: int) -> str:
    stored = {
        name: {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": arrays.sha256[name]}
        for name, array in arrays.arrays.items()
    }
    return sha256_of({"schema": SCHEMA, "classes": classes, "arrays": stored, **sizes})
