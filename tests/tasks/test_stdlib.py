"""The standard library as text: read exactly, split by module, each package in one part."""

from __future__ import annotations

import json
import math
import platform
from collections import Counter
from pathlib import Path

import pytest

from laurel_cli.errors import RecordError
from laurel_cli.tasks import stdlib
from laurel_cli.tasks.reading.cache import Arrays


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    return stdlib.prepare(tmp_path_factory.mktemp("cache"), lambda step: None)


def test_every_byte_is_there(prepared: Arrays) -> None:
    text = {part: prepared.arrays[f"{part}.tokens"].tobytes() for part in ("train", "evaluation")}
    for module in (json.decoder, json, platform, math):
        if getattr(module, "__file__", "").endswith(".py"):
            source = Path(module.__file__).read_bytes()
            assert [source in text[part] for part in text].count(True) == 1, module
    assert sum(map(len, text.values())) == sum(path.stat().st_size for path in stdlib.sources().values())
    assert 0.03 < len(text["evaluation"]) / len(text["train"]) < 0.25


def test_entropy_is_that_of_the_bytes(prepared: Arrays) -> None:
    counts = Counter(prepared.arrays["train.tokens"].tobytes())
    total = sum(counts.values())
    expected = -math.fsum(n / total * math.log(n / total) for n in counts.values())
    assert prepared.facts["entropy"] == pytest.approx(expected, rel=1e-12)
    assert 2 < expected < 5


def test_a_package_is_in_one_part() -> None:
    parts: dict[str, set[bool]] = {}
    for name in stdlib.sources():
        parts.setdefault(stdlib.family(name), set()).add(stdlib.is_held(name))
    assert all(len(found) == 1 for found in parts.values())
    assert {found for parts_of in parts.values() for found in parts_of} == {True, False}


def test_families() -> None:
    assert [stdlib.family(name) for name in ("_pydecimal", "decimal", "_decimal")] == ["decimal"] * 3
    assert stdlib.family("json.decoder") == stdlib.family("json.__init__") == "json"
    assert stdlib.family("pydoc") == "pydoc"
    assert stdlib.family("_py_abc") == "abc"


def test_provenance_names_the_version(prepared: Arrays) -> None:
    provenance = prepared.facts["provenance"]
    assert provenance["python"] == platform.python_version()
    assert len(provenance["text_sha256"]) == 64
    assert "version" in provenance["source"]


def test_a_changed_library_is_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "lib"
    (library / "json").mkdir(parents=True)
    (library / "json" / "__init__.py").write_text("a = 1\n")
    (library / "tarfile.py").write_text("b = 2\n")
    (library / "mine.py").write_text("not of the library\n")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(library))
    first = stdlib.prepare(tmp_path, lambda step: None)
    held = stdlib.is_held("tarfile")
    assert first.arrays["evaluation.tokens" if held else "train.tokens"].tobytes().endswith(b"b = 2\n")
    (library / "tarfile.py").write_text("b = 3\n")
    second = stdlib.prepare(tmp_path, lambda step: None)
    assert first.path != second.path
    assert first.sha256 != second.sha256


def test_a_python_without_source_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(RecordError, match="not here as source text"):
        stdlib.prepare(tmp_path, lambda step: None)
