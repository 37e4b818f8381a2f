"""Trials one after the other in a process, as a worker runs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.study import folder as study
from laurel_cli.study.compare import judged, prepare
from laurel_cli.study.plan import StudyPlan
from laurel_cli.study.worker import Compiled, run_trial


@pytest.fixture
def plan(tmp_path: Path, cache: Path) -> StudyPlan:
    task = TaskChoice("stdlib", seq_len=32, train_limit=20_000, evaluation_limit=2_000)
    recipe = Recipe(ModelChoice("paper-c4", layers=(1,), width=16), task, steps=6, batch=8, evaluations=1, lr=0.01)
    return StudyPlan(recipe, "rw", folder=tmp_path / "study", seeds=2, controls=False)


def test_the_record_says_how_the_trial_came_about(plan: StudyPlan) -> None:
    folder = prepare(plan).folder
    content = run_trial(folder, "rw", 1, command="laurel train-proxy")
    (kept,) = study.trials(folder)
    assert kept["final"] == content["final"]
    assert kept["coefficients"] == content["coefficients"]
    assert content["arm"]["spec"]["rw"] is True
    assert content["parameters"]["added"] == 2 * 2  # two connections in one layer
    assert [entry["connection"] for entry in content["coefficients"]] == ["layers.0.laurel0", "layers.0.laurel1"]
    assert content["task"]["classes"] == 256
    assert content["hashes"]["data"] == study.load(folder).data
    assert content["model"]["reference"] == "paper-c4"
    assert not list((folder / "checkpoints").iterdir())


def test_the_baselines_record_says_how_its_branches_start(plan: StudyPlan) -> None:
    folder = prepare(replace(plan, arms="rw,baseline:init=zero")).folder
    found = {
        arm: run_trial(folder, arm, 0, command="").get("start") for arm in ("baseline", "baseline:init=zero", "rw")
    }
    assert found["rw"] is None
    assert [entry["connection"] for entry in found["baseline"]] == ["layers.0:0", "layers.0:1"]
    assert all(entry["ratio"] > 0 for entry in found["baseline"])
    assert found["baseline:init=zero"] == [{**entry, "ratio": 0.0} for entry in found["baseline"]]


def test_data_that_has_changed_is_never_trained_on(plan: StudyPlan) -> None:
    prepared = prepare(plan)
    study.begin(prepared.folder / "other", replace(prepared.study, data="0" * 64), resume=False)
    with pytest.raises(RecordError, match="changed"):
        run_trial(prepared.folder / "other", "rw", 0, command="")


def test_an_arm_of_another_study(plan: StudyPlan) -> None:
    with pytest.raises(UsageError, match="no arm"):
        run_trial(prepare(plan).folder, "lr@4", 0, command="")


def test_a_trial_alone_is_compiled_too(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `--trial` runs it, for a scheduler or torchrun: there are no models of other seeds."""
    seen: list[str] = []

    def compiled(model: torch.nn.Module) -> torch.nn.Module:
        seen.append(type(model).__name__)
        return model

    monkeypatch.setattr(torch, "compile", compiled)
    for asked, expected in ((False, []), (True, ["Decoder"])):
        recipe = replace(plan.recipe, compile=asked)
        folder = prepare(replace(plan, recipe=recipe, folder=plan.folder and plan.folder / str(asked))).folder
        run_trial(folder, "rw", 0, command="")
        assert seen == expected


@pytest.mark.slow
def test_an_arm_is_compiled_once_for_all_seeds(plan: StudyPlan, tmp_path: Path) -> None:
    eager = prepare(plan).folder
    compiled = prepare(replace(plan, recipe=replace(plan.recipe, compile=True), folder=tmp_path / "compiled")).folder
    models: Compiled = {}
    for seed in (0, 1):
        expected = run_trial(eager, "rw", seed, command="")["final"]["loss"]
        found = run_trial(compiled, "rw", seed, command="", compiled=models)["final"]["loss"]
        assert found == pytest.approx(expected, rel=1e-4)
    assert list(models) == ["rw"]


def test_what_building_the_arm_had_to_say_is_in_the_record_and_in_the_verdict(plan: StudyPlan) -> None:
    """rezero adds nothing of a branch at the start; rw starts as the baseline does."""
    prepared = prepare(replace(plan, arms="rw,rezero"))
    found = {arm: run_trial(prepared.folder, arm, 0, command="") for arm in ("baseline", "rw", "rezero")}
    assert found["rezero"]["warnings"] == ["does not start as the baseline"]
    assert found["rezero"]["arm"]["starts"] == "no"
    for arm in ("baseline", "rw"):
        assert "warnings" not in found[arm]
        assert "starts" not in found[arm]["arm"]
    assert "rezero: does not start as the baseline" in judged(prepared, "")["warnings"]
