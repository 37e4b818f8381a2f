"""One holder of a trial: by real processes that want the same one, that are killed, and that are followed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from laurel_cli.errors import HeldError, LostError, UsageError
from laurel_cli.study import folder as study
from laurel_cli.study.claim import VARIABLE, Claim, held, take
from tests.proxy.small import MODELS, one_layer

HOLD = """
import sys, time
from pathlib import Path
from laurel_cli.errors import LaurelError
from laurel_cli.study.claim import take
sys.stdin.readline()
try:
    print(take(Path(sys.argv[1])).number, flush=True)
except LaurelError as error:
    print(error.why, flush=True)
sys.stdin.readline()
"""


def holder(path: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path)]
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def elsewhere(claim: Path, age: float) -> None:
    """As a claim of another machine that was renewed `age` seconds ago looks from here."""
    plain = json.loads(claim.read_text()) | {"machine": "another one"}
    claim.write_text(json.dumps(plain))
    moment = claim.stat().st_mtime - age
    os.utime(claim, (moment, moment))


def test_of_processes_that_want_one_trial_at_once_one_has_it(tmp_path: Path, laurel_env: dict[str, str]) -> None:
    processes = [holder(tmp_path / "rw-0.pt", laurel_env) for _ in range(4)]
    for process in processes:  # all are let go before any of them is heard
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
    assert answers.count("1") == 1
    assert all(" holds it." in answer or "this moment" in answer for answer in answers if answer != "1")
    for process in processes:
        process.communicate("\n")


def test_a_holder_that_was_killed_is_followed_here_at_once_and_from_elsewhere_after_a_while(
    tmp_path: Path, laurel_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rw-0.pt"
    for number in (1, 2):
        first = holder(path, laurel_env)
        assert said(first) == str(number)
        with pytest.raises(HeldError, match=f"Process {first.pid}"):
            take(path)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    elsewhere(tmp_path / "rw-0.claim-2", age=100)
    with pytest.raises(HeldError):
        take(path)
    monkeypatch.setenv(VARIABLE, "1.5")
    assert take(path).number == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rw-0.claim-3"]


def test_who_was_followed_has_lost_it_and_who_gives_back_has_not(tmp_path: Path) -> None:
    path = tmp_path / "rw-1.pt"
    take(tmp_path / "rw-10.pt")  # another trial, whose name begins alike
    with held(path) as first:
        first.renew()
    with held(path) as second:
        assert second.number == first.number + 1 == 2
        with pytest.raises(LostError):
            first.renew()
        first.give_back()
        second.renew()
        second.end()
    assert [file.name for file in tmp_path.iterdir()] == ["rw-10.claim-1"]


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "nan", "inf"])
def test_minutes_that_are_none(minutes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(take(tmp_path / "rw-0.pt").path, age=0)
    monkeypatch.setenv(VARIABLE, minutes)
    with pytest.raises(UsageError, match=VARIABLE):
        take(tmp_path / "rw-0.pt")


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    return one_layer(tmp_path / "study", steps=4, evaluations=2)


def test_a_trial_that_was_taken_over_writes_nothing_more(folder: Path) -> None:
    from laurel_cli.study.worker import run_trial

    def follow(event: Any) -> None:
        if event["kind"] == "evaluation":
            Claim(folder / "checkpoints" / "rw-0", 2).path.write_text("{}")

    with pytest.raises(LostError):
        run_trial(folder, "rw", 0, command="", on_event=follow)
    assert not study.trials(folder)
    assert sorted(file.name for file in (folder / "checkpoints").iterdir()) == [
        "rw-0.claim-1",
        "rw-0.claim-2",
        "rw-0.progress",
    ]


TOLD = """
import sys
from laurel_cli.cli import main
try:
    main.run(sys.argv[1:])
finally:
    print(sorted({"torch", "numpy"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.slow
def test_two_of_one_trial_leave_one_record_and_a_third_is_told_without_torch(
    folder: Path, laurel_env: dict[str, str], tmp_path: Path
) -> None:
    words = ["train-proxy", "--trial", "rw:0", "--study", str(folder)]
    command = [sys.executable, "-m", "laurel_cli", *words]
    both = [subprocess.Popen(command, env=laurel_env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 5]), errors  # the other one had ended before it asked, or had not
    (trial,) = study.trials(folder)
    assert trial["place"]["attempt"] == 1
    assert not list((folder / "checkpoints").iterdir())
    third = subprocess.run([sys.executable, "-c", TOLD, *words], env=laurel_env, capture_output=True, text=True)
    assert third.returncode == 0
    assert third.stderr.splitlines() == [f"rw:0: complete, loss {trial['final']['loss']}", "[]"]


@pytest.mark.slow
def test_a_failure_leaves_a_record_with_its_attempt(laurel, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "net.py").write_text(MODELS)
    words = ["train-proxy", "net.py:bad", "--task", "scenes", "--arms", "rw", "--no-controls", "--seeds", "1"]
    words += ["--steps", "2", "--train-limit", "64", "--evaluation-limit", "16", "--batch", "4", "--device", "cpu"]
    assert laurel(*words, "--study", "study", "--prepare").returncode == 0
    for attempt in (1, 2):
        done = laurel("train-proxy", "--trial", "baseline:0", "--study", "study")
        assert done.returncode == 3, done.stderr
        trials = study.trials(tmp_path / "study")
        assert sorted(trial["place"]["attempt"] for trial in trials) == list(range(1, attempt + 1))
        assert all("a bug in the user's model" in trial["reason"] and trial["status"] == "failed" for trial in trials)
        assert all(len(trial["place"]["host"]) == 16 for trial in trials)
