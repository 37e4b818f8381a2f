"""Packages that promise a device and cannot keep it, as real files and real processes: nobody is misled by them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.proxy.small import MODELS

MODEL = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.map(x)

def build():
    return Layer()

def example_inputs():
    return torch.randn(2, 8)
"""
PROFILE = ["profile", "model.py:build", "--variant", "rw", "--max-time", "1", "--processes", "1", "--format", "json"]
Laurel = Callable[..., "subprocess.CompletedProcess[str]"]
Asked = Callable[[], dict[str, Any]]


@pytest.fixture
def laurel(tmp_path: Path, laurel_env: dict[str, str]) -> Laurel:
    (tmp_path / "model.py").write_text(MODEL)
    path = os.pathsep.join([str(tmp_path / "planted"), laurel_env["PYTHONPATH"]])

    def run(*words: str, cache: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        env = laurel_env | {"PYTHONPATH": path, "PJRT_DEVICE": "CPU", "CUDA_VISIBLE_DEVICES": ""}
        env |= {"LAUREL_CACHE": str(cache)}
        command = [sys.executable, "-m", "laurel_cli", *words]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def package(folder: Path, name: str, version: str, code: str, entry: str = "") -> None:
    """As pip would have put it there."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if entry:
        (info / "entry_points.txt").write_text(f"[laurel_cli.devices]\n{entry}\n")


ASK = """
import json
from laurel_cli.devices import listed, resolve
from laurel_cli.errors import ResourceError
notes, absent = [], {}
found = {name: [one.available, one.detail] for name, one in listed()}
for name in found:
    try:
        resolve(name)
    except ResourceError as error:
        absent[name] = f"{error.what} {error.why}"
print(json.dumps({"found": found, "auto": resolve("auto", notes.append), "notes": notes, "absent": absent}))
"""


@pytest.fixture
def asked(tmp_path: Path, laurel_env: dict[str, str]) -> Asked:
    """What a new process finds: all devices, which one "auto" is, with which notes, and the errors of those absent."""

    def ask() -> dict[str, Any]:
        path = os.pathsep.join([str(tmp_path / "planted"), laurel_env["PYTHONPATH"]])
        env = laurel_env | {"PYTHONPATH": path, "PJRT_DEVICE": "CPU", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


BROKEN = "xla is there, but fails: AttributeError: module 'torch_xla' has no attribute 'device'"


@pytest.fixture
def broken_xla(tmp_path: Path) -> None:
    """It can be imported, its version is right, and it has no device."""
    package(tmp_path / "planted", "torch_xla", torch.__version__.partition("+")[0], "")


@pytest.mark.slow
@pytest.mark.usefixtures("broken_xla")
def test_a_torch_xla_that_fails_is_not_taken_by_auto(asked: Asked) -> None:
    answer = asked()
    assert answer["found"]["xla"] == [False, BROKEN]
    assert (answer["auto"], answer["notes"]) == ("cpu", [BROKEN])  # passed over, and said
    assert answer["absent"]["xla"] == f"There is no device 'xla' here: {BROKEN}. Present: cpu."


@pytest.mark.slow
@pytest.mark.usefixtures("broken_xla")
def test_the_commands_say_so_too(laurel: Laurel) -> None:
    done = laurel("env", "--format", "json")
    assert {"name": "xla", "available": False, "detail": BROKEN} in json.loads(done.stdout)["devices"]
    done = laurel(*PROFILE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["name"] == "cpu"
    assert f"note: {BROKEN}" in done.stderr
    assert "device: cpu" in done.stderr
    for command in (PROFILE, ["train-proxy", "--steps", "1"]):
        done = laurel(*command, "--device", "xla")
        assert done.returncode == 5
        assert BROKEN in done.stdout + done.stderr
        assert "Present: cpu." in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch_xla") is not None, reason="the real one is found first")
def test_a_folder_that_is_called_torch_xla_is_no_torch_xla(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "planted" / "torch_xla").mkdir(parents=True)
    available, why = asked()["found"]["xla"]
    assert not available
    assert "is no installed package" in why


OWN = """
import torch
from laurel_cli.devices.accelerator import Accelerator
from laurel_cli.devices.presence import Presence

torch.accelerator.synchronize = lambda device: None

class Own(Accelerator):  # a stand-in: it computes on the processor
    numbered = False

    def __init__(self, name):
        self.name, self.torch = name, torch.device("cpu")

    @classmethod
    def presence(cls, name):
        return Presence(True, "a stand-in")
"""


def test_a_device_of_another_package_is_taken_before_the_processor(asked: Asked, tmp_path: Path) -> None:
    package(tmp_path / "planted", "own_device", "1", OWN, "own = own_device:Own")
    answer = asked()
    assert answer["found"]["own"] == [True, "a stand-in"]
    assert answer["auto"] == "own"


@pytest.mark.slow
def test_a_device_of_another_package_is_timed(laurel: Laurel, tmp_path: Path) -> None:
    package(tmp_path / "planted", "own_device", "1", OWN, "own = own_device:Own")
    done = laurel(*PROFILE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"]["name"] == "own"


@pytest.mark.slow
def test_a_device_of_another_package_trains_as_the_processor_does(laurel: Laurel, tmp_path: Path, cache: Path) -> None:
    """Batches fetched ahead, no fused kernels, no threads: the same losses to rounding, the stand-in being a CPU."""
    package(tmp_path / "planted", "own_device", "1", OWN, "own = own_device:Own")
    (tmp_path / "models.py").write_text(MODELS)
    options = "--arms rw --no-controls --seeds 1 --steps 20 --train-limit 128 --evaluation-limit 64 --batch 16"
    found = {}
    for name in ("cpu", "own"):
        words = [*options.split(), "--format", "json", "--device", name, "--study", name]
        done = laurel("train-proxy", "models.py:build", *words, cache=cache)
        assert done.returncode == 0, done.stderr
        found[name] = [arm["mean"] for arm in json.loads(done.stdout)["arms"]]
    assert found["own"] == pytest.approx(found["cpu"], rel=2e-3)


def test_a_device_of_a_package_that_fails_is_absent_and_says_why(asked: Asked, tmp_path: Path) -> None:
    package(tmp_path / "planted", "own_device", "1", "raise RuntimeError('planted')", "own = own_device:Own")
    answer, why = asked(), "the package that brings it fails: RuntimeError: planted"
    assert answer["found"]["own"] == [False, why]
    assert (answer["auto"], answer["notes"]) == ("cpu", [why])
    assert why in answer["absent"]["own"]
