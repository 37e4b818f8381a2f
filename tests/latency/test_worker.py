"""One process: what it says, in which order it builds, how it keeps to its time. Small models of the user's own."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laurel_cli.latency.allocator import _libc, variables
from laurel_cli.latency.job import Job
from laurel_cli.latency.worker import _models, _round, measure
from laurel_cli.latency.workload import Step
from laurel_cli.laurel.build import laurel_layers

MODELS = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))

def build():
    return nn.Sequential(Layer(), Layer())

def other():
    return nn.Sequential(Layer(), Layer(), Layer())

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(8, 8)

    def forward(self, x):
        return torch.ones(6_000_000) + self.map(x).sum()

def wide():
    return Wide()
"""
NAMES = ["baseline", "copy", "naive+1", "rw", "lr@2"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    # It would hold for the rest of this process: what later tests fork would end at once.
    monkeypatch.setattr("laurel_cli.models.guard.keep_apart", lambda tell: None)
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    work = {"mode": "infer", "dtype": "float32", "compile": False, "channels_last": False}
    options = {"batch": 1, "input_shape": (2, 8)}
    against = [f"{path}:other"]
    return Job("time", f"{path}:build", options, ",".join(NAMES), {}, against, work, "cpu", None, seed=0, seconds=0.0)


def said(job: Job) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    measure(found.append, job)
    return found


def of(kind: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in found if message["kind"] == kind]


def test_arms_are_built_in_random_order_and_the_order_is_said(job: Job) -> None:
    orders = []
    for process in range(4):
        found = said(replace(job, process=process, placements=1))
        (built,), (ready,) = of("built", found), of("ready", found)
        assert ready["arms"] == [*NAMES, *job.against]  # for tables: as asked for
        assert sorted(built["order"]) == sorted(ready["arms"])
        assert [message["arm"] for message in of("warm", found)] == built["order"]
        orders.append(tuple(built["order"]))
    assert len(set(orders)) > 1
    assert len({order[0] for order in orders} | {order[-1] for order in orders}) > 2  # not the baseline alone moves
    again = of("built", said(replace(job, process=3, placements=1)))
    assert tuple(again[0]["order"]) == orders[3]


def test_no_learned_sum_is_timed_where_it_starts(job: Job) -> None:
    """Where a and b are 1 the sum is the baseline's own addition, and takes as long: no trained model's is."""
    arms = "baseline,copy,rw,rw+pa,rw+lr@2,rezero"
    models = {name: model for name, model, _ in _models(replace(job, arms=arms, against=[]), lambda message: None)}
    layers = {name: laurel_layers(model).values() for name, model in models.items()}
    assert [len(found) for found in layers.values()] == [0, 0, 2, 2, 2, 2]
    for name in ("rw", "rw+pa", "rw+lr@2"):
        for layer in layers[name]:
            found = layer.coefficients()
            for value, start in ((found["a"], 1), (found["b"], 1), *((c, 0) for c in found["c"] or ())):
                assert 0 < abs(value - start) < 0.2
    assert all(layer.coefficients()["a"] != 0 for layer in layers["rezero"])
    assert [message["learns"] for message in of("ready", said(replace(job, placements=1)))] == [True]
    alone = replace(job, arms="baseline,copy", placements=1)
    assert [message["learns"] for message in of("ready", said(alone))] == [False]


def test_the_plan_comes_before_the_first_sample(job: Job) -> None:
    found = said(replace(job, placements=2))
    kinds = [message["kind"] for message in found]
    assert kinds.index("plan") < kinds.index("sample")
    (plan,) = of("plan", found)
    assert plan["round"] > 0
    assert plan["placements"] == 2
    samples = of("sample", found)
    assert [message["placement"] for message in samples] == [0] * 5 + [1] * 5
    assert kinds[-2:] == ["usage", "facts"]  # `laurel_cli.workers` adds "done"


def test_no_placement_begins_after_its_time(job: Job) -> None:
    found = said(replace(job, until=time.monotonic() - 100))
    assert {message["placement"] for message in of("sample", found)} == {0}
    assert len(of("sample", found)) == 5


def test_what_each_arm_asked_of_the_system_is_said(job: Job) -> None:
    found = said(replace(job, placements=1))
    (usage,) = of("usage", found)
    assert set(usage["arms"]) == {*NAMES, *job.against}
    for name, used in usage["arms"].items():
        samples = [message["seconds"][name] for message in of("sample", found)]
        assert used["calls"] % len(samples) == 0
        assert used["seconds"] == pytest.approx(sum(samples) * used["calls"] / len(samples))
        assert used["page_faults"] >= 0


def test_peaks_by_counting_are_those_of_training_alone(job: Job) -> None:
    train = said(replace(job, task="memory", work=job.work | {"mode": "train"}))
    for message in of("peak", train):
        assert message["predicted_bytes"] == pytest.approx(message["bytes"], rel=0.05)
    assert all(message["predicted_bytes"] is None for message in of("peak", said(replace(job, task="memory"))))


BLOCKS = """
import resource, torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
each = []
for number in range(25):
    before = faults()
    torch.zeros(16_000_000).add_(1)
    each.append(faults() - before)
print(sorted(each[5:])[10])
"""


@pytest.mark.skipif(not _libc().startswith("glibc"), reason="the C library is not glibc")
def test_a_workers_memory_is_kept() -> None:
    """Blocks of 64 MB, 15,625 pages each: more than the 32 MB up to which glibc itself learns to keep them.

    Of the usual block: now and then a small one takes its place's beginning, and the next is a new one.
    """
    faults = {}
    for name in ("keep", "default"):
        plain = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
        done = subprocess.run(
            [sys.executable, "-c", BLOCKS],
            env=plain | variables(name, "cpu"),
            capture_output=True,
            text=True,
            check=True,
        )
        faults[name] = float(done.stdout)
    assert faults["keep"] < 100 < 1000 < faults["default"]


class Clock:
    """In a device's place: writes down which arm was run, and whether its time was taken for the sample."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.timed: list[tuple[str, int]] = []

    def step(self, name: str) -> Step:
        return Step(lambda: self.runs.append(name), lambda: self.runs.append(f"reset {name}"), lambda: iter(()))

    def time(self, call: Any, repeats: int) -> float:
        before = len(self.runs)
        for _ in range(repeats):
            call()
        self.timed.append((self.runs[before], repeats))
        return float(len(self.timed))


def test_a_call_that_is_not_timed_goes_before_every_sample_of_a_short_arm() -> None:
    """Else an arm pays for what the arm before has left in the caches, and arms that share code pay less."""
    clock = Clock()
    steps = {name: clock.step(name) for name in ("short", "other", "long")}
    took = _round(steps, {"short": 3, "other": 1, "long": 1}, {"short", "other"}, clock, random.Random(0))  # type: ignore[arg-type]
    place = {name: clock.timed.index((name, 3 if name == "short" else 1)) for name in steps}
    assert clock.runs.count("short") == 1 + 3
    assert clock.runs.count("other") == 1 + 1
    assert clock.runs.count("long") == 1
    assert clock.timed[place["short"] - 1] == ("short", 1)  # right before it, no other arm in between
    # The clock says 1, 2, 3, ... for a call: the sample is the later of an arm's two.
    for name, repeats in (("short", 3), ("other", 1), ("long", 1)):
        last = max(i for i, (arm, _) in enumerate(clock.timed) if arm == name)
        assert took[name].seconds == (last + 1) * repeats
        assert took[name].calls == repeats
        assert clock.runs.count(f"reset {name}") == (1 if name == "long" else 2)
