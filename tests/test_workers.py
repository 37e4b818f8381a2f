"""Processes that are sent jobs: what they say, how they fail, and that none outlives its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from laurel_cli.errors import LayoutError
from laurel_cli.workers import Worker, raised

JOBS = """
import ctypes, os, signal, sys, time
from laurel_cli.errors import LayoutError
from laurel_cli.workers import Leave

class Closer(LayoutError):
    pass

def double(say, job):
    print("noise", flush=True)
    os.write(1, b"more noise")
    say({"kind": "half", "value": job["value"]})
    return {"value": 2 * job["value"]}

def reads(say, job):
    return {"read": sys.stdin.read()}

def broken(say, job):
    raise ValueError("planted\\nsecond line")

def ours(say, job):
    error = Closer("What.", "Why.", "Hint.")
    error.laurel_about = {"arm": "rw"}
    raise error

def crashes(say, job):
    print("before the end", file=sys.stderr, flush=True)
    ctypes.string_at(0)

def killed(say, job):
    os.kill(os.getpid(), signal.SIGKILL)

def leaves(say, job):
    raise Leave

def exits(say, job):
    sys.exit(3)

def sleeps(say, job):
    say({"kind": "begun", "pid": os.getpid()})
    time.sleep(600)

def counts(say, job):
    say({"kind": "begun", "pid": os.getpid()})
    time.sleep(1)
    return {"value": 3}

def hangs(say, job):  # in C, and lets no other thread of Python run
    say({"kind": "begun", "pid": os.getpid()})
    ctypes.PyDLL(None).sleep(600)

def work(say, job):
    return globals()[job["do"]](say, job)
"""
PARENT = """
import sys
from laurel_cli.workers import Worker
for message in Worker("planted_jobs").run({"do": sys.argv[1]}):
    print(message["pid"], flush=True)
"""


PATIENT = """
from laurel_cli.workers import Worker
for message in Worker("planted_jobs", silence=4).run({"do": "counts"}):
    print(message.get("pid", message.get("value")), flush=True)
"""


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted_jobs.py").write_text(JOBS)
    here = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), here]))


@contextmanager
def worker(**options: object) -> Iterator[Worker]:
    found = Worker("planted_jobs", **options)
    try:
        yield found
    finally:
        found.close()


def is_gone(pid: int, seconds: float = 60.0) -> bool:
    """Whether the process ends before so long; one that nobody has waited for is gone too."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_jobs_are_done_in_turn_and_what_is_printed_disturbs_nobody() -> None:
    with worker() as one:
        for value in (1, 4):
            assert list(one.run({"do": "double", "value": value})) == [
                {"kind": "half", "value": value},
                {"kind": "done", "value": 2 * value},
            ]
        ended = one.close(patience=30)
    assert (ended.status, ended.killed) == (0, False)
    assert ended.tail == ("noise", "more noisenoise", "more noise")


def test_a_model_that_reads_its_input_takes_no_job() -> None:
    with worker() as one:
        assert list(one.run({"do": "reads"})) == [{"kind": "done", "read": ""}]
        assert list(one.run({"do": "reads"})) == [{"kind": "done", "read": ""}]


def test_an_error_comes_with_its_traceback() -> None:
    with worker() as one:
        (message,) = one.run({"do": "broken"})
        assert (message["kind"], message["error"]) == ("failed", "ValueError")
        assert message["reason"] == "ValueError: planted"
        assert "in broken" in message["traceback"]
        assert raised(message) is None
        assert one.close(patience=30).status == 1


def test_an_error_of_ours_is_raised_again_with_the_workers_traceback_as_its_cause() -> None:
    with worker() as one:
        (message,) = one.run({"do": "ours"})
    error = raised(message, " (arm rw)")
    assert type(error) is LayoutError  # the nearest kind that the parent knows
    assert (error.what, error.why, error.hint) == ("What.", "Why. (arm rw)", "Hint.")
    assert message["about"] == {"arm": "rw"}
    assert "in ours" in str(error.__cause__)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("crashes", "its process ended with SIGSEGV: See planted_jobs.py, line 28."),
        ("killed", "its process was killed, as the system does where memory runs out"),
        ("leaves", "its process ended with exit status 143"),
    ],
)
def test_how_a_process_ended_is_said(job: str, said: str) -> None:
    with worker() as one:
        assert list(one.run({"do": job})) == []
        ended = one.close(patience=30)
    assert str(ended) == said
    assert ended.killed is (job == "killed")


def test_an_exit_is_told_as_any_other_failure() -> None:
    with worker() as one:
        (message,) = one.run({"do": "exits"})
    assert message["reason"] == "The model exits Python (code 3). See planted_jobs.py, line 37."
    assert raised(message) is None


def test_one_that_says_nothing_hangs() -> None:
    with worker(silence=2.0) as one:
        assert [message["kind"] for message in one.run({"do": "sleeps"})] in (["begun"], [])
        ended = one.close(patience=600)  # which it does not get
    assert str(ended) == "it said nothing for 2 s"
    assert not ended.killed


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing ends a process that lets no thread run")
@pytest.mark.parametrize("job", ["sleeps", "hangs"])
def test_a_worker_that_hangs_dies_with_its_parent(job: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, job], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not is_gone(pid, 0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert is_gone(pid)


SLEEPER = """
import os, pathlib, sys, time
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        if pathlib.Path(sys.argv[0]).name == "workers.py":  # in a worker
            pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
            time.sleep(600)
        return x + self.map(x)

def build():
    return nn.Sequential(Layer(), nn.Flatten(), nn.LazyLinear(10))
"""
SMALL = "--task scenes --train-limit 64 --evaluation-limit 32 --batch 8 --steps 2 --no-controls --seeds 1 --processes 1"
COMMANDS = {"profile": "--input-shape 2x3x32x32", "train-proxy": SMALL}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing ends a process at once")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_killed_leaves_no_worker_in_a_step_that_hangs(
    command: str, tmp_path: Path, cache: Path, laurel_env: dict[str, str]
) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    words = [sys.executable, "-m", "laurel_cli", command, "sleeper.py:build", "--arms", "baseline,rw"]
    env = laurel_env | {"LAUREL_CACHE": str(cache)}
    with (tmp_path / "said").open("w") as said:
        parent = subprocess.Popen(
            [*words, "--device", "cpu", *COMMANDS[command].split()], env=env, cwd=tmp_path, stdout=said, stderr=said
        )
    until = time.monotonic() + 240
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None, (tmp_path / "said").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)
    pid = int((tmp_path / "pid").read_text())
    assert pid != parent.pid
    assert not is_gone(pid, 0.3)
    parent.kill()
    parent.wait()
    assert is_gone(pid)


def started(parent: int) -> tuple[subprocess.Popen[bytes], int]:
    """A worker started by hand, and what it says."""
    receive, send = os.pipe()
    command = [sys.executable, "-m", "laurel_cli.workers", "planted_jobs", str(send), str(parent)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[send])
    os.close(send)
    return process, receive


@pytest.mark.parametrize(
    ("last", "status"), [(b"", -signal.SIGKILL), (b"null\n", 0)], ids=["a parent that has gone", "the last job"]
)
def test_the_end_of_standard_input_is_the_parents_unless_it_was_said(last: bytes, status: int) -> None:
    """What holds where the kernel tells nothing: here the parent lives on."""
    process, receive = started(os.getpid())
    assert process.stdin is not None
    job = {"do": "sleeps"} if not last else {"do": "double", "value": 1}
    process.stdin.write(json.dumps(job).encode() + b"\n" + last)
    process.stdin.flush()
    with os.fdopen(receive, "rb", buffering=0) as said:
        assert said.readline().startswith(b'{"kind"')
        process.stdin.close()
        assert process.wait(timeout=60) == status


def test_one_whose_parent_has_gone_before_it_began_ends_at_once() -> None:
    process, receive = started(parent=os.getpid() + 1)
    assert process.wait(timeout=60) == -signal.SIGKILL
    os.close(receive)
    assert process.stdin is not None
    process.stdin.close()


def test_time_in_which_both_were_stopped_is_no_silence() -> None:
    """As by a scheduler that suspends a job: for longer than a worker may be silent."""
    with subprocess.Popen([sys.executable, "-c", PATIENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in (parent.pid, pid):
                os.kill(process, number)
            time.sleep(6)
        assert parent.stdout.readline() == "3\n"
        assert parent.wait(60) == 0
