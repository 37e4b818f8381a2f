"""The study on disk: what fixes it, what it lacks, who holds it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from laurel_cli.errors import RecordError, UsageError
from laurel_cli.proxy import study
from laurel_cli.proxy.outcome import failure
from laurel_cli.proxy.study import Study
from laurel_cli.records.store import write
from tests.proxy.small import cnn_recipe


@pytest.fixture
def plan() -> Study:
    return Study("bright", cnn_recipe(), ("baseline", "rw"), (), (0, 1), "data", {"torch": "2.15", "laurel": "abc"}, {})


def put(folder: Path, plan: Study, arm: str, seed: int, status: str = "complete", loss: float = 1.0) -> None:
    content = failure(plan, plan.contender(arm), seed, "it crashed", command="")
    if status != "failed":
        content |= {"status": status, "reason": None, "final": {"step": 12, "loss": loss, "accuracy": 0.5}}
    write(folder / "records", "trial", "failed" if status == "failed" else "complete", content)


def test_begun_and_read_again(tmp_path: Path, plan: Study) -> None:
    assert study.begin(tmp_path / "a", plan, resume=False) == plan
    assert study.load(tmp_path / "a") == plan
    assert study.missing(tmp_path / "a", plan) == [("baseline", 0), ("rw", 0), ("baseline", 1), ("rw", 1)]


def test_an_unfinished_study_asks_for_resume(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
    with pytest.raises(UsageError, match="--resume"):
        study.begin(tmp_path, plan, resume=False)
    for arm, seed in study.missing(tmp_path, plan):
        put(tmp_path, plan, arm, seed)
    more = study.begin(tmp_path, replace(plan, arms=("baseline", "lr@2"), seeds=(0, 1, 2)), resume=False)
    assert (more.arms, more.seeds) == (("baseline", "rw", "lr@2"), (0, 1, 2))
    lacking = [("lr@2", 0), ("lr@2", 1), ("baseline", 2), ("rw", 2), ("lr@2", 2)]
    assert study.missing(tmp_path, more) == lacking


def test_another_recipe_data_or_code_is_refused_and_named(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
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
    assert study.load(tmp_path) == plan


def test_results_stand_before_failures(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
    put(tmp_path, plan, "rw", 0, "failed")
    put(tmp_path, plan, "rw", 1, "diverged")
    assert ("rw", 0) in study.missing(tmp_path, plan)
    assert ("rw", 1) not in study.missing(tmp_path, plan)
    put(tmp_path, plan, "rw", 0, loss=0.7)
    assert ("rw", 0) not in study.missing(tmp_path, plan)
    found = {(t["arm"]["name"], t["seed"]): t["status"] for t in study.trials(tmp_path)}
    assert found == {("rw", 0): "complete", ("rw", 1): "diverged"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "laurel.study/9"}', '{"schema": "laurel.study/1"}'])
def test_a_study_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecordError, match="no study"):
        study.load(tmp_path)
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(RecordError, match=r"study\.json"):
        study.load(tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path, plan: Study) -> None:
    study.begin(tmp_path, plan, resume=False)
    put(tmp_path, plan, "rw", 0)
    (path,) = (tmp_path / "records").iterdir()
    path.write_text(path.read_text().replace('"loss": 1.0', '"loss": 0.1'))
    with pytest.raises(RecordError, match=path.name):
        study.trials(tmp_path)


def test_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "LOCK_SECONDS", 0.3)
    with study.locked(tmp_path), pytest.raises(UsageError, match="another process"), study.locked(tmp_path):
        pass
    with study.locked(tmp_path):
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
