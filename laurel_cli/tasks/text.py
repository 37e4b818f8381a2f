"""Text files as tokens, with a part to evaluate on that is named or is the last twentieth of each file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from laurel_cli.errors import RecordError
from laurel_cli.tasks.base import Asked, TaskKind, by_file
from laurel_cli.tasks.reading import textfiles, tokenizers
from laurel_cli.tasks.reading.cache import Arrays, Progress, Writer, obtain
from laurel_cli.tasks.reading.counting import Counts
from laurel_cli.tasks.reading.textfiles import TextFile

VERSION = 1
SHARE = 0.05

Piece = tuple[Path, int, int | None]


def prepare(reference: str, tokenizer: str, folder: Path, on_progress: Progress) -> Arrays:
    """Arrays `train.tokens` and `evaluation.tokens`, [n] of the smallest type, and `tokenizer`, its JSON as bytes.

    Args:
        reference: files and globs separated by commas; `valid=FILE` or `test=FILE` is for evaluation.
        tokenizer: as `tokenizers.parse` reads it.
        folder: the cache.

    Raises:
        UsageError: nothing to train on, an unknown tokenizer.
        RecordError: a file is missing or broken, or has too little text.
    """
    files = textfiles.named(reference)
    choice = tokenizers.parse(tokenizer)
    what = {
        "kind": "text",
        "version": VERSION,
        "files": [[file.sha256, file.held, file.path.suffix] for file in files],
        "tokenizer": choice.identity,
    }

    def build(writer: Writer) -> dict[str, Any]:
        parts = _pieces(files, on_progress)
        name = files[0].path.name
        if choice.kind == "bpe":
            on_progress(f"learning a byte-pair encoding from {name}")
        encoder = tokenizers.encoder(choice, lambda: _sample(parts["train"]), name)
        counts, sizes = Counts(), dict[str, dict[str, int]]()
        for part, pieces in parts.items():
            writer.begin(f"{part}.tokens", encoder.dtype)
            size = sizes[part] = {"bytes": 0, "tokens": 0}
            for tokens in encoder.encode(_counted(_blocks(pieces), size)):
                writer.append(tokens)
                size["tokens"] += len(tokens)
                if part == "train":
                    counts.add(tokens)
                on_progress(f"reading {name}: {part}, {size['tokens']} tokens")
        if not all(size["tokens"] for size in sizes.values()):
            raise RecordError(f"{name!r} has too little text.", "One part is empty.", "Add text, or valid=FILE.")
        if not encoder.exact():
            sizes["evaluation"]["exact"] = False
        writer.put("tokenizer", np.frombuffer(encoder.definition.encode(), np.uint8))
        held = any(file.held for file in files)
        return {
            "vocabulary": encoder.vocabulary,
            "entropy": counts.entropy(),
            "provenance": {
                "title": name,
                "source": [{"file": file.path.name, "sha256": file.sha256, "held": file.held} for file in files],
                "split": "files of their own"
                if held
                else "the last twentieth of each file, cut at an empty line or a line",
                "tokenizer": choice.identity,
                **sizes,
            },
        }

    return obtain(folder, "text", what, build, on_progress)


def _pieces(files: list[TextFile], on_progress: Progress) -> dict[str, list[Piece]]:
    """Which bytes of which files belong to which part."""
    held = [file for file in files if file.held]
    train = [file for file in files if not file.held]
    if held:
        return {
            "train": [(file.path, 0, None) for file in train],
            "evaluation": [(file.path, 0, None) for file in held],
        }
    on_progress("looking where to cut the text")
    cuts = [(file.path, textfiles.cut(file.path, SHARE)) for file in train]
    return {
        "train": [(path, 0, place) for path, place in cuts],
        "evaluation": [(path, place, None) for path, place in cuts],
    }


def _sample(pieces: list[Piece]) -> Iterator[bytes]:
    """Blocks for a byte-pair encoding to learn from: all of them, or evenly spread ones of a large text."""
    size = sum(map(len, _blocks(pieces)))
    return islice(_blocks(pieces), 0, None, max(1, size // tokenizers.LEARN_FROM))


def _blocks(pieces: list[Piece]) -> Iterator[bytes]:
    return (block for piece in pieces for block in textfiles.read(*piece))


def _counted(blocks: Iterator[bytes], size: dict[str, int]) -> Iterator[bytes]:
    for block in blocks:
        size["bytes"] += len(block)
        yield block


def _open(asked: Asked) -> Arrays:
    return prepare(asked.rest, asked.tokenizer, asked.folder, asked.on_progress)


TASKS = {"text": TaskKind("text", _open, "local text files", ("seq_len", "tokenizer"), by_file)}
