"""Trials in processes of their own: what one of them does to itself, it does to nobody else."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from laurel_cli.errors import HeldError
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.study import claim
from laurel_cli.study import folder as study
from laurel_cli.study.compare import compare, prepare
from laurel_cli.study.executors import local
from laurel_cli.study.plan import StudyPlan
from laurel_cli.study.run import Happening, Resources, ordered
from tests.proxy.small import MODELS

LIMITS = {"train_limit": 128, "evaluation_limit": 64}


@pytest.fixture
def plan(tmp_path: Path, cache: Path):
    """A study of a user's model on few digit scenes."""
    (tmp_path / "models.py").write_text(MODELS)

    def make(arms: str = "baseline,rw", *against: str, **changes) -> StudyPlan:
        values = {"steps": 6, "batch": 16, "evaluations": 1, "evaluation_batch": 64} | changes
        seeds = values.pop("seeds", 1)
        recipe = Recipe(ModelChoice(f"{tmp_path}/models.py:build"), TaskChoice("scenes", **LIMITS), **values)
        rivals = tuple(f"{tmp_path}/models.py:{name}" for name in against)
        folder = tmp_path / "study"
        return StudyPlan(recipe, arms, rivals, seeds=seeds, folder=folder, resume=True, controls=False, processes=2)

    return make


def ran(plan: StudyPlan) -> tuple[dict, list[Happening]]:
    seen: list[Happening] = []
    return compare(plan, prepare(plan), on_event=seen.append), seen


def statuses(folder: Path) -> dict[tuple[str, int], tuple[str, str | None]]:
    return {(t["arm"]["name"], t["seed"]): (t["status"], t["reason"]) for t in study.trials(folder)}


def test_a_study_from_beginning_to_end(plan, tmp_path: Path) -> None:
    document, seen = ran(plan("baseline,naive+1,rw", seeds=2))
    assert document["schema"] == "laurel.train-proxy/2"
    assert [arm["name"] for arm in document["arms"]] == ["baseline", "naive+1", "rw"]
    assert {status for status, _ in statuses(tmp_path / "study").values()} == {"complete"}
    assert len(study.trials(tmp_path / "study")) == 6
    assert not list((tmp_path / "study" / "checkpoints").iterdir())
    kinds = [happening.kind for happening in seen if (happening.arm, happening.seed) == ("rw", 1)]
    assert kinds[0] == "begun"
    assert kinds[-1] == "done"
    trial = study.trials(tmp_path / "study")[-1]
    assert trial["hashes"]["start"] == study.trials(tmp_path / "study")[1]["hashes"]["start"]
    assert trial["task"]["train_examples"] == 128
    assert trial["evaluations"][-1]["loss"] == trial["final"]["loss"]

    again, seen = ran(plan("baseline,naive+1,rw", seeds=2))
    assert not seen  # the same study again costs nothing
    assert again["arms"] == document["arms"]


def test_a_crash_is_one_trial_s_own(plan, tmp_path: Path) -> None:
    document, _ = ran(plan("baseline", "bad", "killed", "exploding"))
    by_arm = {arm.rpartition(":")[2]: found for (arm, _), found in statuses(tmp_path / "study").items()}
    assert by_arm["baseline"] == ("complete", None)
    assert by_arm["bad"][0] == "failed"
    assert re.fullmatch(r"RuntimeError: a bug in the user's model\. See models\.py, line \d+\.", by_arm["bad"][1])
    assert by_arm["killed"][0] == "failed"
    assert "killed" in by_arm["killed"][1]
    assert by_arm["exploding"][0] == "diverged"
    failed = {arm["name"].rpartition(":")[2]: arm["failed"] for arm in document["arms"]}
    assert failed["baseline"] == 0
    assert failed["bad"] == failed["killed"] == 1


@pytest.mark.slow
def test_stopped_it_leaves_checkpoints_and_resumes_to_the_same_end(plan, tmp_path: Path, monkeypatch) -> None:
    whole, _ = ran(plan(steps=300, seeds=1))
    losses = {key: trial["final"] for key, trial in keyed(tmp_path / "study").items()}
    (tmp_path / "study").rename(tmp_path / "first")

    stopped = plan(steps=300, seeds=1)
    seen: list[Happening] = []

    def event(happening: Happening) -> None:
        seen.append(happening)
        if happening.kind == "point" and happening.message["step"] >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(stopped, prepare(stopped), on_event=event)
    assert list((tmp_path / "study" / "checkpoints").glob("*.pt"))
    again, _ = ran(stopped)
    assert {key: trial["final"] for key, trial in keyed(tmp_path / "study").items()} == losses
    assert again["arms"] == whole["arms"]


def keyed(folder: Path) -> dict[tuple[str, int], dict]:
    return {(trial["arm"]["name"], trial["seed"]): trial for trial in study.trials(folder)}


@pytest.mark.slow
def test_a_worker_whose_parent_is_killed_ends_too(plan, tmp_path: Path) -> None:
    """The lock is the study's until its last process has ended."""
    long = plan(steps=100_000)
    prepared = prepare(long)
    pid = os.fork()
    if not pid:
        try:
            with study.locked(prepared.folder) as lock:
                keys = study.missing(prepared.folder, prepared.study)
                local.run(prepared.folder, keys, Resources(processes=1, lock=lock), lambda happening: None)
        finally:  # whatever happens: this copy never goes on with the tests
            os._exit(0)
    until = time.monotonic() + 120
    while not list((prepared.folder / "checkpoints").glob("*.pt")) and time.monotonic() < until:
        time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with study.locked(prepared.folder):
        assert list((prepared.folder / "checkpoints").glob("*.pt"))
    assert threading.active_count() < 20


@pytest.mark.slow
def test_search_gives_every_arm_its_own_rate(plan, tmp_path: Path) -> None:
    searched = replace(plan("baseline,rw,copy"), rates=2)
    ran(searched)
    rates = study.load(tmp_path / "study").rates
    assert rates["copy"] == rates["baseline"]
    tried = keyed(tmp_path / "study" / "search")
    assert len(tried) == 4
    for arm in ("baseline", "rw"):
        own = {t["arm"]["lr_factor"]: t["final"]["loss"] for (n, _), t in tried.items() if n.partition(":")[0] == arm}
        assert sorted(own) == pytest.approx([3**-0.5, 3**0.5], rel=1e-4)
        assert rates[arm] == pytest.approx(min(own, key=own.__getitem__), rel=1e-4)
    factors = {name: t["arm"]["lr_factor"] for (name, _), t in keyed(tmp_path / "study").items()}
    assert factors == pytest.approx(rates)
    document, _ = ran(replace(plan("baseline,rw,copy,pa,pa:lr=2"), rates=2, resume=True))
    later = {name: t["arm"]["lr_factor"] for (name, _), t in keyed(tmp_path / "study").items()}
    assert later == pytest.approx(rates | {"pa": rates["baseline"], "pa:lr=2": 2})
    said = [one for one in document["warnings"] if "search of learning rates" in one]
    assert said == ["pa was no part of the search of learning rates: it is trained at the baseline's"]


@pytest.mark.slow
def test_controls_are_run_beside_the_arms_in_fewer_blocks(plan, tmp_path: Path) -> None:
    controls = {"controls": True, "control_seeds": 2, "positive": "naive+1"}
    controlled = replace(plan("rw", steps=10, seeds=3), rates=2, processes=1, **controls)
    document, _ = ran(controlled)
    found = keyed(tmp_path / "study")
    whole, short = ("baseline", "rw", "naive+1"), ("baseline:lr=0.5", "baseline:lr=2", "baseline:steps=0.7")
    assert set(found) == {(arm, seed) for arm in whole for seed in range(3)} | {(a, s) for a in short for s in range(2)}
    assert {found[arm, 0]["final"]["step"] for arm in (*whole, *short[:2])} == {10}
    budget, base = found["baseline:steps=0.7", 0], found["baseline", 0]
    assert [entry["step"] for entry in budget["evaluations"]] == [7]
    # The last step before zero: one of nine after a warm-up of one, one of six.
    last = [trial["curve"][-1]["learning_rate"] for trial in (budget, base)]
    assert last[0] == pytest.approx(last[1] * 9 / 6)
    # The rates of controls are factors on the one that the search has found for the baseline.
    factors = {name: trial["arm"]["lr_factor"] for (name, _), trial in found.items()}
    assert factors["baseline:steps=0.7"] == factors["baseline"]
    assert factors["baseline:lr=2"] == pytest.approx(2 * factors["baseline"])
    assert factors["baseline:lr=0.5"] == pytest.approx(0.5 * factors["baseline"])
    assert {name.partition(":lr")[0] for name, _ in keyed(tmp_path / "study" / "search")} == set(whole)
    assert document["arms"]
    declared = found["rw", 0]["study"]["definition"]["declared"]
    assert declared["arms"] == [["rw"]]
    assert declared["controls"]["positive"] == "naive+1"


def test_blocks_are_whole_early_and_compiled_arms_together() -> None:
    keys = [("rw", 1), ("baseline", 1), ("rw", 0), ("baseline", 0)]
    arms = ["baseline", "rw"]
    assert ordered(keys, arms, by_arm=False) == [("baseline", 0), ("rw", 0), ("baseline", 1), ("rw", 1)]
    assert ordered(keys, arms, by_arm=True) == [("baseline", 0), ("baseline", 1), ("rw", 0), ("rw", 1)]


@pytest.mark.slow
def test_a_trial_that_another_process_holds_is_left_to_it_and_the_others_are_run(plan, tmp_path: Path) -> None:
    wanted = replace(plan("baseline,rw", seeds=2), processes=1)
    prepared = prepare(wanted)
    folder = prepared.folder
    (folder / "checkpoints").mkdir(exist_ok=True)
    with claim.held(study.checkpoint_path(folder, "rw", 0)):  # this very process, which is alive
        with pytest.raises(HeldError, match="1 trial is being run by other processes: rw:0") as error:
            compare(wanted, prepared)
        assert f"Process {os.getpid()}" in error.value.why
        assert {key for key, (status, _) in statuses(folder).items() if status == "complete"} == {
            ("baseline", 0),
            ("baseline", 1),
            ("rw", 1),
        }
    compare(wanted, prepared)  # given back: the same command again
    assert {status for status, _ in statuses(folder).values()} == {"complete"}
    assert len(statuses(folder)) == 4
