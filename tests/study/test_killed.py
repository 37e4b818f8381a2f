"""A study that is killed with signal 9 at random times, ten times over, ends as if it had not been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 10
ARMS = "baseline,rw+lr+pa@2"
OPTIONS = [
    "--task",
    "scenes",
    "--width",
    "8",
    "--arms",
    ARMS,
    "--no-controls",
    "--seeds",
    "2",
    "--steps",
    "120",
    "--batch",
    "32",
]
LIMITS = ["--train-limit", "2000", "--evaluation-limit", "200", "--device", "cpu", "--format", "json"]


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "laurel_cli", "train-proxy", *OPTIONS, *LIMITS, "--study", str(folder)]


@pytest.mark.slow
def test_killed_ten_times_it_ends_the_same(laurel_env: dict[str, str], tmp_path: Path, cache: Path) -> None:
    env = laurel_env | {"LAUREL_CACHE": str(cache)}
    whole = subprocess.run(command(tmp_path / "whole"), env=env, capture_output=True, text=True, check=True)
    expected = json.loads(whole.stdout)["arms"]
    draw, killed, number = random.Random(0), 0, 0
    while killed < KILLS:  # a study that comes to its end is followed by another one
        folder = tmp_path / f"killed-{number}"
        process = subprocess.Popen(
            [*command(folder), "--resume"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=draw.uniform(2, 9))
        except subprocess.TimeoutExpired:
            # Half of the time the command alone is killed, and the system ends its workers; half of the time all are.
            victims = [process.pid] if draw.random() < 0.5 else [process.pid, *children(process.pid)]
            for victim in victims:
                os.kill(victim, signal.SIGKILL)
            process.communicate()
            killed += 1
        else:
            assert json.loads(out)["arms"] == expected
            number += 1
    last = subprocess.run(
        [*command(folder), "--resume"], env=env, capture_output=True, text=True, check=True, timeout=200
    )
    assert json.loads(last.stdout)["arms"] == expected
    assert [arm["n"] for arm in expected] == [2, 2]
    assert not list((folder / "checkpoints").glob("*.pt"))


def children(pid: int) -> list[int]:
    """Processes that `pid` has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
