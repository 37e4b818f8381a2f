"""`laurel profile` as a user runs it, on small models of the user's own."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from laurel_cli.records.store import read
from laurel_cli.render import render
from tests.proxy.small import NARROW

MODELS = '''
import os, time
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(32), nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x):
        return x + self.mlp(self.norm(x))

class Model(nn.Sequential):
    pass

def build(layers=2):
    print("the user's own noise")
    return Model(*(Layer() for _ in range(layers)))

class Slow(Model):
    def forward(self, x):
        return super().forward(super().forward(super().forward(x)))

def slow():
    return Slow(*(Layer() for _ in range(2)))

class Greedy(Model):
    """Too large for its device above two samples: the allocator's own error, raised by hand."""

    def forward(self, x):
        if x.shape[0] > 2 and not x.is_meta and type(x) is torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(x)

def greedy():
    return Greedy(*(Layer() for _ in range(2)))

class Dying(Model):
    def forward(self, x):
        os._exit(7)

def dying():
    return Dying(*(Layer() for _ in range(2)))
'''
SHAPE = ["--input-shape", "4x8x32"]
QUICK = ["--max-time", "1", "--device", "cpu", "--threads", "1", "--processes", "1"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return path


def answer(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_document_and_the_record(laurel, models: Path, tmp_path: Path) -> None:
    arms = ["--arms", "baseline,naive+1,rw,rw+lr+pa@2", "--against", f"{models}:slow"]
    done = laurel("profile", f"{models}:build", *arms, *SHAPE, *QUICK, "--processes", "5", "--format", "json")
    document = answer(done)
    assert "note: --max-time 1 s is short" in done.stderr  # five processes are demanded all the same
    assert document["schema"] == "laurel.profile/1"
    assert (document["device"]["name"], document["device"]["threads"], document["mode"]) == ("cpu", 1, "infer")
    names = [arm["name"] for arm in document["arms"]]
    assert names == ["baseline", "copy", "naive+1", "rw", "rw+lr+pa@2", f"{models}:slow"]
    assert document["arms"][0]["ratio"] is None
    for arm in document["arms"]:
        took = arm["milliseconds"]
        assert 0 < took["low"] < took["median"] < took["high"]
        assert arm["throughput"] == pytest.approx(4 * 1000 / took["median"])
        assert arm["peak_bytes"] > arm["static_bytes"] > 0
    slow = document["arms"][-1]
    assert slow["ratio"]["verdict"] == slow["to_naive"]["verdict"] == "slower"  # three times the work
    assert slow["ratio"]["p"] <= slow["ratio"]["p_holm"] < 0.05
    assert document["arms"][2]["to_naive"] is None
    assert {arm["ratio"]["confidence"] for arm in document["arms"][2:]} <= {1 - 0.05 / k for k in (1, 2, 3, 4)}
    assert document["noise_floor"]["confidence"] == 0.95
    assert document["protocol"]["processes"] == 5
    assert document["protocol"]["first_look"] == 8  # of four arms; precision did not end this run
    assert 5 <= document["protocol"]["placements"] <= 20

    (path,) = (tmp_path / "reports" / "records").iterdir()
    record = read(path)
    assert record["kind"] == "profile"
    content = record["content"]
    assert content["command"].startswith("laurel profile")
    assert content["versions"]["torch"]
    rounds = sum(len(placement["seconds"]["baseline"]) for placement in content["samples"])
    assert rounds == document["protocol"]["rounds"] == len(content["orders"])
    kept = [name.removeprefix(f"{tmp_path}/") for name in names]  # a record does not say where a model lies
    assert {tuple(sorted(order)) for order in content["orders"]} == {tuple(sorted(kept))}
    every = iter(content["orders"])  # one after the other, of each placement its rounds
    orders = [{tuple(next(every)) for _ in placement["seconds"]["baseline"]} for placement in content["samples"]]
    assert sum(len(one) > 1 for one in orders) > len(orders) / 2  # a process's own order of building is not enough
    assert [sorted(order) for order in content["builds"]] == [sorted(kept)] * 5
    assert len({tuple(order) for order in content["builds"]}) > 1
    assert content["allocator"]["name"] in ("keep", "default")
    assert len(content["usage"]) == 5

    report = laurel("report", "--format", "json")
    assert report.returncode == 0, report.stderr
    (latencies,) = json.loads(report.stdout)["comparisons"][0]["latencies"]
    shown = {arm["arm"]: arm for arm in latencies["arms"]}
    assert shown["rw"]["median"] == pytest.approx(document["arms"][3]["ratio"]["median"])
    assert len(shown["rw"]["placements"]) == document["protocol"]["placements"]


def test_records_that_cannot_be_written_are_known_before_anything_is_measured(laurel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = laurel("profile", "resnet18", "--records", "file/records", "--max-time", "600")
    assert done.returncode == 5
    assert "cannot be made" in done.stderr
    assert "process" not in done.stderr


def test_what_is_measured_is_in_every_format(laurel, models: Path) -> None:
    """Of one profile: a command writes what `render` makes of its document."""
    done = laurel("profile", f"{models}:build", "--variant", "rw", *SHAPE, *QUICK, "--format", "json")
    document = answer(done)
    assert "the user's own noise" not in done.stdout
    arms = {arm["name"]: arm for arm in document["arms"]}
    weights = 2 * (2 * 32 + 32 * 64 + 64 + 64 * 32 + 32) * 4
    assert arms["baseline"]["static_bytes"] == arms["copy"]["static_bytes"] == weights
    assert arms["rw"]["static_bytes"] == weights + 2 * 2 * 4
    assert sum("moved from where they start" in note for note in document["notes"]) == 1
    rows = list(csv.DictReader(io.StringIO(render(document, "csv"))))
    assert [row["name"] for row in rows] == ["baseline", "copy", "naive+1", "rw"]
    assert float(rows[1]["ratio.median"]) > 0
    for kind in ("table", "markdown"):
        text = render(document, kind)
        for words in (*arms, "p (Holm)", "level", "against naive+1, as a ratio", "page faults a call"):
            assert words in text


def test_training(laurel, models: Path) -> None:
    options = ["--mode", "train", "--dtype", "bf16", "--arms", "baseline,lr@2"]
    arms = answer(laurel("profile", f"{models}:build", *options, *SHAPE, *QUICK, "--format", "json"))["arms"]
    weights = 2 * (2 * 32 + 32 * 64 + 64 + 64 * 32 + 32)
    # float32 weights and AdamW's two moments of each, and its step counters
    assert 3 * weights * 4 < arms[0]["static_bytes"] < 3 * weights * 4 + 200


@pytest.mark.slow
def test_the_peak_of_training_is_what_counting_says(laurel, models: Path) -> None:
    shape = ["--input-shape", "512x64x32"]  # activations are nearly all of it
    options = ["--mode", "train", "--arms", "baseline,lr@8", *shape, *QUICK, "--format", "json"]
    for arm in answer(laurel("profile", f"{models}:build", *options))["arms"]:
        assert 0.97 < arm["peak_bytes"] / arm["predicted_bytes"] < 1.03


@pytest.mark.slow
def test_no_memory_halves_the_batch_for_all_arms(laurel, models: Path) -> None:
    ours = models.with_name("batched.py")
    ours.write_text(
        "from models import *\nclass M(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.stem, self.body = nn.Conv2d(3, 32, 1), greedy()\n"
        "    def forward(self, image):\n        return self.body(self.stem(image).flatten(2).mT)\n"
        "def build():\n    return M()\n"
    )
    options = ["--arms", "baseline,rw", "--batch", "8", "--image-size", "4", *QUICK, "--format", "json"]
    document = answer(laurel("profile", f"{ours}:build", *options))
    assert document["model"]["batch"] == 2
    assert [note for note in document["notes"] if "batch 8" in note and "batch 4" in note]
    assert document["model"]["input"].endswith("[2, 3, 4, 4]")


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--device", "tpu"], 5, "cpu"),
        (["--device", "gpu"], 2, "cuda"),
        (["--mode", "trian"], 2, "train"),
        (["--dtype", "int3"], 2, "bfloat16"),
        (["--precision", "-1"], 2, "1%"),
        (["--allocator", "jemalloc"], 2, "keep, default"),
        (["--max-time", "-5"], 2, "max-time"),
        (["--processes", "0"], 2, "processes"),
        (["--mode", "decode", *SHAPE, *QUICK], 3, "language models"),
        (["--against", "nowhere.py:f", *SHAPE, *QUICK], 3, "nowhere.py"),
    ],
)
def test_what_is_wrong_is_said(laurel, models: Path, options: list[str], code: int, says: str) -> None:
    done = laurel("profile", f"{models}:build", "--arms", "baseline,rw", *options)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_ends_the_process_is_3(laurel, models: Path) -> None:
    done = laurel("profile", f"{models}:dying", "--arms", "baseline", *SHAPE, *QUICK)
    assert done.returncode == 3, done.stderr
    assert "exit status 7" in done.stderr


@pytest.mark.slow
def test_max_time_keeps_its_word(laurel, models: Path) -> None:
    """No process is begun that would not end in time; where fewer than the least that was promised fit, it is said."""
    began = time.monotonic()
    options = ["--max-time", "60", "--precision", "0.0001%", "--device", "cpu", "--threads", "1", "--format", "json"]
    done = laurel("profile", f"{models}:build", "--arms", "baseline,rw", *SHAPE, *options)
    took = time.monotonic() - began
    document = answer(done)
    short = re.search(r"will be run, about (\d+) s", done.stderr)
    assert took < 1.3 * max(60, float(short[1]) if short else 0)
    processes = document["protocol"]["processes"]
    # A machine that slows down after the first process takes longer for the others than was foreseen.
    assert (
        short or processes >= 5 or any(f"{processes} of 5 processes fitted in" in said for said in document["warnings"])
    )
    assert any("fitted in" in warning for warning in document["warnings"])


@pytest.mark.slow
def test_ctrl_c_shows_what_there_is(models: Path, laurel_env: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "laurel_cli", "profile", f"{models}:build", "--arms", "baseline,rw", *SHAPE]
    options = ["--device", "cpu", "--precision", "0.0001%", "--max-time", "100", "--debug", "--threads", "1"]
    process = subprocess.Popen(
        [*command, *options], env=laurel_env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "process 2, placement 1" in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "(interrupted)" in out
    (path,) = (tmp_path / "reports" / "records").iterdir()
    assert read(path)["status"] == "partial"
    time.sleep(0.5)
    workers = subprocess.run(["pgrep", "-f", f"latency.worker.*{tmp_path}"], capture_output=True, check=False)
    assert not workers.stdout


@pytest.mark.slow
def test_what_would_write_outside_its_memory_is_trained_contiguous(laurel, tmp_path: Path) -> None:
    """Channels last, the worker aborts, or times a backward pass that is wrong."""
    (tmp_path / "narrow.py").write_text(NARROW)
    shape = ["--input-shape", "4x3x32x32", "--arms", "baseline,rw", "--format", "json"]
    trained = answer(laurel("profile", "narrow.py:narrow", "--mode", "train", "--channels-last", *shape, *QUICK))
    assert trained["channels_last"] is False
    assert any("contiguous" in note and "from 4 channels to 8" in note for note in trained["notes"])
    inferred = answer(laurel("profile", "narrow.py:narrow", "--channels-last", *shape, *QUICK))
    assert inferred["channels_last"] is True
    assert not any("contiguous" in note for note in inferred["notes"])
