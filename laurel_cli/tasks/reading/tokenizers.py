"""How text becomes tokens: its bytes, or byte-pair encoding from the tokenizers package."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from laurel_cli.errors import RecordError, ResourceError, UsageError
from laurel_cli.tasks.reading.places import located
from laurel_cli.tasks.reading.sources import file_hash
from laurel_cli.text import whole_number

DEFAULT_VOCABULARY = 8192
LEARN_FROM = 1 << 25  # bytes of text that a byte-pair encoding is learned from, taken evenly from all of it
SMALLEST = 256 + 1
LARGEST = 1 << 28  # bytes of a tokenizer file
GROWTH = 4096  # characters that its rules may write for one: published ones have some three rules of two characters
_GROUP = 8  # blocks; an encoding takes some hundred bytes a token while it is in the package's hands
CHECKED = 1 << 20  # characters of what is encoded that are decoded again

Blocks = Iterable[bytes]


@dataclass(frozen=True)
class Choice:
    """Which tokenizer is asked for, before any text is seen.

    Attributes:
        kind: "bytes", "bpe" (to be learned) or "file".
        vocabulary: how many tokens "bpe" may have.
        path: of "file".
        identity: plain JSON that decides the tokens, given the text.
    """

    kind: str
    vocabulary: int
    path: Path | None
    identity: dict[str, Any]


@dataclass(frozen=True)
class Encoder:
    """Turns text into tokens.

    Attributes:
        vocabulary: one more than the largest token.
        encode: from blocks of bytes to arrays of tokens, in `dtype`.
        dtype: the smallest that holds the vocabulary: "u1", "u2" or "u4".
        definition: the tokenizer's own JSON, "" for bytes.
        exact: whether decoding gave back what was encoded so far, as far as it was looked at.
    """

    vocabulary: int
    encode: Callable[[Blocks], Iterator[np.ndarray]]
    dtype: str
    definition: str = ""
    exact: Callable[[], bool] = lambda: True


def parse(text: str) -> Choice:
    """Read "bytes", "bpe", "bpe:4096" or "FILE.json".

    Raises:
        UsageError: none of these.
        RecordError: the file is missing.
        ResourceError: the tokenizers package is not installed.
    """
    kind, _, rest = text.partition(":")
    if text == "bytes":
        return Choice("bytes", 256, None, {"kind": "bytes"})
    if text.endswith(".json"):
        path = located(text)
        return Choice("file", 0, path, {"kind": "file", "sha256": file_hash(path), "version": _package().__version__})
    vocabulary = whole_number(rest) if rest else DEFAULT_VOCABULARY
    if kind != "bpe" or vocabulary is None:
        raise UsageError(
            f"Tokenizer {text!r} is unknown.", "There are bytes, bpe, bpe:N and FILE.json.", "Try bpe:8192."
        )
    if not SMALLEST <= vocabulary <= 1 << 24:
        raise UsageError(
            f"A vocabulary of {vocabulary} is no byte-pair encoding.", "Bytes alone are 256 tokens.", "Try bpe:8192."
        )
    return Choice("bpe", vocabulary, None, {"kind": "bpe", "size": vocabulary, "version": _package().__version__})


def encoder(choice: Choice, text: Callable[[], Blocks], name: str) -> Encoder:
    """The encoder of a choice; "bpe" is learned from `text`, which must hold nothing to evaluate on.

    Args:
        text: gives blocks of UTF-8 that end at the end of a line.
        name: what is read, for an error.

    Raises:
        RecordError: the text is not UTF-8, or the file is no tokenizer.
    """
    if choice.kind == "bytes":
        return Encoder(256, lambda blocks: (np.frombuffer(block, np.uint8) for block in blocks), "u1")
    if choice.path is not None:
        try:
            _refuse_growth(choice.path)
            tokenizer = _package().Tokenizer.from_file(str(choice.path))
        except RecordError:
            raise
        except Exception as error:  # the package raises no other
            raise RecordError(f"{str(choice.path)!r} is no tokenizer.", f"{error}.") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
    else:
        tokenizer = _learned(choice.vocabulary, _decoded(text(), name))
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    dtype = "u2" if vocabulary <= 1 << 16 else "u4"
    seen = {"characters": 0, "apart": 0}

    def encode(blocks: Blocks) -> Iterator[np.ndarray]:
        texts = _decoded(blocks, name)
        while group := list(islice(texts, _GROUP)):  # encoded by all processors
            found = tokenizer.encode_batch_fast(group, add_special_tokens=False)
            for one, encoded in zip(group, found, strict=True):
                if choice.kind == "file" and seen["characters"] < CHECKED:  # one that is learned here is exact
                    seen["characters"] += len(one)
                    seen["apart"] += tokenizer.decode(encoded.ids, skip_special_tokens=False) != one
                yield np.array(encoded.ids, dtype)

    return Encoder(vocabulary, encode, dtype, tokenizer.to_str(), lambda: not seen["apart"])


def of_bytes() -> str:
    """The JSON of a tokenizer whose tokens are the bytes of a text, each the token of its number.

    "" where the tokenizers package, which reads it, is not installed.
    """
    try:
        package = _package()
    except ResourceError:
        return ""
    from tokenizers import decoders, models, pre_tokenizers

    # The package writes byte b as a letter: the byte's own where it can be seen, else one from 256 on, in order.
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in seen]
    letters = {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
    tokenizer = package.Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    written: str = tokenizer.to_str()
    return written


def _refuse_growth(path: Path) -> None:
    """See that no rule of a tokenizer file makes long text of short: a chain of them fills any memory.

    Raises:
        RecordError: it is too large a file, or its rules together may write more than `GROWTH` characters for one.
    """
    if path.stat().st_size > LARGEST:
        raise RecordError(f"{str(path)!r} is too large a tokenizer.", f"It has more than {LARGEST >> 20} MiB.")
    growth = 1
    waiting = [json.loads(path.read_bytes())]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("type") in ("Replace", "Prepend"):
                growth = min(growth * _written(value), 1 << 40)
            waiting += [inner for name, inner in value.items() if name not in ("vocab", "merges", "decoder")]
        elif isinstance(value, list):
            waiting += value
    if growth > GROWTH:
        raise RecordError(
            f"{str(path)!r} is no tokenizer that is used.",
            f"Its rules may write {growth:,} characters or more in place of one.",
            "Look at its normalizer.",
        )


def _written(rule: dict[str, Any]) -> int:
    """How many characters a rule may write in place of one."""
    written = len(str(rule.get("content", "")))
    pattern = rule.get("pattern")
    if rule["type"] == "Prepend" or not isinstance(pattern, dict):
        return 1 + len(str(rule.get("prepend", "")))
    if isinstance(pattern.get("String"), str) and pattern["String"]:
        return max(1, -(-written // len(pattern["String"])))
    try:
        empty = re.search(str(pattern.get("Regex", "")), "") is not None
    except re.error:  # a form that Python does not have
        empty = True
    return max(1, written + empty)


def _learned(vocabulary: int, text: Iterable[str]) -> Any:
    """A byte-pair encoding on bytes, as GPT-2's: any text can be written in it, and read back exactly."""
    package = _package()
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = package.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


def _decoded(blocks: Blocks, name: str) -> Iterator[str]:
    for block in blocks:
        try:
            yield block.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RecordError(
                f"{name!r} is not UTF-8.",
                f"Byte {error.object[error.start]:#04x} cannot stand where it does.",
                "Save it as UTF-8, or train on its bytes: `tokenizer='bytes'`.",
            ) from error


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ResourceError(
            "The tokenizers package is missing.", f"{error}.", "Try pip install 'laurel-cli[llm]'."
        ) from error
    return tokenizers
