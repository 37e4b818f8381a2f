"""One trial by several processes, as torchrun starts them: the same losses as one process with the whole batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from laurel_cli.api.opened import load
from laurel_cli.errors import UsageError
from laurel_cli.proxy.parallel import joined
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.study import folder as study
from laurel_cli.study.compare import prepare
from laurel_cli.study.plan import StudyPlan
from tests.schemas.test_documents import holds
from tests.study.test_kept import loss_of
from tests.study.test_killed import children

STEPS = 8


def prepared(
    folder: Path,
    reference: str = "paper-c4",
    task: str = "stdlib",
    *,
    world: int = 1,
    steps: int = STEPS,
    parallel: str = "ddp",
) -> Path:
    text = task == "stdlib"
    model = ModelChoice(reference, layers=(2,), width=32) if text else ModelChoice(reference, width=4)
    limits = {"train_limit": 20_000, "evaluation_limit": 2_000, "seq_len": 32} if text else {"train_limit": 64}
    numbers = {"steps": steps, "batch": 8, "accumulate": 2, "evaluations": 1}
    recipe = Recipe(model, TaskChoice(task, **limits), **numbers, world=world, parallel=parallel)
    return prepare(StudyPlan(recipe, "baseline,rw+lr", folder=folder, controls=False)).folder


def torchrun_command(folder: Path, trial: str) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*command, "-m", "laurel_cli", "train-proxy", "--trial", trial, "--study", str(folder), "--keep-weights"]


def torchrun(laurel_env: dict[str, str], folder: Path, trial: str, cache: Path) -> subprocess.CompletedProcess[str]:
    env = laurel_env | {"LAUREL_CACHE": str(cache)}
    return subprocess.run(
        torchrun_command(folder, trial), env=env, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
def test_two_processes_do_what_one_does(laurel, laurel_env, tmp_path: Path, cache: Path) -> None:
    alone, together = prepared(tmp_path / "alone"), prepared(tmp_path / "together", world=2)
    parted = prepared(tmp_path / "parted", world=2, parallel="fsdp")
    env = {"LAUREL_CACHE": str(cache)}
    done = laurel("train-proxy", "--trial", "rw+lr@16:0", "--study", alone, "--keep-weights", env=env)
    assert done.returncode == 0, done.stderr
    for folder in (together, parted):
        done = torchrun(laurel_env, folder, "rw+lr@16:0", cache)
        assert done.returncode == 0, done.stderr
    ((one,), (two,), (three,)) = (study.trials(folder) for folder in (alone, together, parted))
    kinds = [(trial["device"]["processes"], trial["device"].get("parallel")) for trial in (one, two, three)]
    assert kinds == [(1, None), (2, "ddp"), (2, "fsdp")]
    # The same but for the rounding of the gradient's norm, which is summed part by part.
    assert [p["loss"] for p in three["curve"]] == pytest.approx([p["loss"] for p in two["curve"]], rel=1e-5)
    assert three["final"]["loss"] == pytest.approx(two["final"]["loss"], rel=1e-5)
    assert three["hashes"]["start"] == two["hashes"]["start"] == one["hashes"]["start"]
    assert three["parameters"] == two["parameters"]
    for here, there in zip(three["coefficients"], two["coefficients"], strict=True):
        assert [here["a"], here["b"]] == pytest.approx([there["a"], there["b"]], rel=1e-5)
    for trial, folder in ((one, alone), (two, together), (three, parted)):
        holds(trial)
        kept = load(str(folder / trial["weights"]["folder"]))
        assert loss_of(kept.module, study.load(folder)) == pytest.approx(trial["final"]["loss"], rel=1e-5)
    assert [p["loss"] for p in two["curve"]] == pytest.approx([p["loss"] for p in one["curve"]], rel=1e-4)
    assert two["final"]["loss"] == pytest.approx(one["final"]["loss"], rel=1e-3)
    assert len(one["curve"]) == STEPS


TWO = """
import sys
import torch.distributed as dist
from laurel_cli.errors import RecordError
from laurel_cli.proxy.parallel import Group
rank = int(sys.argv[2])
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
group = Group(None, rank, 2)
print(group.shared({"step": 143 + rank}))
group.agree(step=143, study="a")
try:
    group.agree(step=143 * rank, study="a")
except RecordError as error:
    print(error.why)
"""


@pytest.mark.slow
def test_processes_begin_where_the_first_one_does_and_only_if_they_agree(laurel_env, tmp_path: Path) -> None:
    """As was seen: one had restored step 143, the other none."""
    commands = [[sys.executable, "-c", TWO, str(tmp_path / "store"), str(rank)] for rank in (0, 1)]
    both = [subprocess.Popen(command, env=laurel_env, stdout=subprocess.PIPE, text=True) for command in commands]
    answers = [process.communicate(timeout=300)[0].splitlines() for process in both]
    assert answers == [["{'step': 143}", "Their step is 0 and 143."]] * 2


@pytest.mark.slow
def test_a_signal_to_one_process_ends_both_with_a_checkpoint(laurel_env, tmp_path: Path, cache: Path) -> None:
    """To the second one, which writes nothing; the trial goes on where the first one has left it."""
    folder = prepared(tmp_path / "together", world=2, steps=400)
    command = torchrun_command(folder, "baseline:0")
    env = laurel_env | {"LAUREL_CACHE": str(cache)}
    errors = signalled(command, env, folder, signal.SIGTERM, attempt=1)
    assert "exitcode  : 143" in errors or "exitcode: 143" in errors, errors
    assert [path.suffix for path in sorted((folder / "checkpoints").iterdir())] == [".claim-1", ".progress", ".pt"]
    assert not study.trials(folder)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    (trial,) = study.trials(folder)
    assert trial["place"]["attempt"] == 2
    assert [point["step"] for point in trial["curve"]] == list(range(8, 401, 8))


@pytest.mark.slow
def test_a_trial_of_parted_parameters_is_killed_and_ends_the_same(laurel_env, tmp_path: Path, cache: Path) -> None:
    """Stopped by a signal to the second process, gone on with, killed with signal 9, gone on with once more."""
    whole, folder = (prepared(tmp_path / name, world=2, steps=200, parallel="fsdp") for name in ("whole", "killed"))
    command, env = torchrun_command(folder, "rw+lr@16:0"), laurel_env | {"LAUREL_CACHE": str(cache)}
    errors = signalled(command, env, folder, signal.SIGTERM, attempt=1)
    assert "exitcode  : 143" in errors or "exitcode: 143" in errors, errors
    left = sorted(path.name for path in (folder / "checkpoints").iterdir() if ".shards-1-" in path.name)
    assert len(left) == 1
    signalled(command, env, folder, signal.SIGKILL, attempt=2, to=("0", "1"))
    assert not study.trials(folder)
    for place in (folder, whole):
        done = torchrun(laurel_env, place, "rw+lr@16:0", cache)
        assert done.returncode == 0, done.stderr
    ((one,), (two,)) = (study.trials(place) for place in (whole, folder))
    assert two["place"]["attempt"] == 3
    for key in ("curve", "evaluations", "final", "coefficients", "start", "hashes", "parameters", "device"):
        assert two.get(key) == one.get(key), key
    assert [path for path in (folder / "checkpoints").iterdir() if "rw+lr@16-0" in path.name] == []


def signalled(
    command: list[str],
    env: dict[str, str],
    folder: Path,
    number: int,
    *,
    attempt: int,
    to: tuple[str, ...] = ("1",),
) -> str:
    """What a trial says that gets a signal, once it trains, in the second of its processes or in those named."""
    running = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    found: list[int] = []
    while not found and running.poll() is None:
        time.sleep(0.2)
        ranks = {rank_of(pid): pid for pid in children(running.pid)}
        begun = list((folder / "checkpoints").glob(f"*.claim-{attempt}"))
        if begun and {*to} <= {*ranks} and is_training(begun[0]):  # so the handler is there
            found = [ranks[rank] for rank in to]
    assert found, running.communicate()[1]
    for pid in found:
        os.kill(pid, number)
    errors = running.communicate(timeout=300)[1]
    assert running.returncode != 0
    return errors


def rank_of(pid: int) -> str | None:
    """What torchrun has told a process."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((word[5:].decode() for word in words if word.startswith(b"RANK=")), None)


def is_training(claim: Path) -> bool:
    """Whether it was renewed since it was made."""
    before = claim.stat().st_mtime
    time.sleep(2)
    return claim.exists() and claim.stat().st_mtime > before


@pytest.mark.slow
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
