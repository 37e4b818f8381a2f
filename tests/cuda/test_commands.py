"""`laurel profile` and `laurel train-proxy` on a CUDA device, as a user meets them. Skipped where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.proxy.small import MODELS

if not torch.cuda.is_available():
    pytest.skip("there is no CUDA device", allow_module_level=True)

pytestmark = pytest.mark.slow

MODEL = """
import torch
from torch import nn

WIDTH, TOKENS = 512, 4096

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        return x + self.two(nn.functional.gelu(self.one(self.norm(x))))

class Faulty(Layer):
    def forward(self, x):
        where = torch.full((1,), 10, device=x.device)
        if x.device.type == "cuda":
            x = x + torch.zeros(4, device=x.device)[where]  # no error here: the device finds it later
        return super().forward(x)

class Greedy(Layer):
    def forward(self, x):
        return super().forward(x) + torch.empty(10**14, device=x.device)[0]

def build():
    return nn.Sequential(*(Layer() for _ in range(6)))

def greedy():
    return nn.Sequential(Layer(), Greedy())

def twice():
    return nn.Sequential(*(Layer() for _ in range(12)))

def faulty():
    return nn.Sequential(Layer(), Faulty())

def example_inputs():
    return torch.randn(1, TOKENS, WIDTH)
"""
QUICK = ["--device", "cuda", "--max-time", "1", "--processes", "2", "--format", "json"]  # too few to separate much
TRAIN = ["--task", "scenes", "--width", "8", "--arms", "rw+lr+pa@2", "--no-controls", "--seeds", "1", "--batch", "32"]
TRAIN += ["--steps", "1500", "--train-limit", "2000", "--evaluation-limit", "200", "--device", "cuda"]


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


@pytest.mark.parametrize("options", [["--mode", "infer"], ["--mode", "train"], ["--mode", "infer", "--compile"]])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_profile(laurel, there: Path, options: list[str], dtype: str) -> None:
    words = ["--variant", "rw,rw+lr", "--rank", "8", "--against", "model.py:twice", "--dtype", dtype]
    done = laurel("profile", "model.py:build", *words, *options, *QUICK)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    arms = {arm["name"]: arm for arm in document["arms"]}
    assert document["device"]["name"] == "cuda"
    assert document["device"]["gpu"] == torch.cuda.get_device_name()
    assert arms["model.py:twice"]["ratio"]["median"] > 1.3
    width, layers = 512, 6
    own = {"baseline": 0, "naive+1": 8 * width * width + 7 * width, "rw": layers * 2}
    own["rw+lr@8"] = own["rw"] + layers * 2 * 8 * width
    parameters = layers * own["naive+1"]
    for name, added in own.items():
        factor = 4 if "train" in options or dtype == "fp32" else 2
        copies = 3 if "train" in options else 1  # weights and two moments; gradients are freed between steps
        expected = factor * copies * (parameters + added)
        assert arms[name]["static_bytes"] == pytest.approx(expected, rel=1e-3), name
        assert arms[name]["peak_bytes"] > arms[name]["static_bytes"]


def test_what_is_out_of_memory_at_batch_1_is_5(laurel, there: Path) -> None:
    done = laurel("profile", "model.py:greedy", "--arms", "baseline", *QUICK)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "memory" in json.dumps(json.loads(done.stdout)["error"])
    assert "Traceback" not in done.stderr


def test_out_of_memory_at_a_larger_batch_makes_it_smaller_and_says_so(laurel) -> None:
    logits = 1024 * 50257 * 4  # bytes, of one sequence
    batch = int(1.5 * torch.cuda.get_device_properties(0).total_memory / logits)
    done = laurel("profile", "gpt2", "--arms", "rw", "--batch", batch, "--seq-len", "1024", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert 1 <= document["model"]["batch"] < batch
    assert any("memory" in said for said in document["notes"] + document["warnings"])


def test_a_fault_that_the_device_finds_later_is_the_models(laurel, there: Path) -> None:
    done = laurel("profile", "model.py:faulty", "--arms", "rw", *QUICK)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "assert" in json.dumps(json.loads(done.stdout)["error"])
    assert "Traceback" not in done.stderr


def test_killed_and_resumed_it_ends_the_same_to_the_bit(
    laurel_env: dict[str, str], tmp_path: Path, cache: Path
) -> None:
    env = laurel_env | {"LAUREL_CACHE": str(cache)}
    command = [sys.executable, "-m", "laurel_cli", "train-proxy", *TRAIN, "--format", "json", "--study"]
    whole = subprocess.Popen([*command, str(tmp_path / "whole")], env=env, stdout=subprocess.PIPE, text=True)
    killed = tmp_path / "killed"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    for arm in ("baseline", "rw+lr+pa"):
        with subprocess.Popen([*command, str(killed), "--resume"], env=env, **quiet) as running:
            until = time.monotonic() + 120
            while not list(killed.glob(f"checkpoints/{arm}*.pt")) and time.monotonic() < until:
                time.sleep(0.05)
            os.kill(running.pid, signal.SIGKILL)
        assert list(killed.glob(f"checkpoints/{arm}*.pt"))
    done = subprocess.run([*command, str(killed), "--resume"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out, _ = whole.communicate()
    assert json.loads(done.stdout)["arms"] == json.loads(out)["arms"]


@pytest.mark.parametrize("options", [[], ["--dtype", "bf16"], ["--dtype", "fp16"], ["--compile"]])
def test_training_ends_near_where_it_ends_on_the_processor(
    laurel, there: Path, cache: Path, options: list[str]
) -> None:
    words = ["models.py:build", "--arms", "rw+lr@2", "--no-controls", "--seeds", "1", "--steps", "30"]
    words += ["--train-limit", "256", "--evaluation-limit", "250", "--format", "json"]
    found = {}
    for name, own in (("cpu", []), ("cuda", options)):
        done = laurel("train-proxy", *words, *own, "--device", name, "--study", name, env={"LAUREL_CACHE": str(cache)})
        assert done.returncode == 0, done.stderr
        found[name] = [arm["mean"] for arm in json.loads(done.stdout)["arms"]]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=0.03 if "--dtype" in options else 2e-3)


def test_several_trials_at_once_share_it(laurel, there: Path, cache: Path) -> None:
    words = ["models.py:build", "--arms", "rw,rw+lr@2", "--no-controls", "--seeds", "3", "--steps", "30"]
    words += ["--train-limit", "256", "--evaluation-limit", "250", "--format", "json", "--device", "cuda"]
    found = []
    for processes in ("1", "3"):
        study = ["--study", processes, "--processes", processes]
        done = laurel("train-proxy", *words, *study, env={"LAUREL_CACHE": str(cache)})
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["arms"])
    assert found[0] == found[1]
