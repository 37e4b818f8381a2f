"""Which controls a study carries, held against another counter of FLOPs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from laurel_cli.errors import UsageError
from laurel_cli.proxy.contenders import parse_contenders
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.start import start
from laurel_cli.study import controls, search
from laurel_cli.study.compare import prepare
from laurel_cli.study.declaration import Declaration
from laurel_cli.study.folder import begin
from laurel_cli.study.plan import StudyPlan
from laurel_cli.tasks import Task
from tests.proxy.small import image_task, planned, small_study, text_task

CASES = [
    (ModelChoice("timm:resnet18", layers=(1, 1, 1, 1), width=16, stem=2), image_task(8, 32)),
    (ModelChoice("timm:resnet18", layers=(1, 1, 1, 1), width=6, stem=1), image_task(8, 16)),
    (ModelChoice("paper-c4", layers=(2,), width=64), text_task()),
    (ModelChoice("llama-3-8b", layers=(1,), width=64), text_task()),
]


def flops(arm: str, recipe: Recipe, task: Task) -> int:
    """Of one example, by torch's own counter, which leaves out attention on the CPU in some versions."""
    one = parse_contenders(arm)[-1]
    model = start(one, one.recipe(recipe), task, 0).model.eval()
    image = task.kind == "image"
    x = torch.zeros(1, 3, *task.train.pixels.shape[1:3]) if image else torch.zeros(1, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops()


@pytest.mark.parametrize(("choice", "task"), CASES)
def test_the_positive_control_costs_about_a_quarter_more(choice: ModelChoice, task: Task) -> None:
    recipe = Recipe(choice, TaskChoice("x"), channels_last=False)  # which the narrowest could not be trained with
    name = controls.wider(recipe, task)
    assert name is not None
    wide = parse_contenders(name)[-1].recipe(recipe).model.width
    step = 2 if choice.reference.startswith("timm") else 4  # two heads of even size
    own = flops("baseline", recipe, task)
    near = [w for w in (wide - step, wide, wide + step) if w > choice.width]
    ratios = {w: flops(f"baseline:width={w / choice.width:g}", recipe, task) / own for w in near}
    assert min(ratios, key=lambda w: abs(ratios[w] - 1.25)) == wide
    assert ratios[wide] == pytest.approx(
        1.25, abs=0.15 if choice.width > 6 else 0.6
    )  # of six channels the next even width is a third more
    found = controls.cost(parse_contenders(name)[-1], recipe, task)
    assert found == pytest.approx(ratios[wide], rel=0.01)  # attention


def test_what_other_arms_cost() -> None:
    task = text_task()
    recipe = Recipe(ModelChoice("paper-c4", layers=(2,), width=64), TaskChoice("x"))
    deeper, longer = (controls.cost(one, recipe, task) for one in parse_contenders("naive+1,baseline:steps=1.5")[1:])
    assert deeper == pytest.approx(flops("naive+1", recipe, task) / flops("baseline", recipe, task), rel=0.01)
    assert longer == 1.5


def test_a_model_without_a_width_is_not_widened() -> None:
    assert controls.wider(Recipe(ModelChoice("timm:resnet18"), TaskChoice("x")), image_task()) is None


@pytest.fixture
def plan(tmp_path: Path, cache: Path):
    task = TaskChoice("stdlib", seq_len=16, train_limit=5_000, evaluation_limit=1_000)

    def make(arms: str, layers: int = 2, **changes) -> StudyPlan:
        recipe = Recipe(ModelChoice("paper-c4", layers=(layers,), width=16), task, steps=6, batch=8, evaluations=1)
        return StudyPlan(recipe, arms, **{"folder": tmp_path / "study", "seeds": 4, "resume": True} | changes)

    return make


def test_a_study_declares_its_controls(plan) -> None:
    begun = prepare(plan("rw,copy"))
    declared = begun.study.declared
    assert declared.arms == (("rw",),)
    assert declared.controls.recipe == ("baseline:lr=0.5", "baseline:lr=2")
    assert declared.controls.positive.startswith("baseline:width=1.")
    assert 1 < declared.controls.positive_flops_ratio < 1.5  # the next width but one; heads of even size
    assert [one.name for one in begun.study.contenders] == ["baseline", "rw", "copy", *declared.controls.names]
    assert prepare(plan("rw,copy")).study == begun.study
    alone = prepare(plan("rw,copy", controls=False, folder=begun.folder / "alone")).study
    none = {"positive": None, "recipe": [], "budget": None, "positive_flops_ratio": None}
    assert alone.declared.plain()["controls"] == none
    short = prepare(plan("rw", steps_saved=False, folder=begun.folder / "short")).study
    assert short.declared.controls.budget is None


def test_what_the_model_cannot_have_is_neither_trained_nor_declared(plan) -> None:
    """A single layer has no equal neighbour that could be repeated."""
    begun = prepare(plan("rw,naive+1", layers=1, positive="naive+2"))
    assert begun.study.declared.arms == (("rw",),)
    assert begun.study.declared.controls.positive is None
    assert begun.study.declared.controls.positive_flops_ratio is None
    assert not any(one.arm.kind.is_scaling for one in begun.study.contenders)
    said = [warning.partition(":")[0] for warning in begun.warnings[-2:]]
    assert said == ["naive+1 is left out", "naive+2 is left out, a control"]
    assert prepare(plan("rw,naive+1", layers=1, positive="naive+2")).study == begun.study


def test_a_control_that_is_an_arm_as_well_is_declared_a_control(plan) -> None:
    study = prepare(plan("rw,naive+1,baseline:lr=2", positive="naive+1")).study
    assert study.declared.controls.positive == "naive+1"
    assert study.declared.arms == (("rw",),)
    assert study.arms.count("naive+1") == study.arms.count("baseline:lr=2") == 1


@pytest.mark.parametrize(("steps", "ratio"), [(8, 2.6), (40, None)])
def test_evaluations_that_take_longer_than_training_are_said(
    steps: int, ratio: float | None, tmp_path: Path, cache: Path
) -> None:
    """A step is three passes over 8 windows of 32 tokens; each of 8 evaluations one over 62 of them."""
    asked = small_study(tmp_path / "study", steps=steps, seeds=1, controls=False, evaluations=8)
    said = [one for one in prepare(planned(asked)).warnings if "compute of training" in one]
    if ratio is None:
        assert not said
    else:
        assert ratio == round(8 * 62 / (3 * 8 * steps), 1)
        assert f"8 evaluations of 1,984 tokens take {ratio} times" in said[0]
        assert "evaluation_limit" not in said[0]  # of tokens that are few already


def test_a_positive_control_with_more_steps_has_the_baseline_s_rate(plan) -> None:
    """In a search; one that is wider has one of its own, and so has an arm."""
    study = prepare(plan("rw,copy", positive="baseline:steps=1.25")).study
    found = {one.name for one in study.contenders if search._is_as_baseline(one, study.declared.controls)}
    short = ("baseline:lr=0.5", "baseline:lr=2", "baseline:steps=0.7")
    assert found == {"copy", "baseline:steps=1.25", *short}
    wide = prepare(plan("rw,baseline:steps=1.25", folder=plan("rw").folder / "wide")).study
    found = {one.name for one in wide.contenders if search._is_as_baseline(one, wide.declared.controls)}
    assert found == {*short}


def test_a_search_that_the_study_has_not_begun_with_is_refused(plan) -> None:
    begun = prepare(plan("rw"))
    with pytest.raises(UsageError, match="without a search"):
        prepare(plan("rw", rates=3))
    assert prepare(plan("rw")).study == begun.study


@pytest.mark.parametrize("rates", [2, 3, 5])
def test_a_search_of_other_rates_is_refused(rates: int, plan) -> None:
    """The study as a search of three or two rates leaves it; nothing of it is trained here."""
    for tried in (2, 3):
        asked = plan("rw", rates=tried, controls=False)
        names = tuple(
            search._at(name, factor, asked) for name in ("baseline", "rw") for factor in search._factors(asked)
        )
        plain = prepare(plan("rw", controls=False, folder=asked.folder / str(tried))).study
        folder = asked.folder / str(tried)
        begin(folder / search.FOLDER, replace(plain, arms=names, declared=Declaration(control_seeds=1)), resume=True)
        old = replace(plain, rates={"baseline": 1.0, "rw": 1.0})
        search.check(replace(asked, rates=0), old, folder)
        if rates == tried:
            search.check(asked, old, folder)
        else:
            with pytest.raises(UsageError, match=f"tried {tried} learning rates"):
                search.check(replace(asked, rates=rates), old, folder)
