"""The XLA backend for real, on torch_xla's CPU plugin: `bash tests/xla/run`. Skipped where torch_xla is absent."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.proxy.small import MODELS

if importlib.util.find_spec("torch_xla") is None:
    pytest.skip("torch_xla is not installed: see tests/xla/run", allow_module_level=True)
os.environ.setdefault("PJRT_DEVICE", "CPU")

MODEL = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(32), nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, x):
        return x + self.mlp(self.norm(x))

def build():
    return nn.Sequential(*(Layer() for _ in range(3)))

def example_inputs():
    return torch.randn(8, 16, 32)
"""


@pytest.fixture(scope="module")
def device():
    from laurel_cli.devices import opened, present

    assert present()[0] == "xla"
    return opened("xla")


def executions() -> int:
    import torch_xla.debug.metrics as metrics

    data = metrics.metric_data("ExecuteTime")
    return 0 if data is None else data[0]


def test_every_call_runs_its_graph(device) -> None:
    """What nobody holds is never computed: a timer that drops results would time nothing but the recording."""
    x = torch.randn(64, 64).to(device.torch)
    device.time(lambda: x @ x, 1)
    before = executions()
    device.time(lambda: x @ x, 5)
    assert executions() - before >= 5


def test_time_grows_with_the_work(device) -> None:
    small, large = (torch.randn(n, n).to(device.torch) for n in (64, 1536))
    times = []
    for x in (small, large):
        device.time(lambda x=x: x @ x, 3)
        times.append(min(device.time(lambda x=x: x @ x, 3) for _ in range(3)))
    assert times[1] > 5 * times[0]  # 13,824 times the products


def test_the_first_call_holds_the_compilation(device) -> None:
    x = torch.randn(32, 32).to(device.torch)

    def call() -> torch.Tensor:
        y = x
        for _ in range(40):
            y = torch.tanh(y @ x) + y
        return y

    first = device.time(call, 1)
    assert first > 3 * min(device.time(call, 1) for _ in range(5))


def test_facts(device) -> None:
    assert device.facts()["runtime"] == os.environ["PJRT_DEVICE"]


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_the_command(mode: str, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    command = [sys.executable, "-m", "laurel_cli", "profile", "model.py:build", "--variant", "rw,rw+lr+pa"]
    options = ["--rank", "2", "--mode", mode, "--max-time", "1", "--processes", "1", "--format", "json"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["device"]["name"] == "xla"
    assert [arm["name"] for arm in document["arms"]] == ["baseline", "copy", "naive+1", "rw", "rw+lr+pa@2"]
    assert all(arm["milliseconds"]["median"] > 0 for arm in document["arms"])
    assert document["protocol"]["placements"] == 1  # nothing is moved there: one process is one placement
    assert {arm["ratio"]["verdict"] for arm in document["arms"][1:]} == {"not separated"}


def test_training_ends_where_it_ends_on_the_cpu(tmp_path: Path) -> None:
    """The same start and batches: LAuReL's own weights move, and the losses agree to rounding."""
    (tmp_path / "models.py").write_text(MODELS)
    command = [
        sys.executable,
        "-m",
        "laurel_cli",
        "train-proxy",
        "models.py:build",
        "--arms",
        "rw+lr@2",
        "--no-controls",
        "--seeds",
        "1",
    ]
    options = ["--steps", "30", "--train-limit", "256", "--evaluation-limit", "250", "--format", "json"]
    env = os.environ | {"LAUREL_CACHE": str(tmp_path / "cache")}
    found = {}
    for name in ("cpu", "xla"):
        words = [*command, *options, "--device", name, "--study", name]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stderr
        found[name] = [arm["mean"] for arm in json.loads(done.stdout)["arms"]]
    assert found["xla"] == pytest.approx(found["cpu"], rel=2e-3)
    assert found["cpu"][0] != pytest.approx(found["cpu"][1], rel=2e-3)
