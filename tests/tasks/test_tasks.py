"""A reference becomes a task, or a sentence that says what to type."""

from __future__ import annotations

import math
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laurel_cli.errors import LaurelError, RecordError, UsageError
from laurel_cli.proxy.batches import batch, evaluation
from laurel_cli.tasks import FILES, Task, TaskKind, is_text, kind_of, names, open_task
from laurel_cli.tasks.base import Asked
from laurel_cli.tasks.reading.cache import Arrays, Writer, obtain


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {i}\n" for i in range(2000)))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, count in (("train", 30), ("test", 8)):
        for label, name in enumerate(("a", "b", "b", "b")):
            for i in range(count):
                path = tmp_path / "images" / part / name / f"{label}-{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (i, label, 0)).save(path)
    return tmp_path / "images"


def opened(reference: str, tmp_path: Path, **options: object) -> Task:
    return open_task(reference, cache=tmp_path / "cache", **options)  # type: ignore[arg-type]


def test_images(folder: Path, tmp_path: Path) -> None:
    task = opened(f"imagefolder:{folder}", tmp_path)
    assert (task.name, task.kind, task.classes) == ("imagefolder:images", "image", 2)
    assert (len(task.train), len(task.evaluation)) == (120, 32)
    assert task.natural
    # A quarter is "a": the entropy of (1/4, 3/4).
    assert task.chance_loss == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))
    assert len(task.mean) == len(task.sd) == 3
    assert task.provenance["images"] == {"train": 120, "evaluation": 32}


def test_text(text: Path, tmp_path: Path) -> None:
    task = opened(f"text:{text}", tmp_path, seq_len=16)
    assert (task.name, task.kind, task.classes) == ("text:a.txt", "text", 256)
    data = text.read_bytes()
    inputs, _ = batch(task, 0, 4, 0)
    assert all(bytes(row.tolist()) in data for row in inputs)
    targets = b"".join(bytes(part.flatten().tolist()) for _, part in evaluation(task, 8))
    held = data[len(task.train) :]
    assert targets == held[1 : len(targets) + 1]
    assert len(held) - len(targets) <= 17
    assert len(task.evaluation) == len(targets)


def test_embedded(tmp_path: Path) -> None:
    task = opened("scenes", tmp_path)
    assert (task.name, task.classes, len(task.train), len(task.evaluation)) == ("scenes", 10, 20_000, 2_000)
    assert task.chance_loss == pytest.approx(math.log(10))
    assert not task.natural
    language = opened("stdlib", tmp_path)
    assert (language.name, language.classes) == ("stdlib", 256)
    assert "python" in language.provenance


def test_limits_of_images(folder: Path, tmp_path: Path) -> None:
    reference = f"imagefolder:{folder}"
    whole = opened(reference, tmp_path)
    some = opened(reference, tmp_path, train_limit=40, evaluation_limit=10)
    assert (len(some.train), len(some.evaluation)) == (40, 10)
    assert some.sha256 != whole.sha256
    assert some.sha256 == opened(reference, tmp_path, train_limit=40, evaluation_limit=10).sha256
    labels = np.bincount(some.train.take(np.arange(40))[1], minlength=2)  # type: ignore[union-attr]
    assert labels.min() >= 3  # the stored ones are sorted by class; the first forty would nearly all be "a"
    assert opened(reference, tmp_path, train_limit=120, evaluation_limit=9999).sha256 == whole.sha256


def test_limits_of_text(text: Path, tmp_path: Path) -> None:
    reference = f"text:{text}"
    whole = opened(reference, tmp_path, seq_len=16)
    some = opened(reference, tmp_path, seq_len=16, train_limit=500, evaluation_limit=160)
    assert (len(some.train), len(some.evaluation)) == (500, 160)
    assert batch(some, 0, 1000, 0)[0].shape == (1000, 16)
    starts = some.evaluation.starts  # type: ignore[union-attr]
    gaps = np.diff(starts)
    assert gaps.max() - gaps.min() <= 16  # spread evenly over all of the part
    assert starts[-1] > 0.8 * whole.evaluation.starts[-1]  # type: ignore[union-attr]
    counts = np.bincount(np.frombuffer(text.read_bytes()[:500], np.uint8))
    shares = counts[counts > 0] / 500
    assert some.chance_loss == pytest.approx(-(shares * np.log(shares)).sum())


def test_the_checksum_covers_data_split_and_preparation(folder: Path, text: Path, tmp_path: Path) -> None:
    sums = {
        opened(f"imagefolder:{folder}", tmp_path).sha256,
        opened(f"imagefolder:{folder}", tmp_path, image_size=4).sha256,
        opened(f"text:{text}", tmp_path).sha256,
        opened(f"text:{text}", tmp_path, seq_len=64).sha256,
    }
    assert len(sums) == 4
    first = opened(f"imagefolder:{folder}", tmp_path).sha256
    moved = folder.rename(tmp_path / "elsewhere")
    assert opened(f"imagefolder:{moved}", tmp_path).sha256 == first  # the same data at another place
    Image.new("RGB", (8, 8), (250, 0, 0)).save(moved / "test" / "a" / "0-0.png")
    assert opened(f"imagefolder:{moved}", tmp_path).sha256 != first
    with pytest.raises(RecordError, match="changed") as caught:
        opened(f"imagefolder:{moved}", tmp_path, expected=first)
    assert caught.value.exit_code == 4


def test_an_expected_checksum(text: Path, tmp_path: Path) -> None:
    task = opened(f"text:{text}", tmp_path)
    assert opened(f"text:{text}", tmp_path, expected=task.sha256).sha256 == task.sha256


def test_names() -> None:
    assert {"scenes", "stdlib", "imagefolder:DIR", "cifar10:DIR", "text:FILE", "hf:DATASET"} <= set(names())


@pytest.mark.parametrize(
    ("reference", "options", "words"),
    [
        ("scene", {}, "Did you mean scenes?"),
        ("cifar:x", {}, "Did you mean cifar10?"),
        ("{folder}", {}, "Did you mean imagefolder:"),
        ("{text}", {}, "Did you mean text:"),
        ("", {}, "unknown"),
        ("scenes:x", {}, "Try scenes."),
        ("text:", {}, "Try text:FILE."),
        ("cifar10", {}, "Try cifar10:DIR."),
        ("scenes", {"image_size": 64}, "`image_size"),
        ("scenes", {"seq_len": 64}, "`seq_len"),
        ("scenes", {"tokenizer": "bpe"}, "`tokenizer"),
        ("stdlib", {"image_size": 64}, "`image_size"),
        ("stdlib", {"tokenizer": "bpe"}, "`tokenizer"),
        ("text:{text}", {"tokens": 64}, "`tokens"),
        ("text:{text}", {"seq_len": 0}, "`seq_len"),
        ("text:{text}", {"seq_len": 100_000}, "too short"),
        ("text:{text}", {"train_limit": 50}, "too short"),
    ],
)
def test_wrong_usage(
    reference: str, options: dict[str, object], words: str, folder: Path, text: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        opened(reference.format(folder=folder, text=text), tmp_path, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("reference", ["imagefolder:none", "cifar10:none", "imagenet:none", "text:none", "hf:./none"])
def test_missing_data(reference: str, tmp_path: Path) -> None:
    with pytest.raises(LaurelError, match="missing") as caught:
        opened(reference, tmp_path)
    assert caught.value.exit_code == 4
    assert caught.value.why


def test_a_temporary_cache_is_said(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAUREL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert "LAUREL_CACHE" in open_task(f"text:{text}").warnings[0]


def test_a_new_task_is_a_file_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's own task: what its file says is all that opens it, names it and refuses what does not fit."""
    module = types.ModuleType("laurel_cli.tasks.planted")

    def prepare(asked: Asked) -> Arrays:
        def build(writer: Writer) -> dict[str, object]:
            writer.put("train.tokens", np.arange(1000, dtype=np.uint8) % 7)
            writer.put("evaluation.tokens", np.arange(200, dtype=np.uint8) % 7)
            return {"vocabulary": 7, "entropy": math.log(7), "provenance": {"title": f"counted by {asked.rest}"}}

        return obtain(asked.folder, "planted", {"kind": "planted"}, build, asked.on_progress)

    module.TASKS = {"planted": TaskKind("text", prepare, "numbers", ("seq_len",), lambda name, rest: f"{name}, {rest}")}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(FILES, "planted", ("STEP", "planted"))  # type: ignore[arg-type]
    task = opened("planted:3", tmp_path, seq_len=10)
    assert (task.name, task.kind, task.classes, task.chance_loss) == ("planted, 3", "text", 7, math.log(7))
    assert is_text("planted:3")
    assert "planted:STEP" in names()
    for options, said in (({"tokenizer": "bpe"}, "`tokenizer` does not fit planted"), ({"image_size": 8}, "numbers")):
        with pytest.raises(UsageError) as caught:
            opened("planted:3", tmp_path, **options)
        assert said in f"{caught.value.what} {caught.value.why}"
    with pytest.raises(UsageError, match="incomplete"):
        opened("planted", tmp_path)


@pytest.mark.parametrize("name", list(FILES))
def test_the_file_of_a_task_says_what_it_is(name: str) -> None:
    kind = kind_of(name)
    assert kind.what in ("image", "text")
    assert set(kind.takes) <= {"image_size", "seq_len", "tokenizer", "tokens"}
    assert ("image_size" in kind.takes) == (kind.what == "image")
    assert ("seq_len" in kind.takes) == (kind.what == "text")


def test_the_names_of_tasks_import_nothing_slow() -> None:
    code = "import sys, laurel_cli.tasks as t; t.names(); print(*{'numpy', 'torch', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
