"""Arms with settings are held against the baseline with the same ones: planted gains of these, of the arm, of both."""

from __future__ import annotations

import pytest
from scipy import stats

from laurel_cli.errors import RecordError
from laurel_cli.render import render
from laurel_cli.verdict.document import document, judged
from laurel_cli.verdict.trials import alike
from laurel_cli.verdict.words import control

from .studies import STEPS, arm, controlled, study

UNCONTROLLED = "better, without controls"
LEVEL = 0.05 * 0.9 * 0.8  # of the first look at the arms that were declared first


def longer(trials):
    """Arms that grow have more steps, as their records do."""
    return [
        one | {"final": one["final"] | {"step": STEPS + 130}} if ":grow=" in one["arm"]["name"] else one
        for one in trials
    ]


def said_of(effects):
    defined, trials = controlled(effects)
    return document(defined, longer(trials)), longer(trials)


def test_names():
    assert alike("rw+lr@4:grow=stack") == "baseline:grow=stack"
    assert alike("naive+1:grow=subnets") == "baseline:grow=subnets"
    assert alike("rw:lr=2:init=one:train=lora@4") == "baseline:lr=2:init=one:train=lora@4"
    assert alike("rw:steps=2:train=added") == "baseline:steps=2"  # of a baseline there is nothing to train alone
    plain = ["rw:train=added", "baseline:grow=stack", "copy:grow=stack", "rw", "baseline", "against:wide.py:build"]
    assert not any(map(alike, plain))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("baseline:lr=2", "the baseline at twice the rate"),
        ("baseline:train=lora@4", "the baseline with LoRA of rank 4 trained alone"),
        ("baseline:lr=3:steps=2", "the baseline at 3 times the rate and with 2 of the steps"),
        ("rw:lr=2", "rw:lr=2"),
        ("against:wide.py:build", "against:wide.py:build"),
    ],
)
def test_controls_in_words(name, said):
    assert control(name) == said


@pytest.mark.parametrize("settings", ["train=lora@4", "steps=2", "init=one", "lr=4", "width=2"])
def test_what_settings_gain_without_the_arm_is_not_the_arm_s(settings):
    name, plain = f"rw:{settings}", f"baseline:{settings}"
    defined, trials = controlled({name: -0.08, plain: -0.08})
    found = arm(document(defined, trials), name)
    assert (found["verdict"], found["reason"]) == ("better than the baseline, not than a control", plain)
    assert f"{control(plain)} is better than the baseline too, and the arm is not separated" in found["repair"]
    beyond = arm(document(*controlled({name: -0.12, plain: -0.05})), name)
    assert beyond["verdict"] == "better"
    said = document(*controlled({name: -0.08}))
    assert (arm(said, name)["verdict"], arm(said, name)["reason"]) == (UNCONTROLLED, f"{plain} has no figure")
    line = f"{name} cannot be told from its settings alone: the study has no arm {plain}"
    assert line in said["warnings"]


def test_parameters_that_a_baseline_has_not_need_no_such_control():
    said = document(*controlled({"rw:train=added": -0.08}))
    assert arm(said, "rw:train=added")["verdict"] == "better"
    assert not any("settings alone" in line for line in said["warnings"])


@pytest.mark.parametrize("recipe", ["baseline:init=one", "baseline:lr=4", "baseline:lr=4:init=one"])
def test_a_baseline_of_another_recipe_is_a_control_of_every_arm(recipe):
    said = document(*controlled({"rw": -0.08, "pa": -0.14, recipe: -0.08}, start=1))
    assert (arm(said, "rw")["verdict"], arm(said, "rw")["reason"]) == (
        "better than the baseline, not than a control",
        recipe,
    )
    assert arm(said, "pa")["verdict"] == "better"
    assert arm(said, recipe)["verdict"] == "better"  # it is held against the others, not against itself
    bare, trials = study({"rw": -0.08, recipe: -0.08})  # nobody asked for controls, and still it has the gain
    assert arm(document(bare, trials), "rw")["reason"] == recipe
    assert arm(document(*study({"rw": -0.08})), "rw")["verdict"] == UNCONTROLLED


def test_steps_of_its_own_are_no_steps_saved_and_no_gain_on_the_way():
    defined, trials = controlled({"rw:steps=2": -0.12, "baseline:steps=2": -0.05, "rw": -0.08, "naive+1": -0.06})
    twice = [
        one | {"final": one["final"] | {"step": 2 * STEPS}} if one["arm"]["name"].endswith(":steps=2") else one
        for one in trials
    ]
    said = document(defined, twice)
    found = arm(said, "rw:steps=2")
    assert found["verdict"] == "better"
    assert (found["steps_saved"], found["parameters_saved"], found["gains"]) == (None, None, [])
    assert found["trend"] == "no trend seen"
    assert arm(said, "rw")["steps_saved"]["mean"] > 0
    assert arm(said, "rw")["gains"]
    assert any("another number of steps" in line for line in said["notes"])


def test_growth_s_own_gain_is_not_the_arm_s():
    said, _ = said_of({"rw:grow=stack": -0.06, "baseline:grow=stack": -0.06})
    found = arm(said, "rw:grow=stack")
    assert found["verdict"] == "better than the baseline, not than a control"
    assert found["reason"] == "baseline:grow=stack"
    assert "not than the baseline that grows by stacking" in found["words"]
    assert found["repair"].endswith(
        "growing alone is better than the baseline too, and the arm is not separated from it"
    )
    assert arm(said, "baseline:grow=stack")["verdict"] == "better"
    (over,) = [item for item in found["controls"] if item["control"] == "baseline:grow=stack"]
    assert over["beaten"] is False
    assert over["difference"]["verdict"] == "not separated"


def test_an_arm_that_takes_from_growth_s_gain_is_said_to():
    said, _ = said_of({"rw:grow=stack": -0.06, "baseline:grow=stack": -0.12})
    found = arm(said, "rw:grow=stack")
    assert found["verdict"] == "better than the baseline, not than a control"
    assert found["repair"].endswith("growing alone is better than the baseline too, and the arm is worse than it")
    assert found["repair"] in said["warnings"]


def test_a_gain_beyond_that_of_growth_is_better():
    said, trials = said_of({"rw:grow=stack": -0.12, "baseline:grow=stack": -0.06, "rw:grow=subnets": 0.0})
    found = arm(said, "rw:grow=stack")
    assert found["verdict"] == "better"
    (over,) = [item for item in found["controls"] if item["control"] == "baseline:grow=stack"]
    assert over["difference"]["verdict"] == "better"
    losses = {
        name: {one["seed"]: one["final"]["loss"] for one in trials if one["arm"]["name"] == name}
        for name in ("rw:grow=stack", "baseline:grow=stack")
    }
    differences = [losses["rw:grow=stack"][s] - losses["baseline:grow=stack"][s] for s in losses["rw:grow=stack"]]
    p = stats.ttest_1samp(differences, 0).pvalue
    assert over["difference"]["p"] == pytest.approx(2 * p * 0.05 / LEVEL)  # of the two arms that have such a control
    assert over["difference"]["mean"] == pytest.approx(sum(differences) / len(differences))


def test_without_that_baseline_the_gain_has_no_control():
    said, _ = said_of({"rw:grow=subnets": -0.12})
    found = arm(said, "rw:grow=subnets")
    assert found["verdict"] == "better, without controls"
    assert found["reason"] == "baseline:grow=subnets has no figure"
    line = "rw:grow=subnets cannot be told from its settings alone: the study has no arm baseline:grow=subnets"
    assert line in said["warnings"]


def test_the_order_of_the_two_is_that_one_test():
    defined, trials = controlled({"rw:grow=stack": -0.07, "baseline:grow=stack": -0.06, "pa": -0.01})
    found = judged([defined], longer(trials))
    over = found.finding("rw:grow=stack").over["baseline:grow=stack"]
    assert found.orders["rw:grow=stack", "baseline:grow=stack"] == over
    assert found.orders["baseline:grow=stack", "rw:grow=stack"] == over.reversed()


def test_no_gain_at_a_step_where_less_was_spent():
    said, _ = said_of({"rw:grow=stack": -0.06, "baseline:grow=stack": -0.06, "rw": -0.06})
    assert arm(said, "rw:grow=stack")["gains"] == []
    assert arm(said, "rw")["gains"]
    assert any("more steps, for as many FLOPs" in line for line in said["notes"])


def test_what_a_person_sees():
    said, _ = said_of({"rw:grow=stack": -0.12, "baseline:grow=stack": -0.06})
    shown = render(said, "markdown")
    assert "Loss against that of the baseline with the same settings" in shown
    row = next(line for line in shown.splitlines() if "rw:grow=stack" in line and "baseline:grow=stack" in line)
    assert "better" in row
    plain, _ = said_of({"rw": -0.12})
    assert "same settings" not in render(plain, "markdown")


def test_other_numbers_of_steps_are_still_refused():
    defined, trials = controlled({"rw": -0.06})
    other = [
        one | {"final": one["final"] | {"step": STEPS + 1}} if one["arm"]["name"] == "rw" else one for one in trials
    ]
    with pytest.raises(RecordError, match="numbers of steps"):
        document(defined, other)
