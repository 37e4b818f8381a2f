"""Bits per byte: a guess among V tokens takes log2 V bits a token, whatever V; a byte at a time, its loss over ln 2."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from laurel_cli.tasks import text
from laurel_cli.tasks.reading.tokenizers import of_bytes
from laurel_cli.verdict.bits import bits_per_byte, tokens_per_byte
from laurel_cli.verdict.document import document

from .studies import arm, controlled

LINES = "".join(f"Line {i}: the naïve café number {i * i}\n" for i in range(2000))


def described(tmp_path: Path, tokenizer: str) -> tuple[dict, int]:
    """(the task as a record describes it, its tokens to evaluate on)."""
    (tmp_path / "held.txt").write_text(LINES[:20_000])
    (tmp_path / "read.txt").write_text(LINES)
    (tmp_path / "cache").mkdir(exist_ok=True)
    reference = f"{tmp_path}/read.txt,valid={tmp_path}/held.txt"
    arrays = text.prepare(reference, tokenizer, tmp_path / "cache", lambda step: None)
    task = {"name": "text:read.txt", "kind": "text", "provenance": arrays.facts["provenance"]}
    return task, len(arrays.arrays["evaluation.tokens"])


@pytest.mark.parametrize("vocabulary", [300, 500])
def test_bits_of_a_guess_among_all_tokens(tmp_path: Path, vocabulary: int) -> None:
    pytest.importorskip("tokenizers")
    task, tokens = described(tmp_path, f"bpe:{vocabulary}")
    found = tokens_per_byte(task)
    assert found is not None
    held = len(LINES[:20_000].encode())
    assert 0 < tokens < held
    # All of the text takes tokens * log2 V bits.
    assert bits_per_byte(math.log(vocabulary), found) * held == pytest.approx(tokens * math.log2(vocabulary))


def test_a_byte_is_one_token(tmp_path: Path) -> None:
    task, _ = described(tmp_path, "bytes")
    assert tokens_per_byte(task) == 1
    assert tokens_per_byte({"name": "stdlib", "kind": "text", "provenance": {}}) == 1
    assert bits_per_byte(math.log(256), 1) == pytest.approx(8)


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    task, _ = described(tmp_path, "bpe:300")
    del task["provenance"]["evaluation"]
    assert tokens_per_byte(task) is None
    assert tokens_per_byte({"name": "digits", "kind": "image"}) is None
    defined, trials = controlled({"rw": 0.0})
    said = document(defined, trials)
    assert arm(said, "rw")["bits_per_byte"] is None
    assert not any("bits per byte" in note for note in said["notes"])


@pytest.mark.parametrize("change", ["lower case", "as it is"])
def test_a_tokenizer_that_loses_text_has_no_bits_per_byte(tmp_path: Path, change: str) -> None:
    """Of text in lower case alone a model predicts less than the bytes hold."""
    tokenizers = pytest.importorskip("tokenizers")
    own = tokenizers.Tokenizer.from_str(of_bytes())
    if change == "lower case":
        own.normalizer = tokenizers.normalizers.Lowercase()
    own.save(str(tmp_path / "own.json"))
    task, _ = described(tmp_path, str(tmp_path / "own.json"))
    assert (tokens_per_byte(task) is None) == (change == "lower case")
    if change == "as it is":
        assert tokens_per_byte(task) == 1
    defined, trials = controlled({"rw": 0.0})
    for item in trials:
        item["task"] = task
    said = document(defined, trials)
    notes = [note for note in said["notes"] if "bits per byte" in note]
    assert [note.startswith("no bits per byte") for note in notes] == [change == "lower case"]


def test_it_stands_beside_the_loss() -> None:
    defined, trials = controlled({"rw": 0.0})
    for item in trials:
        item["task"] = {"name": "stdlib", "kind": "text", "provenance": {}}
    said = document(defined, trials)
    found = arm(said, "rw")
    assert found["bits_per_byte"]["mean"] == pytest.approx(found["mean"] / math.log(2))
    assert found["bits_per_byte"]["high"] == pytest.approx(found["high"] / math.log(2))
    assert any("bits per byte" in note for note in said["notes"])
