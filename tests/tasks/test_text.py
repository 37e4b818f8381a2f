"""Text as tokens: every byte in one part, cut at boundaries, byte-pair encodings that are read back exactly."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.tasks import text
from laurel_cli.tasks.reading import textfiles
from laurel_cli.tasks.reading.cache import Arrays

BOOKS = Path(__file__).parents[3] / "shared" / "data"
LINES = "".join(f"Line {i}: the naïve café — number {i * i} 日本\n" + "\n" * (i % 10 == 0) for i in range(3000))


def prepare(reference: str, tmp_path: Path, tokenizer: str = "bytes") -> Arrays:
    (tmp_path / "cache").mkdir(exist_ok=True)
    return text.prepare(reference, tokenizer, tmp_path / "cache", lambda step: None)


def plain(arrays: Arrays, part: str) -> bytes:
    return arrays.arrays[f"{part}.tokens"].tobytes()


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz"])
def test_every_byte_in_one_part(tmp_path: Path, suffix: str) -> None:
    data = LINES.encode()
    opener = {"": open, ".xz": lzma.open, ".gz": gzip.open}[suffix]
    with opener(tmp_path / f"a.txt{suffix}", "wb") as file:
        file.write(data)
    arrays = prepare(f"text:{tmp_path}/a.txt{suffix}".removeprefix("text:"), tmp_path)
    assert plain(arrays, "train") + plain(arrays, "evaluation") == data
    assert plain(arrays, "train").endswith(b"\n\n")
    assert len(plain(arrays, "evaluation")) == pytest.approx(len(data) / 20, abs=1000)
    assert arrays.facts["provenance"]["train"]["bytes"] == len(plain(arrays, "train"))


def test_several_files_each_give_their_end(tmp_path: Path) -> None:
    texts = {name: "".join(f"{name} {i}\n" for i in range(1000)).encode() for name in "cab"}
    for name, data in texts.items():
        (tmp_path / f"{name}.txt").write_bytes(data)
    arrays = prepare(f"{tmp_path}/*.txt", tmp_path)
    train, evaluation = plain(arrays, "train"), plain(arrays, "evaluation")
    for data in texts.values():
        lines, ends = data.splitlines(), evaluation.splitlines()
        held = [line for line in lines if line in ends]
        assert held == lines[-len(held) :]
        assert 45 <= len(held) <= 55
        assert b"\n".join(lines[: -len(held)]) in train
    assert train.startswith(b"a 0\n")


def test_a_part_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).write_text(name * 50)
    for word in ("valid", "test"):
        arrays = prepare(f"{tmp_path}/one,{word}={tmp_path}/three,{tmp_path}/two", tmp_path)
        assert plain(arrays, "train") == b"one" * 50 + b"two" * 50
        assert plain(arrays, "evaluation") == b"three" * 50


@pytest.mark.parametrize("content", ["x" * 5000, "é" * 5000, "日" * 5001, "a\n" * 3, "🌲" * 999 + "\n"])
def test_cuts_without_boundaries(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a"
    path.write_text(content, encoding="utf-8")
    place = textfiles.cut(path, 0.05)
    data = path.read_bytes()
    assert data[:place].decode() + data[place:].decode() == content
    assert abs(place - len(data) * 0.95) <= 8


def test_blocks_are_whole_lines_and_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfiles, "BLOCK", 997)
    path = tmp_path / "a"
    path.write_text(LINES, encoding="utf-8")
    data = path.read_bytes()
    for start, end in ((0, None), (0, 5000), (5000, None), (996, 998), (997, 1994), (1, 100_000)):
        assert b"".join(textfiles.read(path, start, end)) == data[start:end]
    blocks = list(textfiles.read(path))
    assert len(blocks) > 50
    assert all(block.endswith(b"\n") for block in blocks)
    path.write_text("日本語" * 2000, encoding="utf-8")
    blocks = list(textfiles.read(path))
    assert "".join(block.decode() for block in blocks) == "日本語" * 2000
    assert len(blocks) > 5


def test_byte_pair_encoding(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    (tmp_path / "a.txt").write_text(LINES, encoding="utf-8")
    arrays = prepare(f"{tmp_path}/a.txt", tmp_path, "bpe:400")
    exact = prepare(f"{tmp_path}/a.txt", tmp_path)
    tokenizer = tokenizers.Tokenizer.from_str(arrays.arrays["tokenizer"].tobytes().decode())
    assert arrays.facts["vocabulary"] == 400
    assert arrays.arrays["train.tokens"].dtype == np.uint16
    for part in ("train", "evaluation"):
        tokens = arrays.arrays[f"{part}.tokens"]
        assert tokenizer.decode(tokens.tolist(), skip_special_tokens=False).encode() == plain(exact, part)
        assert len(tokens) < len(plain(exact, part)) / 1.5
        assert tokens.max() < 400


def test_an_encoding_is_learned_from_the_training_part_alone(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "train").write_text("abab cdcd\n" * 500)
    definitions = []
    for held in ("zyzyzyzy wvwvwvwv\n" * 500, "abab\n" * 500):
        (tmp_path / "valid").write_text(held)
        arrays = prepare(f"{tmp_path}/train,valid={tmp_path}/valid", tmp_path, "bpe:270")
        definitions.append(arrays.sha256["tokenizer"])
    assert definitions[0] == definitions[1]
    # And learned again in another cache it is the same.
    (tmp_path / "second").mkdir()
    assert prepare(f"{tmp_path}/train,valid={tmp_path}/valid", tmp_path / "second", "bpe:270").sha256 == arrays.sha256


def test_a_tokenizer_from_a_file(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "a.txt").write_text(LINES, encoding="utf-8")
    learned = prepare(f"{tmp_path}/a.txt", tmp_path, "bpe:300")
    (tmp_path / "own.json").write_bytes(learned.arrays["tokenizer"].tobytes())
    again = prepare(f"{tmp_path}/a.txt", tmp_path, str(tmp_path / "own.json"))
    assert again.sha256["train.tokens"] == learned.sha256["train.tokens"]
    (tmp_path / "own.json").write_text("{}")
    with pytest.raises(RecordError, match="no tokenizer"):
        prepare(f"{tmp_path}/a.txt", tmp_path, str(tmp_path / "own.json"))


def test_change_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a line\n" * 100)
    first = prepare(str(path), tmp_path)
    status = path.stat()
    path.write_text("a lime\n" * 100)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same time: the bytes decide
    assert prepare(str(path), tmp_path).sha256 != first.sha256
    path.unlink()
    with pytest.raises(RecordError, match="missing"):
        prepare(str(path), tmp_path)


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a line\n" * 100)
    (tmp_path / "copy.txt").write_text("a line\n" * 100)
    (tmp_path / "empty").write_text("")
    (tmp_path / "latin").write_bytes("naïve\n".encode("latin1") * 100)
    (tmp_path / "cut.xz").write_bytes(lzma.compress(LINES.encode())[:-500])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(LINES.encode())[:-500])
    for reference, error, words in (
        (f"valid={path}", UsageError, "no text to train on"),
        ("", UsageError, "no text to train on"),
        (f"{path},{path}", UsageError, "twice"),
        (f"{path},valid={path}", UsageError, "twice"),
        (f"{path},valid={tmp_path}/copy.txt", UsageError, "twice"),
        (f"{tmp_path}/*.none", RecordError, "missing"),
        (str(tmp_path), RecordError, "folder"),
        (f"{tmp_path}/empty", RecordError, "too little"),
        (f"{tmp_path}/cut.xz", RecordError, "cut.xz"),
        (f"{tmp_path}/cut.gz", RecordError, "cut.gz"),
    ):
        with pytest.raises(error, match=words):
            prepare(reference, tmp_path)
    for tokenizer, error, words in (
        ("byte", UsageError, "unknown"),
        ("bpe:x", UsageError, "unknown"),
        ("bpe:100", UsageError, "256"),
        ("none.json", RecordError, "cannot be read"),
    ):
        with pytest.raises(error, match=words):
            prepare(str(path), tmp_path, tokenizer)
    assert plain(prepare(f"{tmp_path}/latin", tmp_path), "train").startswith("naïve".encode("latin1"))
    with pytest.raises(RecordError, match="UTF-8"):
        prepare(f"{tmp_path}/latin", tmp_path, "bpe:300")


@pytest.mark.skipif(not (BOOKS / "books-valid.txt.xz").exists(), reason="the real books are not here")
def test_real_books(tmp_path: Path) -> None:
    arrays = prepare(str(BOOKS / "books-valid.txt.xz"), tmp_path)
    data = lzma.decompress((BOOKS / "books-valid.txt.xz").read_bytes())
    assert plain(arrays, "train") + plain(arrays, "evaluation") == data
    assert 1.5 < arrays.facts["entropy"] < 4


def test_a_small_file_that_unpacks_to_gigabytes_is_not_read_to_its_end(tmp_path: Path) -> None:
    part = gzip.compress(bytes(1 << 26))
    (tmp_path / "zeros.txt.gz").write_bytes(part * 64)  # 4 GiB in 4 MiB
    with pytest.raises(RecordError, match="out of proportion"):
        prepare(str(tmp_path / "zeros.txt.gz"), tmp_path)


def test_text_that_repeats_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"to be or not\n" * 1_000_000))  # 13 MB, some 400 times smaller
    assert prepare(str(tmp_path / "a.txt.gz"), tmp_path).facts["provenance"]["train"]["bytes"] > 12_000_000


def _replace(pattern: dict[str, str], content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": pattern, "content": content}


@pytest.mark.parametrize(
    "rules",
    [
        [_replace({"String": "a"}, "a" * 10_000)],
        [_replace({"String": "a"}, "aa")] * 40,
        [_replace({"Regex": "x*"}, "y")] * 40,
        [_replace({"Regex": "(?<n>a|b)"}, "ab")] * 40,
    ],
)
def test_a_tokenizer_that_writes_much_for_little_is_refused(tmp_path: Path, rules: list[object]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = json.loads(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")).to_str())
    (tmp_path / "t.json").write_text(json.dumps(made | {"normalizer": {"type": "Sequence", "normalizers": rules}}))
    (tmp_path / "a.txt").write_text("a ab abc\n" * 1000)
    tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))  # the package itself takes it
    with pytest.raises(RecordError, match="in place of one"):
        prepare(str(tmp_path / "a.txt"), tmp_path, str(tmp_path / "t.json"))


def test_the_rules_of_tokenizers_that_are_used_are_taken(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = json.loads(tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a")).to_str())
    quotes = [_replace({"String": mark}, '"') for mark in ("``", "''")] * 20
    spaces = [
        _replace({"Regex": " {2,}"}, " "),
        {"type": "Prepend", "prepend": "\u2581"},
        _replace({"String": " "}, "\u2581"),
    ]
    (tmp_path / "t.json").write_text(
        json.dumps(made | {"normalizer": {"type": "Sequence", "normalizers": quotes + spaces}})
    )
    (tmp_path / "a.txt").write_text("a ab abc\n" * 1000)
    assert prepare(str(tmp_path / "a.txt"), tmp_path, str(tmp_path / "t.json")).facts["vocabulary"] == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_sixteen_bit_text_is_no_text(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    (tmp_path / "a.txt").write_text(mark + LINES, encoding=encoding)
    with pytest.raises(RecordError, match="is UTF-16"):
        prepare(str(tmp_path / "a.txt"), tmp_path)
