"""Verdicts on studies whose truth is known: planted effects, none at all, trials that failed or never ran."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from laurel_cli.errors import RecordError
from laurel_cli.verdict.document import document, separated

from .studies import LEVEL, PLAIN, STEPS, arm, definition, losses, study, trial, verdicts, without


def test_planted_effects_are_found_and_nothing_else():
    said = document(*study({"naive+1": -0.06, "rw": -0.06, "lr@16": 0.06, "pa": 0.0}))
    assert verdicts(said) == {"naive+1": PLAIN, "rw": PLAIN, "lr@16": "worse", "pa": "not separated"}
    assert said["learned"] is True
    assert (said["status"], said["n"], said["metric"], said["schema"]) == (
        "complete",
        5,
        "loss",
        "laurel.train-proxy/2",
    )
    assert "keeps the sign" in said["notes"][-1]
    assert not separated(said)
    assert any("no control was held against the gain" in line for line in said["warnings"])
    assert arm(said, "rw")["words"] == "better than the baseline (no control of the recipe was run)"


def test_figures_are_those_of_scipy():
    """Holm written out for two arms: the smaller p against half of the look's level, then the other against all."""
    defined, trials = study({"naive+1": -0.006, "rw": -0.03}, start=3)
    said = document(defined, trials)
    base = losses(trials, "baseline")
    p = {}
    for name in ("naive+1", "rw"):
        own = losses(trials, name)
        truth = stats.ttest_rel([own[s] for s in base], [base[s] for s in base])
        p[name] = truth.pvalue
        found = arm(said, name)
        ends = truth.confidence_interval(found["difference"]["confidence"])
        assert (found["difference"]["low"], found["difference"]["high"]) == pytest.approx((ends.low, ends.high))
        assert found["mean"] == pytest.approx(np.mean(list(own.values())))
        assert found["correlation"] == pytest.approx(np.corrcoef(list(own.values()), list(base.values()))[0, 1])
        # A fifth of such studies would miss an effect of this size.
        sd = np.std([own[s] - base[s] for s in base], ddof=1)
        centre = found["smallest_visible"]["value"] / sd * math.sqrt(5)
        assert stats.nct.sf(stats.t.ppf(1 - LEVEL / 4, 4), 4, centre) == pytest.approx(0.8, abs=1e-3)
        ends = [found["smallest_visible"]["value"] * math.sqrt(4 / stats.chi2.ppf(q, 4)) for q in (0.975, 0.025)]
        assert (found["smallest_visible"]["low"], found["smallest_visible"]["high"]) == pytest.approx(ends)
        # What is excluded holds for both arms together.
        within = truth.confidence_interval(1 - LEVEL / 2)
        assert (found["excluded"]["low"], found["excluded"]["high"]) == pytest.approx((within.low, within.high))
    assert p["rw"] < p["naive+1"]
    assert arm(said, "rw")["difference"]["p"] == pytest.approx(2 * p["rw"] * 0.05 / LEVEL)
    assert arm(said, "rw")["difference"]["confidence"] == pytest.approx(1 - LEVEL / 2)
    assert arm(said, "naive+1")["difference"]["p"] == pytest.approx(max(2 * p["rw"], p["naive+1"]) * 0.05 / LEVEL)
    # rw against naive+1 is a family of its own, with one member.
    own, other = losses(trials, "rw"), losses(trials, "naive+1")
    truth = stats.ttest_rel([own[s] for s in base], [other[s] for s in base])
    assert arm(said, "rw")["to_naive"]["p"] == pytest.approx(truth.pvalue * 0.05 / LEVEL)
    assert arm(said, "rw")["to_naive"]["verdict"] == ("better" if truth.pvalue < LEVEL else "not separated")
    assert arm(said, "naive+1")["to_naive"] is None


def test_wrong_verdicts_are_rare_where_no_arm_differs():
    """A/A: three arms and a copy that are all the baseline again."""
    runs, wrong, alarms = 300, 0, 0
    for start in range(runs):
        said = document(*study(dict.fromkeys(("naive+1", "rw", "lr@16", "copy"), 0.0), seeds=3, start=start))
        wrong += any(word != "not separated" for word in verdicts(said).values())
        floor = said["noise_floor"]
        alarms += floor["low"] > 0 or floor["high"] < 0
    assert wrong / runs < 0.08  # 0.05 and 2.4 standard errors
    assert 0.01 < alarms / runs < 0.09


def test_the_order_of_records_changes_nothing():
    defined, trials = study({"rw": -0.02, "lr@16": 0.0})
    said = json.dumps(document(defined, trials))
    random.Random(0).shuffle(trials)
    assert json.dumps(document(defined, [*trials, trials[0]])) == said


@pytest.mark.parametrize(("status", "word"), [("diverged", "unstable"), ("failed", "failed")])
def test_nothing_is_claimed_of_an_arm_that_lost_a_trial(status, word):
    """Its other trials are shown, but to leave one out would favour it."""
    defined, trials = study({"rw": -0.08, "lr@16": -0.08})
    broken = [*without(trials, ("rw", 1)), trial("rw", 1, None, status=status)]
    said = document(defined, broken)
    found, base, own = arm(said, "rw"), losses(trials, "baseline"), losses(trials, "rw")
    assert found["difference"]["mean"] == pytest.approx(np.mean([own[s] - base[s] for s in (0, 2, 3, 4)]))
    assert (found["n"], found["failed"], found["verdict"]) == (4, 1, word)
    assert found["words"] == f"{word}: 1 of 5 {status}"
    assert found["trials"][1] == {"seed": 1, "status": status, "loss": None, "reason": f"rw {status} at step 7"}
    # It stays in the family: the other arm is tested as one of two.
    assert arm(said, "lr@16")["verdict"] == PLAIN
    assert arm(said, "lr@16")["difference"]["confidence"] == pytest.approx(1 - LEVEL / 2)
    own = losses(trials, "lr@16")
    truth = stats.ttest_rel([own[s] for s in base], [base[s] for s in base])
    assert arm(said, "lr@16")["difference"]["p"] == pytest.approx(2 * truth.pvalue * 0.05 / LEVEL)
    assert any(f"rw: 1 of 5 trials {status}" in line for line in said["warnings"])


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_nothing_is_claimed_where_the_baseline_lost_a_trial(status):
    defined, trials = study({"rw": -0.08})
    said = document(defined, [*without(trials, ("baseline", 2)), trial("baseline", 2, None, status=status)])
    assert verdicts(said) == {"rw": "withheld"}
    assert "the baseline is" in said["withheld"]


@pytest.mark.parametrize("loss", [math.nan, math.inf, None])
def test_a_loss_that_is_no_number_has_diverged(loss):
    defined, trials = study({"rw": -0.05})
    trials[-1]["final"]["loss"] = loss
    found = arm(document(defined, trials), "rw")
    assert (found["n"], found["failed"], found["trials"][4]["status"]) == (4, 1, "diverged")
    assert found["trials"][4]["reason"] == "its final loss is no number"
    assert found["verdict"] == "unstable"
    assert math.isfinite(found["mean"])


def test_an_arm_of_which_nothing_is_left_failed():
    defined, trials = study({"rw": -0.08, "lr@16": -0.08})
    kept = [item for item in trials if item["arm"]["name"] != "rw"]
    said = document(defined, kept + [trial("rw", seed, None, status="failed") for seed in range(5)])
    assert arm(said, "rw")["verdict"] == "failed"
    assert arm(said, "rw")["difference"] is None
    # It was one of two comparisons, made or not.
    assert arm(said, "lr@16")["difference"]["confidence"] == pytest.approx(1 - LEVEL / 2)
    assert separated(said)


def test_an_unfinished_study_withholds_its_verdicts():
    defined, trials = study({"rw": -0.08, "lr@16": -0.08})
    said = document(defined, [item for item in trials if item["arm"]["name"] != "lr@16" and item["seed"] < 3])
    assert said["status"] == "partial"
    assert set(verdicts(said).values()) == {"withheld"}
    assert {item["status"] for item in arm(said, "lr@16")["trials"]} == {"missing"}
    assert any("9 of 15 trials are missing" in line for line in said["warnings"])
    assert document(defined, [])["learned"] is None


def test_accuracies_have_an_interval_as_losses_have():
    defined, trials = study({"rw": -0.05})
    for number, one in enumerate(trials):
        one["final"]["accuracy"] = 0.7 + 0.01 * (number % 3)
    own = [one["final"]["accuracy"] for one in trials if one["arm"]["name"] == "rw"]
    found = arm(document(defined, trials), "rw")
    ends = stats.t.interval(0.95, len(own) - 1, np.mean(own), stats.sem(own))
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx(ends)


def test_one_seed_and_one_arm():
    one = document(*study({"rw": -0.05}, seeds=1))
    found = arm(one, "rw")
    assert (found["verdict"], found["difference"]["p"], found["difference"]["high"]) == ("withheld", None, math.inf)
    assert any("one block has no interval" in line for line in one["warnings"])
    alone = document(*study({}))
    assert verdicts(alone) == {}
    assert any("nothing to compare" in line for line in alone["warnings"])


def test_a_seed_that_does_not_reach_the_run_proves_nothing():
    """Every block the same, to the last bit: an infinite t-statistic, and no evidence."""
    trials = [trial(name, seed, loss) for name, loss in (("baseline", 0.8), ("rw", 0.7)) for seed in range(5)]
    said = document(definition(["baseline", "rw"], 5), trials)
    assert arm(said, "rw")["verdict"] == "not separated"
    assert arm(said, "rw")["words"] == "not separated, and nothing is excluded"
    assert any("the same in all 5 blocks" in line for line in said["warnings"])


@pytest.mark.parametrize(("base", "learned"), [(0.69, True), (0.71, False)])
def test_nothing_is_ranked_where_the_proxy_has_not_learned(base, learned):
    effects = {"naive+1": -0.05, "rw": -0.05}
    defined, trials = study(effects, base=base * math.log(10), block_sd=0.001, sd=0.001)
    said = document(defined, trials)
    assert said["learned"] is learned
    assert arm(said, "rw")["verdict"] == (PLAIN if learned else "withheld")
    assert any("has not learned" in line for line in said["warnings"]) != learned


@pytest.mark.parametrize("fields", [{"chance_loss": None}, {"chance_loss": 0.0}])
def test_an_unknown_chance_withholds(fields):
    defined, trials = study({"rw": -0.08})
    said = document(defined, [item | fields for item in trials])
    assert said["learned"] is None
    assert verdicts(said) == {"rw": "withheld"}
    assert "cannot be said" in said["withheld"]


@pytest.mark.parametrize(("accuracy", "learned"), [(0.38, True), (0.35, False)])
def test_accuracies_alone_are_judged_by_their_wrong_answers(accuracy, learned):
    """Ten classes: chance is wrong in 0.9 of the answers, so below 0.63 has learned."""
    defined, trials = study({"rw": -0.05})
    for item in trials:
        better = 0.01 * (item["arm"]["name"] == "rw") + 0.0001 * item["seed"] * (1 + (item["arm"]["name"] == "rw"))
        item |= {"metric": "accuracy", "chance_loss": None}
        item["final"] = {"step": STEPS, "loss": None, "accuracy": accuracy + better}
    said = document(defined, trials)
    assert said["learned"] is learned
    assert (said["metric"], arm(said, "rw")["verdict"]) == ("accuracy", PLAIN if learned else "withheld")


def test_an_extra_block_that_hurts_means_that_the_budget_was_short():
    said = document(*study({"naive+1": 0.08, "rw": -0.08}))
    assert any("the budget was too short" in line for line in said["warnings"])
    assert arm(said, "rw")["parameters_saved"] is None
    assert not any("the budget" in line for line in document(*study({"naive+1": -0.08, "rw": -0.08}))["warnings"])


def test_the_noise_floor_is_that_of_unpaired_runs():
    """The copy has seeds of its own, so it does not share its block's draw: the sd is that of two runs' difference."""
    rng = np.random.default_rng(1)
    defined, trials = study({"copy": 0.0}, seeds=400, block_sd=0.05, sd=0.0)
    for item in trials[400:]:
        item["final"]["loss"] = float(rng.normal(0.8, 0.05))
    said = document(defined, trials)
    assert said["noise_floor"]["arm"] == "copy"
    assert said["noise_floor"]["sd"] == pytest.approx(math.sqrt(2) * 0.05, rel=0.1)
    without_it = document(definition(["baseline"], 400), trials[:400])
    assert without_it["noise_floor"]["arm"] is None
    assert without_it["noise_floor"]["sd"] == pytest.approx(math.sqrt(2) * 0.05, rel=0.1)
    # A control is no claim: the others are corrected as if it were not there.
    found = document(*study({"copy": 0.0, "rw": -0.08}))
    assert arm(found, "rw")["difference"]["confidence"] == pytest.approx(1 - LEVEL)
    assert separated(found)


def test_a_copy_that_differs_is_an_alarm():
    said = document(*study({"copy": 0.08, "rw": 0.0}))
    assert any("own copy differs" in line for line in said["warnings"])


def test_parameters_saved_at_equal_loss():
    """naive+1 gains 0.06 with 10,000 parameters; rw gains half of it with 32, and so saves 5,000 - 32."""
    said = document(*study({"naive+1": -0.06, "rw": -0.03, "lr@16": -0.09, "pa": 0.02}, sd=0.001))
    found = arm(said, "rw")["parameters_saved"]
    assert found["mean"] == pytest.approx(4_968, rel=0.05)
    assert found["low"] < 4_968 < found["high"]
    assert not found["at_least"]
    beyond = arm(said, "lr@16")["parameters_saved"]
    assert beyond == {"mean": 8_000, "low": 8_000, "high": math.inf, "at_least": True}
    assert arm(said, "pa")["parameters_saved"] is None
    assert arm(said, "naive+1")["parameters_saved"] is None
    unclear = document(*study({"naive+1": 0.0, "rw": -0.08}))
    assert arm(unclear, "rw")["parameters_saved"] is None
    assert any("naive+1 is not better" in line for line in unclear["notes"])


def test_between_two_looks_the_verdict_is_that_of_the_last_one():
    defined, trials = study({"rw": -0.015}, seeds=10, sd=0.01, start=2)
    base, own = losses(trials, "baseline"), losses(trials, "rw")

    def at(n):
        return document(
            defined | {"seeds": list(range(n))} | {"declared": declared},
            [item for item in trials if item["seed"] < n],
        )

    declared = {"arms": [["rw"]], "first": 5, "most": 0, "metric": "loss", "worth": None, "controls": {}}
    first, between, second = at(5), at(8), at(10)
    for said, n, level in ((first, 5, LEVEL), (second, 10, 0.05 * 0.9 * 0.1)):
        truth = stats.ttest_rel([own[s] for s in range(n)], [base[s] for s in range(n)])
        found = arm(said, "rw")
        assert found["difference"]["p"] == pytest.approx(min(1.0, truth.pvalue * 0.05 / level))
        assert found["difference"]["confidence"] == pytest.approx(1 - level)
        assert (found["verdict"] == PLAIN) == (truth.pvalue < level)
    assert arm(between, "rw")["difference"] == arm(first, "rw")["difference"]
    assert arm(between, "rw")["verdict"] == arm(first, "rw")["verdict"]
    assert any("the next look is at 10" in line for line in between["warnings"])


def test_two_results_of_one_trial_are_not_chosen_by_figure():
    defined, trials = study({"rw": -0.05})
    retried = document(defined, [*trials, trial("rw", 0, None, status="failed")])
    assert arm(retried, "rw")["failed"] == 0
    chosen = set()
    for own, other in itertools.combinations([0.6 + 0.01 * i for i in range(6)], 2):
        for first, second in ((own, other), (other, own)):
            said = document(defined, [*trials[:5], trial("rw", 0, first), trial("rw", 0, second), *trials[6:]])
            assert any("2 records that differ" in line for line in said["warnings"])
            chosen.add(arm(said, "rw")["trials"][0]["loss"] == min(own, other))
    assert chosen == {True, False}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"task": {"name": "digits", "sha256": "dd"}}, "tasks"),
        ({"model": {"reference": "m", "architecture": "bb"}}, "models"),
        ({"final": {"step": 300, "loss": 0.9}}, "numbers of steps"),
    ],
)
def test_trials_that_cannot_be_compared_are_not(fields, what):
    defined, trials = study({"rw": -0.05})
    with pytest.raises(RecordError, match=f"of 2 {what}"):
        document(defined, [*trials[:-1], trial("rw", 4, 0.7, **fields)])


def test_arms_that_share_no_seed_are_compared_by_welch():
    rng = np.random.default_rng(5)
    figures = {"baseline": rng.normal(0.8, 0.01, 5), "rw": rng.normal(0.75, 0.02, 5)}
    trials = [
        trial(name, 100 * number + i, float(loss))
        for number, (name, values) in enumerate(figures.items())
        for i, loss in enumerate(values)
    ]
    said = document({"arms": ["baseline", "rw"], "steps": STEPS}, trials)
    truth = stats.ttest_ind(figures["rw"], figures["baseline"], equal_var=False)
    assert arm(said, "rw")["difference"]["p"] == pytest.approx(min(1.0, truth.pvalue * 0.05 / LEVEL))
    assert arm(said, "rw")["verdict"] == PLAIN


def test_reading_needs_no_torch():
    script = "import sys, laurel_cli.verdict.document; assert not {'torch', 'scipy', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
