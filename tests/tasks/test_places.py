"""Data is found by a relative path on machines that keep it elsewhere, and a study knows nothing of where."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import laurel_cli
from laurel_cli.errors import RecordError
from laurel_cli.records.store import read
from laurel_cli.tasks import hub, open_task
from laurel_cli.tasks.reading.places import ROOT, located, missing, rooted
from laurel_cli.tasks.reading.tokenizers import parse

from .test_images import fill

TEXT = "".join(f"line {number} of a text with some words in it\n" for number in range(400))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = tmp_path / "here" / "data"
    place.mkdir(parents=True)
    (place / "a.txt").write_text(TEXT)
    fill(place / "images", [f"{part}/{kind}/{i}.png" for part in ("train", "test") for kind in "ab" for i in range(4)])
    (place / "docs").mkdir()
    (place / "docs" / "t.jsonl").write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(200)))
    return place


def test_a_relative_path_begins_at_the_root_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT, raising=False)
    assert located("a/b") == Path("a/b")
    with rooted(tmp_path):
        assert located("a/b") == tmp_path / "a" / "b"
        assert located("/a/b") == Path("/a/b")
        assert located("~/b") == Path.home() / "b"
        assert f"{str(tmp_path / 'c')!r}" in missing("c").why
    assert ROOT not in os.environ
    monkeypatch.setenv(ROOT, "/elsewhere")
    with rooted(None):
        assert located("a") == Path("/elsewhere/a")
    with rooted(tmp_path):
        assert located("a") == tmp_path / "a"
    assert os.environ[ROOT] == "/elsewhere"
    with pytest.raises(RecordError, match="folder of data"), rooted(tmp_path / "none"):
        pass


def test_every_kind_of_local_data_is_found_and_is_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)
    found = {}
    for place in (None, data):
        root = "" if place else f"{data}/"
        with rooted(place):
            found[place] = [
                open_task(f"text:{root}a.txt", cache=tmp_path / "cache").sha256,
                open_task(f"text:{root}*.txt", cache=tmp_path / "cache").sha256,
                open_task(f"imagefolder:{root}images", cache=tmp_path / "cache").sha256,
            ]
    assert found[None] == found[data]
    pytest.importorskip("tokenizers")
    (data / "t.json").write_text("{}")
    with rooted(data):
        assert parse("t.json").path == data / "t.json"
        shown = hub.parse("docs")
        assert shown.place == str(data / "docs")
        assert hub.parse("json,data_files=docs/t.jsonl").arguments == {"data_files": str(data / "docs" / "t.jsonl")}
    assert hub.parse("docs").place == "docs"
    pytest.importorskip("datasets")
    with rooted(data):
        assert open_task("hf:docs", seq_len=16, cache=tmp_path / "cache").provenance["documents"]["train"] > 100


def test_imagenet_too(data: Path) -> None:
    with rooted(data), pytest.raises(RecordError, match=r"is not ImageNet|no folder") as found:
        open_task("imagenet:images")
    assert "'images'" in str(found.value)  # it was found, and has no val/


@pytest.mark.slow
def test_a_study_is_prepared_here_and_trained_where_the_data_lies_elsewhere(laurel, data: Path, tmp_path: Path) -> None:
    small = ["paper-c4", "--layers", "1", "--width", "16", "--task", "text:a.txt", "--arms", "rw", "--seeds", "1"]
    small += ["--steps", "3", "--batch", "4", "--seq-len", "16", "--device", "cpu", "--no-controls", "--study", "s"]
    env = {"LAUREL_CACHE": str(tmp_path / "one")}
    done = laurel("train-proxy", *small, "--data-root", data, "--prepare", env=env)
    assert (done.returncode, done.stdout) == (0, "baseline:0\nrw:0\n"), done.stderr
    assert str(tmp_path) not in (tmp_path / "s" / "study.json").read_text()
    there = tmp_path / "there"
    shutil.move(data, there)
    other = {"LAUREL_CACHE": str(tmp_path / "other")}
    lost = laurel("train-proxy", "--trial", "rw:0", "--study", "s", env=other)
    assert (lost.returncode, "missing" in lost.stderr) == (4, True)
    for options, variables in ((["--data-root", there], {}), ([], {ROOT: str(there)})):
        trial = "rw:0" if options else "baseline:0"
        done = laurel("train-proxy", "--trial", trial, "--study", "s", *options, env=other | variables)
        assert done.returncode == 0, done.stderr
    for path in (tmp_path / "s" / "records").glob("*.json"):
        assert str(there) not in str(read(path)["content"] | {"command": "as it was typed"})


def test_from_python_the_root_holds_for_one_call(data: Path, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RecordError, match="missing") as found:
        laurel_cli.train("rw", task="text:b.txt", data_root=data, epochs=1, study=tmp_path / "s", controls=False)
    assert str(data / "b.txt") in found.value.why
    assert ROOT not in os.environ
