"""One trial by several processes, as torchrun starts them: the same losses as one process with the whole batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from laurel_cli.errors import UsageError
from laurel_cli.proxy.parallel import joined
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.study import folder as study
from laurel_cli.study.compare import StudyPlan, prepare

STEPS = 8


def prepared(folder: Path, reference: str = "paper-c4", task: str = "stdlib", world: int = 1) -> Path:
    text = task == "stdlib"
    model = ModelChoice(reference, layers=(2,), width=32) if text else ModelChoice(reference, width=4)
    limits = {"train_limit": 20_000, "evaluation_limit": 2_000, "seq_len": 32} if text else {"train_limit": 64}
    recipe = Recipe(model, TaskChoice(task, **limits), steps=STEPS, batch=8, accumulate=2, evaluations=1, world=world)
    return prepare(StudyPlan(recipe, "baseline,rw+lr", folder=folder, controls=False)).folder


def torchrun(laurel_env: dict[str, str], folder: Path, trial: str, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "laurel_cli", "train-proxy", "--trial", trial, "--study", str(folder)]
    env = laurel_env | {"LAUREL_CACHE": str(cache)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)


def test_two_processes_do_what_one_does(laurel, laurel_env, tmp_path: Path, cache: Path) -> None:
    alone, together = prepared(tmp_path / "alone"), prepared(tmp_path / "together", world=2)
    env = {"LAUREL_CACHE": str(cache)}
    done = laurel("train-proxy", "--trial", "rw+lr@16:0", "--study", alone, env=env)
    assert done.returncode == 0, done.stderr
    done = torchrun(laurel_env, together, "rw+lr@16:0", cache)
    assert done.returncode == 0, done.stderr
    ((one,), (two,)) = (study.trials(folder) for folder in (alone, together))
    assert two["device"]["processes"] == 2
    assert one["device"]["processes"] == 1
    assert [p["loss"] for p in two["curve"]] == pytest.approx([p["loss"] for p in one["curve"]], rel=1e-4)
    assert two["final"]["loss"] == pytest.approx(one["final"]["loss"], rel=1e-3)
    assert len(one["curve"]) == STEPS


def test_batch_norms_on_the_cpu_are_refused(laurel_env, tmp_path: Path, cache: Path) -> None:
    folder = prepared(tmp_path / "norms", "timm:resnet18", "scenes", world=2)
    done = torchrun(laurel_env, folder, "baseline:0", cache)
    assert done.returncode != 0
    assert "batch norms" in done.stderr
    assert not study.trials(folder)


def test_a_batch_that_cannot_be_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match="3 processes"), joined("cpu", 8, 1):
        pass
