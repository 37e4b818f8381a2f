"""Datasets through Hugging Face's `datasets`: streamed once into a local token file, as many tokens as asked for."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from laurel_cli.errors import LaurelError, RecordError, ResourceError, UsageError
from laurel_cli.tasks.base import Asked, TaskKind
from laurel_cli.tasks.reading import tokenizers
from laurel_cli.tasks.reading.cache import Arrays, Progress, Writer, obtain
from laurel_cli.tasks.reading.counting import Counts
from laurel_cli.tasks.reading.places import located, missing
from laurel_cli.tasks.reading.sources import open_source

VERSION = 2
DEFAULT_TOKENS = 20_000_000
KNOWN = {"c4": "allenai/c4,name=en", "fineweb": "HuggingFaceFW/fineweb,name=sample-10BT"}

_FIELDS = ("name", "split", "column", "revision", "data_files", "data_dir")
_HELD_OF = 20  # one document in so many is for evaluation
_LOADERS = ("json", "text", "csv", "parquet", "arrow")


@dataclass(frozen=True)
class Dataset:
    """What to load: a hub id, a local folder, or one of datasets' own loaders with `data_files`."""

    path: str
    split: str
    column: str
    options: dict[str, str]

    @property
    def place(self) -> str:
        """The local folder, where there is one of that name, else the name as the hub has it."""
        folder = located(self.path)
        return str(folder) if self.path not in _LOADERS and folder.is_dir() else self.path

    @property
    def arguments(self) -> dict[str, str]:
        """For `load_dataset`."""
        files = self.options.get("data_files")
        return self.options | ({"data_files": str(located(files))} if files else {})


def parse(reference: str) -> Dataset:
    """Read "ORG/NAME,name=en,split=train,column=text,revision=main", or "json,data_files=a.jsonl".

    Raises:
        UsageError: an unknown field.
    """
    path, *fields = reference.split(",")
    options: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if name not in _FIELDS or not equals or not value:
            raise UsageError(
                f"{field!r} in hf:{reference} is unknown.", f"There are {', '.join(_FIELDS)}.", "Try name=en."
            )
        options[name] = value
    return Dataset(path, options.pop("split", "train"), options.pop("column", "text"), options)


def prepare(reference: str, tokenizer: str, tokens: int | None, folder: Path, on_progress: Progress) -> Arrays:
    """Arrays as in `text.prepare`; a document's own SHA-256 decides whether it is for evaluation, one in twenty.

    What came over the network is kept and never fetched again by itself: another day it might be other text.

    Args:
        reference: as `parse` reads it.
        tokenizer: as `tokenizers.parse` reads it; "bpe" is learned from the first documents to train on.
        tokens: to train on, `DEFAULT_TOKENS` for None; fewer where the dataset ends.
        folder: the cache.

    Raises:
        UsageError: no such dataset, configuration, split or column.
        RecordError: local data that is missing; the token file is damaged.
        ResourceError: the datasets package is missing, or the network.
    """
    dataset, choice = parse(reference), tokenizers.parse(tokenizer)
    wanted = DEFAULT_TOKENS if tokens is None else tokens
    stamps = _local_stamps(dataset)
    what = {
        "kind": "hf",
        "version": VERSION,
        "dataset": [dataset.path, dataset.split, dataset.column, dataset.options],
        "local": stamps,
        "tokenizer": choice.identity,
        "tokens": wanted,
    }

    def build(writer: Writer) -> dict[str, Any]:
        on_progress(f"opening {dataset.path}")
        documents = _documents(dataset)
        learned: list[bytes] = []
        if choice.kind == "bpe":
            learned = _first(documents, tokenizers.LEARN_FROM)
            on_progress("learning a byte-pair encoding")
        encoder = tokenizers.encoder(choice, lambda: (text for text in learned if not is_held(text)), dataset.path)
        with tempfile.TemporaryFile(dir=folder) as spool:
            counts, read, held = _encode(
                chain(learned, documents), encoder, wanted, writer, cast("BinaryIO", spool), on_progress
            )
        writer.put("tokenizer", np.frombuffer(encoder.definition.encode(), np.uint8))
        return {
            "vocabulary": encoder.vocabulary,
            "entropy": counts.entropy(),
            "provenance": {
                "title": dataset.path,
                "source": {
                    "dataset": dataset.path,
                    "split": dataset.split,
                    "column": dataset.column,
                    **dataset.options,
                },
                "loader": f"datasets {_package().__version__}",
                "split": "by document: its SHA-256, one in twenty for evaluation",
                "tokenizer": choice.identity,
                "documents": read,
                "evaluation": held if encoder.exact() else {**held, "exact": False},
            },
        }

    return obtain(folder, "hf", what, build, on_progress, rebuild=bool(stamps))


def is_held(document: bytes) -> bool:
    """Whether a document is for evaluation; equal documents are in one part."""
    return int.from_bytes(hashlib.sha256(document).digest()[:8], "little") % _HELD_OF == 0


def _encode(
    documents: Iterator[bytes],
    encoder: tokenizers.Encoder,
    wanted: int,
    writer: Writer,
    spool: BinaryIO,
    on_progress: Progress,
) -> tuple[Counts, dict[str, int], dict[str, int]]:
    """Write both token arrays; those for evaluation wait in `spool`, since arrays are written one after the other.

    Returns:
        Frequencies of the tokens to train on; documents of each part; bytes and tokens of the part to evaluate on.
    """
    counts, read, done = Counts(), {"train": 0, "evaluation": 0}, 0
    held = {"bytes": 0, "tokens": 0}
    writer.begin("train.tokens", encoder.dtype)
    for document in documents:
        (tokens,) = encoder.encode([document + b"\n"])
        if is_held(document):
            spool.write(tokens.tobytes())
            read["evaluation"] += 1
            held["bytes"] += len(document) + 1
            held["tokens"] += len(tokens)
            continue
        tokens = tokens[: wanted - done]
        writer.append(tokens)
        counts.add(tokens)
        read["train"] += 1
        done += len(tokens)
        on_progress(f"streaming: {done} of {wanted} tokens")
        if done >= wanted and read["evaluation"]:
            break
    if not all(read.values()):
        raise RecordError(
            "The dataset has too few documents.",
            f"{read['train']} are to train on and {read['evaluation']} to evaluate on.",
            "Name a larger one.",
        )
    writer.begin("evaluation.tokens", encoder.dtype)
    spool.seek(0)
    while data := spool.read(1 << 20):
        writer.append(np.frombuffer(data, encoder.dtype))
    return counts, read, held


def _documents(dataset: Dataset) -> Iterator[bytes]:
    """The texts of a streamed dataset, empty ones left out."""
    rows = _guarded(
        dataset,
        lambda: iter(_package().load_dataset(dataset.place, split=dataset.split, streaming=True, **dataset.arguments)),
    )
    while (row := _guarded(dataset, lambda: next(rows, None))) is not None:
        text = row.get(dataset.column)
        if not isinstance(text, str):
            raise UsageError(
                f"{dataset.path} has no text in column {dataset.column!r}.",
                f"It has {', '.join(map(str, row))}.",
                f"Try hf:{dataset.path},column={next(iter(row))}.",
            )
        if text:
            yield text.encode("utf-8", "replace")


def _guarded(dataset: Dataset, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (LaurelError, KeyboardInterrupt):
        raise
    except ValueError as error:  # an unknown configuration or split
        raise UsageError(f"{dataset.path!r} cannot be loaded.", _first_line(error), "Add name= or split=.") from error
    except (ConnectionError, TimeoutError) as error:
        raise ResourceError(
            f"{dataset.path!r} cannot be fetched.", _first_line(error), "Check the network, or name a local folder."
        ) from error
    except Exception as error:
        raise RecordError(f"{dataset.path!r} cannot be read.", _first_line(error), "Check its name.") from error


def _first(documents: Iterator[bytes], size: int) -> list[bytes]:
    """Documents of `size` bytes together, or all."""
    taken: list[bytes] = []
    total = 0
    for document in documents:
        taken.append(document)
        total += len(document)
        if total >= size:
            break
    return taken


def _local_stamps(dataset: Dataset) -> list[str]:
    """What changes where a local dataset changes; empty for one on the hub."""
    if dataset.path in _LOADERS and "data_files" in dataset.options:
        return [open_source(str(Path(dataset.arguments["data_files"]).parent)).stamp]
    if Path(dataset.place).is_dir():
        return [open_source(dataset.place).stamp]
    if dataset.path.startswith((".", "/", "~")):
        raise missing(dataset.path)
    return []


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')[:200]}."


def _package() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ResourceError(
            "The datasets package is missing.", f"{error}.", "Try pip install 'laurel-cli[data]'."
        ) from error
    return datasets


def _open(asked: Asked) -> Arrays:
    dataset = asked.rest or KNOWN[asked.name]
    return prepare(dataset, asked.tokenizer, asked.tokens, asked.folder, asked.on_progress)


_OPTIONS = ("seq_len", "tokenizer", "tokens")
TASKS = {
    **dict.fromkeys(KNOWN, TaskKind("text", _open, "text", _OPTIONS)),
    "hf": TaskKind("text", _open, "text", _OPTIONS, lambda name, rest: f"{name}:{rest}"),
}
