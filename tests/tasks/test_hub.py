"""Datasets streamed into a token file, tried on local ones that `datasets` loads through the same function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laurel_cli.errors import RecordError, ResourceError, UsageError
from laurel_cli.tasks import hub
from laurel_cli.tasks.reading.cache import Arrays

DOCUMENTS = [f"Document {i}: " + f"some words number {i % 7}. " * (i % 5 + 1) for i in range(400)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "data").mkdir()
    lines = [json.dumps({"text": document, "number": i}) for i, document in enumerate(DOCUMENTS)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def prepare(reference: str, place: Path, tokens: int | None = None, tokenizer: str = "bytes") -> Arrays:
    pytest.importorskip("datasets")
    return hub.prepare(reference, tokenizer, tokens, place.parent / "cache", lambda step: None)


@pytest.mark.parametrize("form", ["{place}", "json,data_files={place}/train.jsonl"])
def test_documents_become_tokens(place: Path, form: str) -> None:
    arrays = prepare(form.format(place=place), place)
    train = [d for d in DOCUMENTS if not hub.is_held(d.encode())]
    held = [d for d in DOCUMENTS if hub.is_held(d.encode())]
    assert arrays.arrays["train.tokens"].tobytes().decode() == "".join(f"{d}\n" for d in train)
    assert arrays.arrays["evaluation.tokens"].tobytes().decode() == "".join(f"{d}\n" for d in held)
    assert 5 <= len(held) <= 45
    assert arrays.facts["provenance"]["documents"] == {"train": len(train), "evaluation": len(held)}


def test_as_many_tokens_as_asked_for(place: Path) -> None:
    whole = prepare(str(place), place)
    some = prepare(str(place), place, tokens=6000)
    assert len(some.arrays["train.tokens"]) == 6000
    assert whole.arrays["train.tokens"][:6000].tobytes() == some.arrays["train.tokens"].tobytes()


def test_byte_pairs(place: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    arrays = prepare(str(place), place, tokenizer="bpe:300")
    exact = prepare(str(place), place)
    tokenizer = tokenizers.Tokenizer.from_str(arrays.arrays["tokenizer"].tobytes().decode())
    decoded = tokenizer.decode(arrays.arrays["train.tokens"].tolist(), skip_special_tokens=False)
    assert decoded.encode() == exact.arrays["train.tokens"].tobytes()
    held = arrays.facts["provenance"]["evaluation"]
    assert held["bytes"] == len(exact.arrays["evaluation.tokens"])
    assert held["tokens"] == len(arrays.arrays["evaluation.tokens"])


def test_change_is_noticed(place: Path) -> None:
    first = prepare(str(place), place)
    with (place / "train.jsonl").open("a") as file:
        file.write(json.dumps({"text": "one more", "number": 1}) + "\n")
    assert prepare(str(place), place).path != first.path


def test_what_is_refused(place: Path) -> None:
    (place.parent / "empty").mkdir()
    for reference, error, words in (
        (f"{place},column=number", UsageError, "no text in column"),
        (f"{place},column=nothing", UsageError, "no text in column"),
        (f"{place},split=nothing", UsageError, "nothing"),
        (f"{place},color=red", UsageError, "color"),
        (str(place.parent / "none"), RecordError, "missing"),
        (str(place.parent / "empty"), RecordError, "empty"),
    ):
        with pytest.raises(error, match=words):
            prepare(reference, place)


def test_without_network(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def offline(*args: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ResourceError, match="network"):
        prepare(hub.KNOWN["c4"], place)


def test_known_names() -> None:
    for reference in hub.KNOWN.values():
        dataset = hub.parse(reference)
        assert (dataset.split, dataset.column) == ("train", "text")
        assert dataset.options["name"]
