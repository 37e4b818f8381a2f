"""How a run ends, on a clock and on processes that are scripted."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from laurel_cli.latency import profile as module
from laurel_cli.latency.job import Job
from laurel_cli.latency.plan import ProfilePlan
from laurel_cli.latency.processes import OutOfMemory
from laurel_cli.latency.profile import Profile, profile
from laurel_cli.latency.schedule import fitted

ARMS = ("baseline", "copy", "naive+1", "rw", "lr@4")


class Machine:
    """Stands in for processes and clock. Memory takes 5 s, the start of a process 4 s, a round of all arms 0.5 s.

    Arms take as long as `truth` says, times an offset of the process with a standard deviation of `spread`.
    """

    def __init__(self, truth: dict[str, float] | None = None, spread: float = 0.002) -> None:
        self.now, self.truth, self.spread = 1000.0, truth or {}, spread
        self.draw = random.Random(0)
        self.jobs: list[Job] = []
        self.slow = 1.0  # what a process takes beyond the forecast

    def messages(self, job: Job) -> Iterator[dict[str, Any]]:
        self.jobs.append(job)
        yield {
            "kind": "ready",
            "arms": list(ARMS),
            "work": (1, "samples"),
            "input": "x",
            "source": "",
            "architecture": "",
        }
        if job.task == "memory":
            self.now += 5
            for arm in ARMS:
                yield {"kind": "peak", "arm": arm, "bytes": 10, "static_bytes": 5, "predicted_bytes": None}
            return
        self.now += 4 * self.slow
        order = self.draw.sample(ARMS, len(ARMS))
        yield {"kind": "built", "order": order}
        for arm in order:
            yield {"kind": "warm", "arm": arm, "first": 0.1, "settled": 0.1, "calls": 4}
        assert job.until is not None
        placements, seconds = fitted(job.placements, job.seconds, job.until - self.now, 0.5)
        yield {"kind": "plan", "placements": placements, "seconds": seconds, "round": 0.5}
        offsets = {arm: math.exp(self.draw.gauss(0, self.spread)) for arm in ARMS}
        for placement in range(placements):
            self.now += 0.5 * self.slow
            for _ in range(5):
                self.now += 0.5 * self.slow
                seconds_of = {arm: 0.1 * self.truth.get(arm, 1.0) * offsets[arm] for arm in ARMS}
                yield {"kind": "sample", "placement": placement, "order": order, "seconds": seconds_of}
        used = {"calls": 5, "seconds": 0.5, "page_faults": 10, "system_seconds": 0.001}
        yield {"kind": "usage", "arms": dict.fromkeys(ARMS, used)}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(module, "messages", found.messages)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def run(machine: Machine, notes: list[str] | None = None, **options: Any) -> tuple[Profile, float]:
    """The profile and the seconds that it took."""
    work = {"mode": "infer", "dtype": "float32", "compile": False, "channels_last": False}
    job = Job("time", "model", {"batch": 4}, ",".join(ARMS), {}, [], work, "cpu", 1, seed=0)
    began = machine.now
    found = profile(ProfilePlan(job, **options), on_note=(notes if notes is not None else []).append)
    return found, machine.now - began


def test_a_run_ends_by_precision_and_not_before_the_first_look(machine: Machine) -> None:
    found, _ = run(machine, precision=0.5)
    assert found.document()["protocol"]["processes"] == found.samples.first_look == 7  # of three arms
    assert found.document()["protocol"]["processes_needed"] < 7


def test_every_interval_is_then_as_narrow_as_was_asked(machine: Machine) -> None:
    found, _ = run(machine, precision=0.003, max_time=1e6)
    document = found.document()
    protocol = document["protocol"]
    assert protocol["processes"] == protocol["processes_needed"] > 7
    for arm in document["arms"][2:]:
        assert arm["ratio"]["high"] / arm["ratio"]["low"] - 1 < 0.003
    assert not any("wider" in warning for warning in document["warnings"])


@pytest.mark.parametrize("max_time", [60.0, 150.0, 400.0])
def test_max_time_keeps_its_word(machine: Machine, max_time: float) -> None:
    found, took = run(machine, precision=1e-9, max_time=max_time)
    assert took <= max_time
    assert took > 0.7 * max_time
    wide = next(warning for warning in found.document()["warnings"] if "wider" in warning)
    assert "fitted in" in wide


def test_a_time_that_is_too_short_is_said_before_the_first_sample(machine: Machine) -> None:
    notes: list[str] = []
    found, took = run(machine, notes, max_time=60.0)
    (said,) = notes
    # 5 s of memory, seven processes of 4 s and four placements of six rounds of 0.5 s
    assert "takes about 117 s" in said
    assert "7 processes of 1 placement will be run, about 54 s" in said
    assert took == pytest.approx(54)
    assert found.document()["notes"] == notes
    assert len(found.samples.whole()) == 7


def test_the_first_process_is_run_however_short_the_time_is(machine: Machine) -> None:
    notes: list[str] = []
    found, took = run(machine, notes, max_time=1.0)
    assert "1 process of 1 placement will be run, about 12 s" in notes[0]
    assert took == pytest.approx(12)
    document = found.document()
    assert document["protocol"]["processes"] == 1
    assert all(arm["ratio"]["low"] is None for arm in document["arms"][1:])
    assert {arm["ratio"]["verdict"] for arm in document["arms"][1:]} == {"not separated"}


def test_processes_that_are_demanded_are_run_and_their_time_is_said(machine: Machine) -> None:
    notes: list[str] = []
    found, took = run(machine, notes, max_time=1.0, processes=3)
    assert "3 processes of 1 placement will be run, about 26 s" in notes[0]
    assert took == pytest.approx(26)
    assert found.document()["protocol"]["processes"] == 3


def test_a_long_enough_time_is_no_matter(machine: Machine) -> None:
    notes: list[str] = []
    run(machine, notes, precision=0.5, max_time=200.0)
    assert notes == []


def test_a_machine_that_becomes_slower_is_not_given_more_processes(machine: Machine) -> None:
    first = machine.messages

    def slower(job: Job) -> Iterator[dict[str, Any]]:
        machine.slow = 3.0 if job.process >= 2 else 1.0
        return first(job)

    module.messages = slower  # the fixture takes it back
    _, took = run(machine, precision=1e-9, max_time=150.0)
    assert took < 1.4 * 150


def test_memory_that_runs_out_does_not_begin_the_time_anew(machine: Machine) -> None:
    first = machine.messages

    def small(job: Job) -> Iterator[dict[str, Any]]:
        for message in first(job):
            yield message
            if job.options["batch"] > 1 and job.process == 1 and message["kind"] == "warm":
                raise OutOfMemory("rw", "no more")

    module.messages = small  # the fixture takes it back
    notes: list[str] = []
    found, took = run(machine, notes, precision=1e-9, max_time=150.0)
    assert found.batch == 1
    assert took <= 150
    assert [note for note in notes if "batch 4" in note and "batch 2" in note]


def test_two_families_and_a_control_that_stands_apart(machine: Machine) -> None:
    """Against naive+1 an arm may be faster that is slower than the baseline."""
    machine.truth = {"naive+1": 1.10, "rw": 1.02}
    found, _ = run(machine, precision=0.02, max_time=1e6)
    document = found.document()
    arms = {arm["name"]: arm for arm in document["arms"]}
    assert list(arms) == list(ARMS)
    assert document["protocol"]["families"] == {"baseline": ["naive+1", "rw", "lr@4"], "naive+1": ["rw", "lr@4"]}
    assert [arms[name]["ratio"]["verdict"] for name in ARMS[1:4]] == ["not separated", "slower", "slower"]
    assert [arms[name]["to_naive"] and arms[name]["to_naive"]["verdict"] for name in ARMS] == [
        None, None, None, "faster", "faster"
    ]  # fmt: skip
    assert arms["rw"]["to_naive"]["median"] == pytest.approx(1.02 / 1.10, rel=0.005)
    assert arms["copy"]["ratio"]["confidence"] == 0.95
    assert arms["copy"]["ratio"]["p"] == arms["copy"]["ratio"]["p_holm"]
    # Tested in the order of their p-values: naive+1, then rw, then lr@4.
    assert arms["naive+1"]["ratio"]["confidence"] == pytest.approx(1 - 0.05 / 3)
    assert arms["rw"]["ratio"]["confidence"] == pytest.approx(1 - 0.05 / 2)
    assert arms["lr@4"]["ratio"]["confidence"] == pytest.approx(0.95)


def test_the_record_says_in_which_order_arms_were_built_and_what_they_cost_the_system(machine: Machine) -> None:
    found, _ = run(machine, precision=0.5)
    record = found.record()
    assert len(record["builds"]) == 7
    assert all(sorted(order) == sorted(ARMS) for order in record["builds"])
    assert record["arms"][0]["page_faults"] == 2
    assert record["arms"][0]["system_share"] == pytest.approx(0.002)
    assert [usage["rw"]["page_faults"] for usage in record["usage"]] == [10] * 7


def test_an_interruption_shows_what_there_is(machine: Machine) -> None:
    first = machine.messages

    def stopped(job: Job) -> Iterator[dict[str, Any]]:
        for number, message in enumerate(first(job)):
            yield message
            if job.process == 3 and number == 15:  # after some rounds of a placement that is not whole
                raise KeyboardInterrupt

    module.messages = stopped  # the fixture takes it back
    found, _ = run(machine)
    document = found.document()
    assert (document["status"], document["protocol"]["processes"]) == ("partial", 4)
    assert document["protocol"]["placements"] == 3 * 4 + 1
