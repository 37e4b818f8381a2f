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
from laurel_cli.verdict.paired import Look, looks
from laurel_cli.proxy.verdict import document, separated

from .studies import STEPS, arm, definition, study, trial


def losses(trials, name):
    return {item["seed"]: item["final"]["loss"] for item in trials if item["arm"]["name"] == name and item["final"]}


def test_planted_effects_are_found_and_nothing_else():
    said = document(*study({"naive+1": -0.06, "rw": -0.04, "lr@16": 0.05, "pa": 0.0}))
    assert [item["verdict"] for item in said["arms"]] == [None, "better", "better", "worse", "not separated"]
    assert said["learned"] is True
    assert (said["status"], said["n"], said["metric"], said["schema"]) == (
        "complete",
        5,
        "loss",
        "laurel.train-proxy/1",
    )
    assert not said["warnings"]
    assert "keeps the sign" in said["notes"][-1]
    assert not separated(said)


def test_figures_are_those_of_scipy():
    """Holm written out for two arms: the smaller p against 0.025, then the other against 0.05."""
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
        # A fifth of such studies would miss an effect of this size at half of 5 %.
        sd = np.std([own[s] - base[s] for s in base], ddof=1)
        centre = found["smallest_visible"] / sd * math.sqrt(5)
        assert stats.nct.sf(stats.t.ppf(1 - 0.025 / 2, 4), 4, centre) == pytest.approx(0.8, abs=1e-3)
    assert p["rw"] < p["naive+1"]
    assert arm(said, "rw")["difference"]["p"] == pytest.approx(2 * p["rw"])
    assert arm(said, "rw")["difference"]["confidence"] == pytest.approx(0.975)
    assert arm(said, "naive+1")["difference"]["p"] == pytest.approx(max(2 * p["rw"], p["naive+1"]))
    # rw against naive+1 is a family of its own, with one member.
    own, other = losses(trials, "rw"), losses(trials, "naive+1")
    truth = stats.ttest_rel([own[s] for s in base], [other[s] for s in base])
    assert arm(said, "rw")["to_naive"]["p"] == pytest.approx(truth.pvalue)
    assert arm(said, "rw")["to_naive"]["verdict"] == "better"
    assert arm(said, "naive+1")["to_naive"] is None


def test_wrong_verdicts_are_rare_where_no_arm_differs():
    """A/A: three arms and a copy that are all the baseline again."""
    runs, wrong, alarms = 400, 0, 0
    for start in range(runs):
        said = document(*study(dict.fromkeys(("naive+1", "rw", "lr@16", "copy"), 0.0), seeds=3, start=start))
        verdicts = {item["name"]: item["verdict"] for item in said["arms"]}
        alarms += verdicts.pop("copy") != "not separated"
        wrong += any(word in ("better", "worse") for word in verdicts.values())
    assert wrong / runs < 0.08  # 0.05 and 2.7 standard errors
    assert 0.01 < alarms / runs < 0.08


def test_the_order_of_records_changes_nothing():
    defined, trials = study({"rw": -0.02, "lr@16": 0.0})
    said = json.dumps(document(defined, trials))
    random.Random(0).shuffle(trials)
    assert json.dumps(document(defined, [*trials, trials[0]])) == said


def test_a_failed_trial_takes_its_block_from_that_arm_alone():
    defined, trials = study({"rw": -0.05, "lr@16": -0.05})
    broken = [item for item in trials if (item["arm"]["name"], item["seed"]) not in (("rw", 1), ("rw", 3))]
    broken += [trial("rw", 1, None, status="diverged"), trial("rw", 3, None, status="failed")]
    said = document(defined, broken)
    found, base, own = arm(said, "rw"), losses(trials, "baseline"), losses(trials, "rw")
    assert found["difference"]["mean"] == pytest.approx(np.mean([own[s] - base[s] for s in (0, 2, 4)]))
    assert (found["n"], found["failed"], found["difference"]["n"]) == (3, 2, 3)
    assert [item["status"] for item in found["trials"]] == ["complete", "diverged", "complete", "failed", "complete"]
    assert found["trials"][1] == {"seed": 1, "status": "diverged", "loss": None, "reason": "rw diverged at step 7"}
    assert arm(said, "lr@16")["difference"]["n"] == 5
    assert said["status"] == "complete"
    assert any("rw: 1 of 5 trials diverged" in line for line in said["warnings"])


@pytest.mark.parametrize("loss", [math.nan, math.inf, None])
def test_a_loss_that_is_no_number_has_diverged(loss):
    defined, trials = study({"rw": -0.05})
    trials[-1]["final"]["loss"] = loss
    found = arm(document(defined, trials), "rw")
    assert (found["n"], found["failed"], found["trials"][4]["status"]) == (4, 1, "diverged")
    assert found["trials"][4]["reason"] == "its final loss is no number"
    assert math.isfinite(found["mean"])


def test_an_arm_of_which_nothing_is_left_failed():
    defined, trials = study({"rw": -0.05, "lr@16": -0.05})
    kept = [item for item in trials if item["arm"]["name"] != "rw"]
    said = document(defined, kept + [trial("rw", seed, None, status="failed") for seed in range(5)])
    assert arm(said, "rw")["verdict"] == "failed"
    assert arm(said, "rw")["difference"] is None
    # It was one of two comparisons, made or not.
    assert arm(said, "lr@16")["difference"]["confidence"] == pytest.approx(0.975)
    assert separated(said)


def test_an_unfinished_study_says_so():
    defined, trials = study({"rw": -0.05, "lr@16": -0.05})
    said = document(defined, [item for item in trials if item["arm"]["name"] != "lr@16" and item["seed"] < 3])
    assert said["status"] == "partial"
    assert arm(said, "lr@16")["verdict"] == "not separated"
    assert {item["status"] for item in arm(said, "lr@16")["trials"]} == {"missing"}
    assert any("9 of 15 trials are missing" in line for line in said["warnings"])
    assert document(defined, [])["learned"] is None


def test_a_baseline_that_failed_leaves_nothing_to_compare():
    defined, trials = study({"rw": -0.05})
    said = document(defined, trials[5:] + [trial("baseline", seed, None, status="failed") for seed in range(5)])
    assert said["learned"] is None
    assert [item["verdict"] for item in said["arms"]] == ["failed", "not separated"]
    assert any("cannot be said" in line for line in said["warnings"])


def test_one_seed_and_one_arm():
    one = document(*study({"rw": -0.05}, seeds=1))
    found = arm(one, "rw")
    assert (found["verdict"], found["difference"]["p"], found["difference"]["high"]) == ("not separated", 1.0, math.inf)
    assert any("one block has no interval" in line for line in one["warnings"])
    alone = document(*study({}))
    assert [item["verdict"] for item in alone["arms"]] == [None]
    assert any("nothing to compare" in line for line in alone["warnings"])


def test_a_seed_that_does_not_reach_the_run_proves_nothing():
    """Every block the same, to the last bit: an infinite t-statistic, and no evidence."""
    trials = [trial(name, seed, loss) for name, loss in (("baseline", 0.8), ("rw", 0.7)) for seed in range(5)]
    said = document(definition(["baseline", "rw"], 5), trials)
    assert arm(said, "rw")["verdict"] == "not separated"
    assert any("the same in all 5 blocks" in line for line in said["warnings"])


@pytest.mark.parametrize(("base", "learned"), [(0.69, True), (0.71, False)])
def test_nothing_is_ranked_where_the_proxy_has_not_learned(base, learned):
    effects = {"naive+1": -0.05, "rw": -0.05}
    defined, trials = study(effects, base=base * math.log(10), block_sd=0.001, sd=0.001)
    said = document(defined, trials)
    assert said["learned"] is learned
    verdict = "better" if learned else "not separated"
    assert arm(said, "rw")["verdict"] == verdict
    assert arm(said, "rw")["steps_saved"] is None or learned
    assert any("has not learned, so verdicts are withheld" in line for line in said["warnings"]) != learned


def test_an_extra_block_that_hurts_means_that_the_budget_was_short():
    said = document(*study({"naive+1": 0.05, "rw": -0.05}))
    assert any("the budget was too short" in line for line in said["warnings"])
    assert arm(said, "rw")["parameters_saved"] is None
    assert not any("budget" in line for line in document(*study({"naive+1": -0.05, "rw": -0.05}))["warnings"])


def test_the_noise_floor_is_that_of_unpaired_runs():
    """The copy has seeds of its own, so it does not share its block's draw: the sd is that of two runs' difference."""
    rng = np.random.default_rng(1)
    defined, trials = study({"copy": 0.0}, seeds=400, block_sd=0.05, sd=0.0)
    for item in trials[400:]:
        item["final"]["loss"] = float(rng.normal(0.8, 0.05))
    said = document(defined, trials)
    assert said["noise_floor"]["arm"] == "copy"
    assert said["noise_floor"]["sd"] == pytest.approx(math.sqrt(2) * 0.05, rel=0.1)
    without = document(definition(["baseline"], 400), trials[:400])
    assert without["noise_floor"]["arm"] is None
    assert without["noise_floor"]["sd"] == pytest.approx(math.sqrt(2) * 0.05, rel=0.1)
    # A control is no claim: the others are corrected as if it were not there.
    found = document(*study({"copy": 0.0, "rw": -0.05}))
    assert arm(found, "rw")["difference"]["confidence"] == pytest.approx(0.95)
    assert separated(found)


def test_a_copy_that_differs_is_an_alarm():
    said = document(*study({"copy": 0.05, "rw": 0.0}))
    assert any("own copy differs" in line for line in said["warnings"])


def test_steps_saved_where_the_curve_is_known():
    """The baseline's curve is a line in log(step) of slope 0.4: 0.02 ahead is 600 (exp(0.05) - 1) = 30.8 steps."""
    said = document(*study({"rw": -0.02, "lr@16": 0.02}, sd=0.0005))
    better, worse = arm(said, "rw")["steps_saved"], arm(said, "lr@16")["steps_saved"]
    assert better["low"] < STEPS * math.expm1(0.05) < better["high"]
    assert better["mean"] == pytest.approx(STEPS * math.expm1(0.05), rel=0.05)
    assert worse["mean"] == pytest.approx(STEPS * math.expm1(-0.05), rel=0.05)
    assert better["low"] > 0 > worse["high"]


@pytest.mark.parametrize("evaluations", [[], [{"step": STEPS, "loss": 0.8}], "flat"])
def test_no_steps_saved_where_the_curve_does_not_say(evaluations):
    defined, trials = study({"rw": -0.02})
    for item in trials:
        flat = [{"step": step, "loss": item["final"]["loss"]} for step in (400, 500, 600)]
        item["evaluations"] = flat if evaluations == "flat" else evaluations
    said = document(defined, trials)
    assert arm(said, "rw")["steps_saved"] is None
    assert any(line.startswith("no steps saved for rw") for line in said["notes"])


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
    unclear = document(*study({"naive+1": 0.0, "rw": -0.05}))
    assert arm(unclear, "rw")["parameters_saved"] is None
    assert any("naive+1 is not better" in line for line in unclear["notes"])


def test_looks_are_kept_to():
    declared = (Look(3, 0.01), Look(5, 0.04))
    defined, trials = study({"rw": -0.05}, sd=0.002)
    base, own = losses(trials, "baseline"), losses(trials, "rw")
    at = {
        n: document(defined | {"seeds": list(range(n))}, [t for t in trials if t["seed"] < n], looks=declared)
        for n in (3, 4, 5)
    }
    assert at[3]["alpha"] == 0.01
    assert arm(at[3], "rw")["difference"]["confidence"] == pytest.approx(0.99)
    for n, alpha in ((3, 0.01), (5, 0.04)):
        p = stats.ttest_rel([own[s] for s in range(n)], [base[s] for s in range(n)]).pvalue
        found = arm(at[n], "rw")
        assert found["difference"]["p"] == pytest.approx(min(1.0, p * 0.05 / alpha))
        assert (found["verdict"] == "better") == (p < alpha) == (found["difference"]["p"] < 0.05)
    assert arm(at[4], "rw")["verdict"] == "not separated"
    assert any("verdicts are withheld at 4 blocks" in line for line in at[4]["warnings"])


def test_adding_seeds_until_an_arm_is_separated_invents_nothing():
    """Studies without any effect that go on to the last look unless something separates."""
    declared, runs, claims = looks(8, 3), 300, 0
    for start in range(runs):
        defined, trials = study({"rw": 0.0, "lr@16": 0.0}, seeds=8, start=start)
        for look in declared:
            now = defined | {"seeds": list(range(look.n))}
            said = document(now, [item for item in trials if item["seed"] < look.n], looks=declared)
            if any(item["verdict"] in ("better", "worse") for item in said["arms"]):
                claims += 1
                break
    assert claims / runs < 0.085  # 0.05 and 2.7 standard errors


def test_two_results_of_one_trial_are_not_chosen_by_figure():
    defined, trials = study({"rw": -0.05})
    retried = document(defined, [*trials, trial("rw", 0, None, status="failed")])
    assert arm(retried, "rw")["failed"] == 0
    assert not retried["warnings"]
    chosen = set()
    for own, other in itertools.combinations([0.6 + 0.01 * i for i in range(6)], 2):
        for first, second in ((own, other), (other, own)):
            said = document(defined, [*trials[:5], trial("rw", 0, first), trial("rw", 0, second), *trials[6:]])
            assert any("two records that differ" in line for line in said["warnings"])
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


def test_a_seed_or_arm_beyond_the_definition_is_shown():
    defined, trials = study({"rw": -0.05, "lr@16": 0.0})
    said = document(defined | {"arms": ["baseline", "rw"], "seeds": [0, 1]}, trials)
    assert [item["name"] for item in said["arms"]] == ["baseline", "rw", "lr@16"]
    assert arm(said, "rw")["n"] == 5


def test_reading_needs_no_torch():
    script = "import sys, laurel_cli.proxy.verdict; assert not {'torch', 'scipy', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
