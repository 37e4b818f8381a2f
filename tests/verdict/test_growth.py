"""Arms that grow are held against the baseline that grows alike: planted gains of growth, of the arm, of both."""

from __future__ import annotations

import pytest
from scipy import stats

from laurel_cli.errors import RecordError
from laurel_cli.render import render
from laurel_cli.verdict.document import document, judged
from laurel_cli.verdict.trials import grown_alike

from .studies import STEPS, arm, controlled

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
    assert grown_alike("rw+lr@4:grow=stack") == grown_alike("rw:lr=2:grow=stack") == "baseline:grow=stack"
    assert grown_alike("naive+1:grow=subnets") == "baseline:grow=subnets"
    assert not any(map(grown_alike, ["baseline:grow=stack", "copy:grow=stack", "rw", "rw:lr=2", "baseline"]))


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
    p = stats.ttest_1samp(differences, 0).pvalue  # the only arm that grows so: nothing but the look is corrected for
    assert over["difference"]["p"] == pytest.approx(p * 0.05 / LEVEL)
    assert over["difference"]["mean"] == pytest.approx(sum(differences) / len(differences))


def test_without_that_baseline_the_gain_has_no_control():
    said, _ = said_of({"rw:grow=subnets": -0.12})
    found = arm(said, "rw:grow=subnets")
    assert found["verdict"] == "better, without controls"
    assert found["reason"] == "baseline:grow=subnets has no figure"
    line = "rw:grow=subnets cannot be told from growth alone: the study has no arm baseline:grow=subnets"
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
    assert "Loss against that of the baseline that grows alike" in shown
    row = next(line for line in shown.splitlines() if "rw:grow=stack" in line and "baseline:grow=stack" in line)
    assert "better" in row
    plain, _ = said_of({"rw": -0.12})
    assert "grows alike" not in render(plain, "markdown")


def test_other_numbers_of_steps_are_still_refused():
    defined, trials = controlled({"rw": -0.06})
    other = [
        one | {"final": one["final"] | {"step": STEPS + 1}} if one["arm"]["name"] == "rw" else one for one in trials
    ]
    with pytest.raises(RecordError, match="numbers of steps"):
        document(defined, other)
