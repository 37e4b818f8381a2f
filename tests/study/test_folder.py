"""The study on disk: what fixes it, what it lacks, who holds it."""

import json
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.proxy.outcome import failure
from laurel_cli.records.store import write
from laurel_cli.study import folder as study
from laurel_cli.study.compare import Prepared, judged
from laurel_cli.study.declaration import Controls, Declaration
from laurel_cli.study.folder import Study
from laurel_cli.verdict.trials import gather
from tests.proxy.small import cnn_recipe


@pytest.fixture
def plan() -> Study:
    return Study("bright", cnn_recipe(), ("baseline", "rw"), (), (0, 1), "data", {"torch": "2.15", "laurel": "abc"}, {})


def put(folder: Path, plan: Study, arm: str, seed: int, status: str = "complete", loss: float = 1.0) -> None:
    content = failure(
        plan,
        plan.contender(arm),
        seed,
        "it crashed",
        command="",
        code=plan.code,
        place={"host": "0" * 16, "attempt": 1},
    )
    if status != "failed":
        content |= {"status": status, "reason": None, "final": {"step": 12, "loss": loss, "accuracy": 0.5}}
    write(folder / "records", "trial", "failed" if status == "failed" else "complete", content)


def test_begun_and_read_again(tmp_path: Path, plan: Study) -> None:
    begun = study.begin(tmp_path / "a", plan, resume=False)
    assert begun == replace(plan, declared=Declaration(arms=(("rw",),), first=2, control_seeds=0))
    assert study.load(tmp_path / "a") == begun
    assert study.missing(tmp_path / "a", plan) == [("baseline", 0), ("rw", 0), ("baseline", 1), ("rw", 1)]


def test_an_unfinished_study_asks_for_resume(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
    with pytest.raises(UsageError, match="`resume=True`"):
        study.begin(tmp_path, plan, resume=False)
    for arm, seed in study.missing(tmp_path, plan):
        put(tmp_path, plan, arm, seed)
    more = study.begin(tmp_path, replace(plan, arms=("baseline", "lr@2"), seeds=(0, 1, 2)), resume=False)
    assert (more.arms, more.seeds) == (("baseline", "rw", "lr@2"), (0, 1, 2))
    lacking = [("lr@2", 0), ("lr@2", 1), ("baseline", 2), ("rw", 2), ("lr@2", 2)]
    assert study.missing(tmp_path, more) == lacking


def test_another_recipe_data_or_code_is_refused_and_named(tmp_path: Path, plan: Study) -> None:
    begun = study.begin(tmp_path, plan, resume=False)
    changes = {
        "recipe.lr was 0.003, is 0.1": replace(plan, recipe=replace(plan.recipe, lr=0.1)),
        "data was data, is other": replace(plan, data="other"),
        "code.torch was 2.15, is 2.16": replace(plan, code={**plan.code, "torch": "2.16"}),
        "code.model.py was absent, is 00": replace(plan, code={**plan.code, "model.py": "00"}),
    }
    for message, changed in changes.items():
        with pytest.raises(RecordError, match=message) as caught:
            study.begin(tmp_path, changed, resume=True)
        assert caught.value.exit_code == 4
    assert study.load(tmp_path) == begun


def test_results_stand_before_failures(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
    put(tmp_path, plan, "rw", 0, "failed")
    put(tmp_path, plan, "rw", 1, "diverged")
    assert ("rw", 0) in study.missing(tmp_path, plan)
    assert ("rw", 1) not in study.missing(tmp_path, plan)
    put(tmp_path, plan, "rw", 0, loss=0.7)
    assert ("rw", 0) not in study.missing(tmp_path, plan)
    arm = gather(["rw"], (0, 1), study.trials(tmp_path)).arm("rw")
    assert arm is not None
    assert {seed: trial["status"] for seed, trial in arm.trials.items()} == {0: "complete", 1: "diverged"}


def test_a_trial_that_was_recorded_twice_is_told(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
    put(tmp_path, plan, "rw", 0, loss=0.7)
    put(tmp_path, plan, "rw", 0, loss=0.8)
    document = judged(Prepared(tmp_path, study.load(tmp_path), ()), "laurel train-proxy")
    assert any("rw, seed 0, has 2 records that differ" in said for said in document["warnings"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "laurel.study/9"}', '{"schema": "laurel.study/1"}'])
def test_a_study_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecordError, match="no study"):
        study.load(tmp_path)
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(RecordError, match=r"study\.json"):
        study.load(tmp_path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("arms", ["baseline", "complete"]),
        ("arms", ["baseline", "rw:lr=x"]),
        ("arms", ["baseline", "[red]"]),
        ("against", ["a/model.py", "b/model.py"]),
        ("recipe.spec", {"x": 1}),
        ("recipe.spec", {"rank": -1}),
        ("recipe.spec", {"rank": "many"}),
        ("declared.controls.positive", "x"),
        ("declared.arms", [["rw", "x"]]),
    ],
)
def test_an_edited_study_that_names_what_there_is_not_is_no_study(
    tmp_path: Path, plan: Study, place: str, value: Any
) -> None:
    study.begin(tmp_path, plan, resume=False)
    path = tmp_path / "study.json"
    whole = json.loads(path.read_text())
    *above, last = place.split(".")
    inner = whole
    for name in above:
        inner = inner[name]
    assert last in inner
    inner[last] = value
    path.write_text(json.dumps(whole))
    with pytest.raises(RecordError, match=r"study\.json"):
        study.load(tmp_path)


def test_an_arm_whose_file_is_not_here_is_asked_for(tmp_path: Path, plan: Study) -> None:
    """The study is sound: the command lacks `--arm-file`."""
    own = replace(plan, code={**plan.code, "arm halved": "00"})
    study.begin(tmp_path, own, resume=False)
    path = tmp_path / "study.json"
    path.write_text(path.read_text().replace('"rw"', '"halved"'))
    with pytest.raises(UsageError, match="halved"):
        study.load(tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
    put(tmp_path, plan, "rw", 0)
    (path,) = (tmp_path / "records").iterdir()
    path.write_text(path.read_text().replace('"loss": 1.0', '"loss": 0.1'))
    with pytest.raises(RecordError, match=path.name):
        study.trials(tmp_path)


@pytest.fixture
def controlled(plan: Study) -> Study:
    controls = Controls("baseline:width=2", ("baseline:lr=0.5", "baseline:lr=2"), "baseline:steps=0.7", 1.25)
    arms = (*plan.arms, "copy", *controls.names)
    declared = Declaration(most=20, worth=0.02, controls=controls)
    return replace(plan, arms=arms, seeds=tuple(range(5)), declared=declared)


def test_what_is_declared_survives_the_disk_and_is_added_to(tmp_path: Path, controlled: Study) -> None:
    begun = study.begin(tmp_path, controlled, resume=True)
    assert begun.declared == replace(controlled.declared, arms=(("rw",),), first=5)
    assert study.load(tmp_path) == begun
    assert study.begin(tmp_path, controlled, resume=True) == begun
    more = replace(controlled, arms=("baseline", "lr@2", "naive+1", *controlled.arms), seeds=tuple(range(7)))
    later = study.begin(tmp_path, more, resume=True)
    assert later.declared == replace(begun.declared, arms=(("rw",), ("lr@2", "naive+1")))
    assert study.begin(tmp_path, controlled, resume=True).declared == later.declared
    names = [one.name for one in later.contenders]
    assert names == ["baseline", "rw", "copy", "lr@2", "naive+1", *controlled.declared.controls.names]
    whole = ("baseline", "rw", "copy", "lr@2", "naive+1", "baseline:width=2")
    expected = {(name, seed) for name in whole for seed in range(7)}
    expected |= {(name, seed) for name in controlled.declared.controls.short for seed in range(3)}
    assert set(study.missing(tmp_path, later)) == expected
    assert len(later.keys) == len(expected)


def test_a_changed_declaration_is_refused_and_named(tmp_path: Path, controlled: Study) -> None:
    begun = study.begin(tmp_path, controlled, resume=True)
    old = controlled.declared
    positive, budget = replace(old.controls, positive="naive+2"), replace(old.controls, budget=None)
    changes = {
        "declared.worth was 0.02, is absent": replace(old, worth=None),
        "declared.most was 20, is 0": replace(old, most=0),
        "declared.control_seeds was 3, is 2": replace(old, control_seeds=2),
        "declared.controls.positive was baseline:width=2, is naive+2": replace(old, controls=positive),
        "declared.controls.budget was baseline:steps=0.7, is absent": replace(old, controls=budget),
    }
    for message, changed in changes.items():
        with pytest.raises(RecordError) as caught:
            study.begin(tmp_path, replace(controlled, declared=changed), resume=True)
        assert message in str(caught.value), str(caught.value)
    counted_anew = replace(old, controls=replace(old.controls, positive_flops_ratio=None))
    assert study.begin(tmp_path, replace(controlled, declared=counted_anew), resume=True) == begun


def test_controls_have_no_more_blocks_than_the_arms(tmp_path: Path, controlled: Study) -> None:
    begun = study.begin(tmp_path / "a", replace(controlled, seeds=(0, 1)), resume=True)
    assert (begun.declared.first, begun.declared.control_seeds, begun.declared.most) == (2, 2, 20)
    at_once = replace(controlled, declared=replace(controlled.declared, most=5))
    assert study.begin(tmp_path / "b", at_once, resume=True).declared.most == 0  # no look is left


def test_a_study_of_before_declares_all_its_arms_and_no_control(tmp_path: Path, plan: Study) -> None:
    old = plan.definition() | {"schema": "laurel.study/1", "arms": ["baseline", "copy", "rw", "baseline:lr=2"]}
    del old["declared"], old["recipe"]["model"]["unwidened"]
    (tmp_path / "study.json").write_text(json.dumps(old))
    found = study.load(tmp_path)
    assert found.declared == Declaration(arms=(("rw", "baseline:lr=2"),), first=2, control_seeds=0)
    assert len(found.keys) == 8
    assert found.recipe == plan.recipe


@pytest.mark.parametrize("folder", ["scenes", "cifar10", "books"])
def test_committed_studies_are_read(folder: str) -> None:
    path = Path(__file__).parents[2] / "reports" / "studies" / folder
    if not (path / "study.json").exists():
        pytest.skip("no such study is committed any more")
    found = study.load(path)
    assert {trial["arm"]["name"] for trial in study.trials(path)} <= {one.name for one in found.contenders}
    assert study.missing(path, found) == []


def test_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "LOCK_SECONDS", 0.3)
    with study.locked(tmp_path, "laurel train-proxy first"):
        with pytest.raises(UsageError, match="another process") as raised, study.locked(tmp_path, "second"):
            pass
        holder = f"Process {os.getpid()} on {platform.node()} holds it: laurel train-proxy first"
        assert raised.value.why == holder
    with study.locked(tmp_path):
        with pytest.raises(UsageError) as raised, study.locked(tmp_path):
            pass
        assert raised.value.why == holder.partition(":")[0]  # this one, and no word of the one before
        (tmp_path / ".lock").write_text("")  # as an older version left it
        with pytest.raises(UsageError, match="does not say"), study.locked(tmp_path):
            pass


def test_what_fixes_a_trial_names_the_default_folder() -> None:
    first, other = cnn_recipe(), cnn_recipe(lr=1.0)
    assert study.default_name(first, "d").startswith("bright-resnet18-")
    assert study.default_name(first, "d") == study.default_name(first, "d")
    assert len({study.default_name(first, "d"), study.default_name(first, "e"), study.default_name(other, "d")}) == 3


def test_the_definition_is_json(plan: Study) -> None:
    definition = plan.definition()
    assert json.loads(json.dumps(definition)) == definition
    assert (definition["arms"], definition["seeds"], definition["steps"]) == (["baseline", "rw"], [0, 1], 12)
