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
from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.trial import _is_due
from laurel_cli.verdict.document import document, judged, separated
from laurel_cli.verdict.gates import by, half_way

from .studies import STEPS, arm, controlled, definition, study, trial

LEVEL = 0.05 * 0.9 * 0.8  # of the first look at the arms that were declared first
PLAIN = "better, without controls"


def losses(trials, name):
    return {item["seed"]: item["final"]["loss"] for item in trials if item["arm"]["name"] == name and item["final"]}


def verdicts(said):
    return {item["name"]: item["verdict"] for item in said["arms"] if item["role"] == "arm"}


def without(trials, *keys):
    return [item for item in trials if (item["arm"]["name"], item["seed"]) not in keys]


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


def test_one_seed_and_one_arm():
    one = document(*study({"rw": -0.05}, seeds=1))
    found = arm(one, "rw")
    assert (found["verdict"], found["difference"]["p"], found["difference"]["high"]) == ("withheld", 1.0, math.inf)
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


# --- controls ---------------------------------------------------------------------------------------------------


def test_an_arm_that_beats_every_control_is_better():
    said = document(*controlled({"rw": -0.08}))
    assert arm(said, "rw")["verdict"] == "better"
    assert arm(said, "rw")["words"] == "better"
    assert [item["beaten"] for item in arm(said, "rw")["controls"]] == [True, True]
    assert said["positive_control"]["separated"] is True


def test_an_arm_that_only_repairs_the_rate_is_not_better():
    """rw gains what the baseline gains at twice the rate."""
    said = document(*controlled({"rw": -0.08}, twice=-0.08))
    found = arm(said, "rw")
    assert found["verdict"] == "better than the baseline, not than a control"
    assert found["words"] == "better than the baseline, not than the baseline at twice the rate"
    assert [item["beaten"] for item in found["controls"]] == [True, False]
    assert any("repairs the recipe" in line for line in said["warnings"])


def test_a_gain_that_few_seeds_of_the_controls_cannot_tell_is_no_repair():
    """The controls are worse than the baseline, but so unevenly that two trials establish nothing of them."""
    defined, trials = controlled({"rw": -0.08}, half=0.1, twice=0.1)
    few = [item for item in trials if not item["arm"]["name"].startswith("baseline:lr") or item["seed"] < 2]
    for item in few:
        if item["arm"]["name"].startswith("baseline:lr"):
            item["final"]["loss"] += 0.2 * item["seed"]
    said = document(defined, few)
    found = arm(said, "rw")
    assert found["verdict"] == "better than the baseline, not than a control"
    assert "open" in found["repair"]
    assert "2 trials of each control" in found["repair"]
    assert found["repair"] in said["warnings"]
    assert not any("repairs the recipe" in line for line in said["warnings"])


def test_a_study_from_trained_weights_says_so():
    defined, trials = controlled({"rw": 0.0})
    assert not any("trained weights" in line for line in document(defined, trials)["warnings"])
    model = {"reference": "paper-c4", "weights": "somewhere/gpt.safetensors", "weights_sha256": "ab" * 32}
    said = document(defined | {"recipe": {"model": model}}, trials)
    assert any("trained weights (gpt.safetensors, SHA-256 abababababab)" in line for line in said["warnings"])


def test_a_blind_study_says_only_that():
    said = document(*controlled({"rw": -0.08}, wider=0.0))
    assert verdicts(said) == {"rw": "cannot tell"}
    assert any("this study cannot tell" in line for line in said["warnings"])
    assert not separated(said)


def test_a_control_that_diverged_is_no_better_recipe_and_a_missing_one_is_not_known():
    defined, trials = controlled({"rw": -0.08}, twice=-0.08)
    name = "baseline:lr=2"
    diverged = [*without(trials, (name, 1)), trial(name, 1, None, status="diverged")]
    assert arm(document(defined, diverged), "rw")["verdict"] == "better"
    absent = [item for item in trials if item["arm"]["name"] != name]
    found = arm(document(defined, absent), "rw")
    assert found["verdict"] == PLAIN
    assert found["words"] == f"better than the baseline ({name} has no figure)"
    blind = [item for item in trials if item["arm"]["name"] != "baseline:width=1.125"]
    assert arm(document(defined, blind), "rw")["verdict"] == "better than the baseline, not than a control"
    beaten = [item for item in controlled({"rw": -0.08})[1] if item["arm"]["name"] != "baseline:width=1.125"]
    assert arm(document(defined, beaten), "rw")["verdict"] == PLAIN


@pytest.mark.parametrize(
    ("effect", "worth", "said"),
    [
        (-0.08, 0.02, "worth it"),
        (0.0, 0.05, "not worth it"),
        (-0.03, 0.03, "cannot tell"),
        (0.08, 0.02, "not worth it"),
    ],
)
def test_whether_a_gain_is_worth_having(effect, worth, said):
    defined, trials = controlled({"rw": effect}, worth=worth)
    assert arm(document(defined, trials), "rw")["worth"] == said


def test_steps_saved_are_measured_at_a_second_budget():
    """Losses fall by 0.4 per unit of log(steps); 0.03 ahead is then 600 (exp(0.03 / 0.4) - 1) = 46.7 steps."""
    budget = 0.4 * math.log(1 / 0.7)
    defined, trials = controlled({"rw": -0.03, "lr@16": 0.0}, budget=budget, sd=0.0005)
    said = document(defined, trials)
    found = arm(said, "rw")["steps_saved"]
    assert found["low"] < STEPS * math.expm1(0.03 / 0.4) < found["high"]
    assert found["mean"] == pytest.approx(STEPS * math.expm1(0.03 / 0.4), rel=0.05)
    assert arm(said, "lr@16")["steps_saved"] is None
    rest = [item for item in trials if item["arm"]["name"] != "baseline:steps=0.7"]
    assert arm(document(defined, rest), "rw")["steps_saved"] is None


@pytest.mark.parametrize(
    ("shape", "word"),
    [((1.0, 1.0, 1.0), "lasting"), ((2.5, 2.0, 1.0), "fading"), ((0.2, 0.4, 1.0), "growing")],
)
def test_a_head_start_fades(shape, word):
    defined, trials = controlled({"rw": -0.08}, sd=0.004)
    rng = np.random.default_rng(0)
    for item in trials:
        gain = 0.08 * (item["arm"]["name"] == "rw")
        item["evaluations"] = [
            {
                "step": step,
                "loss": item["final"]["loss"] + (600 - step) / 1000 - gain * (part - 1) + rng.normal(0, 0.001),
            }
            for step, part in zip((200, 300, 600), shape, strict=True)
        ]
    found = arm(document(defined, trials), "rw")
    assert found["trend"] == word
    assert len(found["gains"]) == 3
    assert found["gains"][0]["gain"] == pytest.approx(0.08 * shape[0], abs=0.02)
    assert word == "lasting" or word in found["words"]


@pytest.mark.parametrize("steps", [650, 1953, 6250, 61, 600])
@pytest.mark.parametrize("evaluations", [4, 8])
def test_named_shares_of_a_run_are_where_it_is_evaluated(steps, evaluations):
    """Of so many evaluations at even shares the one at three quarters, and that at half, as training places them."""
    recipe = Recipe(ModelChoice("x"), TaskChoice("x"), steps=steps, evaluations=evaluations)
    times = [step for step in range(1, steps + 1) if _is_due(step, recipe)]
    assert len(times) == evaluations
    assert by(times, 0.75) == times[evaluations * 3 // 4 - 1]
    assert by(times, 0.5) == times[evaluations // 2 - 1]
    assert half_way(times) == "half way"


def test_an_evaluation_that_is_not_at_half_is_called_by_its_step():
    assert half_way([67, 134, 200]) == "at step 67"
    assert by([200], 0.75) is None
    defined, trials = controlled({"rw": -0.08}, sd=0.004)
    draw = np.random.default_rng(0)
    for item in trials:
        gain = 0.08 * (item["arm"]["name"] == "rw")
        item["evaluations"] = [
            {"step": step, "loss": item["final"]["loss"] - gain * (part - 1) + draw.normal(0, 0.001)}
            for step, part in ((200, 3.0), (401, 2.0), (600, 1.0))
        ]
    said = document(defined, trials)
    assert "the gain of rw fades: it is smaller at the end than at step 200, a head start" in said["warnings"]
    assert said["late_fall"]["share_of_run"] == pytest.approx(199 / 600)


def test_the_fall_at_the_end_stands_beside_the_gain():
    defined, trials = controlled({"rw": -0.04}, sd=0.002)
    for item in trials:
        ends = item["final"]["loss"]
        item["evaluations"] = [{"step": step, "loss": ends + 0.5 * (600 - step) / 600} for step in (150, 300, 450, 600)]
    said = document(defined, trials)
    assert said["late_fall"]["mean"] == pytest.approx(0.125)
    assert said["late_fall"]["share_of_run"] == pytest.approx(0.25)
    assert any("more than the largest gain" in line for line in said["warnings"])


def test_branches_that_start_at_zero_are_named():
    defined, trials = controlled({"rw": 0.0})
    start = [{"connection": f"layer{i}:0", "ratio": 0.0 if i == 1 else 0.5} for i in range(3)]
    for item in trials:
        if item["arm"]["name"] == "baseline":
            item["start"] = start
    said = document(defined, trials)
    assert said["start"]["zero"] == ["layer1:0"]
    assert any("1 of 3 branches start at zero" in line and "layer1:0" in line for line in said["warnings"])
    assert not any("start at zero" in line for line in document(*controlled({"rw": 0.0}))["warnings"])


def test_operations_that_cannot_be_repeated_are_said_once():
    trials = [trial("baseline", seed, 1.0 + seed / 100) for seed in range(3)]
    trials += [trial("rw", seed, 0.9 + seed / 90) for seed in range(3)]
    plain = document(definition(["rw"], 3), trials)["warnings"]
    for item, names in zip(trials, (["put_"], ["put_", "scatter_add_cuda"]), strict=False):
        item["device"] = {"name": "cuda", "threads": None, "not_repeatable": names}
    (said,) = set(document(definition(["rw"], 3), trials)["warnings"]) - set(plain)
    assert "put_, scatter_add_cuda have no deterministic form" in said


def test_an_arm_without_a_search_is_named_where_the_baseline_had_one():
    trials = [trial(name, seed, 1.0 + seed / 100) for name in ("baseline", "rw", "pa") for seed in range(3)]
    for rates, arms in (({"baseline": 3.0, "rw": 1.0}, ["pa"]), ({"baseline": 3.0}, ["rw", "pa"]), ({}, [])):
        said = document(definition(["rw", "pa"], 3) | {"rates": rates}, trials)["warnings"]
        assert [one.split()[0] for one in said if "search of learning rates" in one] == arms


def test_a_block_of_several_kinds_of_gpu_is_said():
    trials = [trial("baseline", seed, 1.0 + seed / 100) for seed in range(3)]
    trials += [trial("rw", seed, 0.9 + seed / 90) for seed in range(3)]
    plain = document(definition(["rw"], 3), trials)["warnings"]
    for number, item in enumerate(trials):  # seed 2 of the baseline alone is on another one than its block
        item["device"] = {"name": "cuda", "threads": None, "gpu": "A100" if number == 2 else "H100"}
    (said,) = set(document(definition(["rw"], 3), trials)["warnings"]) - set(plain)
    assert "seed 2 was trained on 2 kinds of GPU, A100 and H100" in said


@pytest.mark.parametrize(
    ("unit", "count", "said"),
    [("tokens", 1984, True), ("tokens", 65_536, False), ("images", 10_000, False), ("images", 500, True)],
)
def test_few_examples_to_evaluate_on_are_said(unit, count, said):
    _, trials = study({"rw": -0.1}, seeds=3)
    for item in trials:
        item["task"] |= {"unit": unit, "evaluation_examples": count}
    warnings = document(definition(["rw"], 3), trials)["warnings"]
    assert any(f"of the same {count:,} {unit}" in one for one in warnings) is said


def test_arms_with_another_searched_rate_than_the_baseline_are_named():
    trials = [trial(name, seed, 1.0 + seed / 100) for name in ("baseline", "rw", "pa") for seed in range(3)]
    for rates, arms in (
        ({"baseline": 3.0, "rw": 1.0, "pa": 3.0}, "(rw x1)"),
        ({"baseline": 1.0, "rw": 1 / 3, "pa": 3.0}, "(rw x0.333, pa x3)"),
        ({"baseline": 1 / 3, "rw": 0.333333, "pa": 1 / 3}, None),
        ({}, None),
    ):
        said = document(definition(["rw", "pa"], 3) | {"rates": rates}, trials)["warnings"]
        found = [one for one in said if "may be that of the rate" in one]
        assert (len(found), arms is None or arms in found[0]) == (arms is not None, True)


def test_a_positive_control_with_another_searched_rate_than_the_baseline_is_named():
    defined, trials = controlled({"rw": 0.0})
    name = "baseline:width=1.125"
    for rate, said in ((3.0, True), (1.0, False)):
        warnings = document(defined | {"rates": {"baseline": 1.0, "rw": 1.0, name: rate}}, trials)["warnings"]
        assert any(f"({name} x3)" in line and "may be that of the rate" in line for line in warnings) is said


@pytest.mark.parametrize(("effect", "better"), [(-0.15, True), (0.0, False)])
def test_naive_scaling_as_the_positive_control_is_judged_as_that(effect, better):
    defined, trials = controlled({"rw": -0.075, "naive+1": effect}, sd=0.004)
    controls = defined["declared"]["controls"] | {"positive": "naive+1"}
    trials = [one for one in trials if ":width=" not in one["arm"]["name"]]
    arms = [name for name in defined["arms"] if ":width=" not in name]
    said = document(
        defined | {"arms": arms, "declared": defined["declared"] | {"arms": [["rw"]], "controls": controls}}, trials
    )
    assert arm(said, "naive+1")["role"] == "positive"
    assert said["positive_control"]["separated"] is better
    assert any("naive+1 is better than the baseline, so gains are seen" in line for line in said["notes"]) is better
    assert any("naive+1 is not better than the baseline" in line for line in said["notes"]) is not better
    saved = arm(said, "rw")["parameters_saved"]
    assert (saved is not None) is better
    if better:  # half of what 10,000 parameters gain, for 32
        assert saved["mean"] == pytest.approx(4_968, rel=0.1)


def test_declared_controls_that_have_not_run_are_missing():
    defined, trials = controlled({"rw": -0.08})
    whole = document(defined, trials)
    assert whole["status"] == "complete"
    begun = [one for one in trials if not one["arm"]["name"].startswith(("baseline:lr", "baseline:steps"))]
    said = document(defined, begun)
    assert said["status"] == "partial"
    lost = [item for one in said["arms"] for item in one["trials"] if item["status"] == "missing"]
    assert len(lost) == 3 * 3  # two rates and a second budget, three seeds each
    assert any("9 of 24 trials are missing" in line for line in said["warnings"])
    beyond = [*trials, trial("baseline:lr=2", 4, 0.9)]  # more than was declared
    assert [item["seed"] for item in arm(document(defined, beyond), "baseline:lr=2")["trials"]] == [0, 1, 2, 4]


def test_orders_keep_their_error_where_arms_are_added():
    """Equal arms, two at first and four that are added one by one: a wrong order at any of the five times is one."""
    runs, wrong = 150, 0
    names = [f"lr@{rank}" for rank in range(1, 7)]
    for start in range(runs):
        defined, trials = controlled(dict.fromkeys(names, 0.0), start=start)
        families = [names[:2], *([name] for name in names[2:])]
        claimed = False
        for count in range(1, len(families) + 1):
            there = {name for family in families[:count] for name in family}
            declared = defined["declared"] | {"arms": families[:count]}
            known = [one for one in trials if one["arm"]["name"] in there or one["arm"]["name"].startswith("baseline")]
            listed = [name for name in defined["arms"] if name in there or name.startswith("baseline")]
            found = judged([defined | {"declared": declared, "arms": listed}], known)
            claimed |= any(
                over.verdict != "not separated" for pair, over in found.orders.items() if "baseline" not in pair
            )
        wrong += claimed
    assert wrong / runs < 0.05


def test_an_order_is_tested_in_the_later_family():
    defined, trials = controlled({"rw": -0.05, "pa": -0.02, "lr@16": 0.0})
    families = [["rw", "pa"], ["lr@16"]]
    found = judged([defined | {"declared": defined["declared"] | {"arms": families}}], trials)
    for pair, level, count in ((("rw", "pa"), LEVEL, 1), (("rw", "lr@16"), 0.05 * 0.05 * 0.8, 2)):
        own, other = (losses(trials, name) for name in pair)
        truth = stats.ttest_rel([own[s] for s in range(5)], [other[s] for s in range(5)])
        assert found.orders[pair].p == pytest.approx(truth.pvalue)
        assert found.orders[pair].confidence <= 1 - level / count + 1e-12
        assert found.orders[pair].p_holm >= min(1.0, truth.pvalue * 0.05 / level) * (1 - 1e-9)


def test_what_building_an_arm_had_to_say_is_told():
    defined, trials = controlled({"rw": 0.0, "rezero": 0.0, "lr@16": 0.0})
    note = "layer1 is ordinary in training mode: its module adds on another line then."
    for item in trials:
        if item["arm"]["name"] in ("rw", "lr@16"):
            item["warnings"] = [note]
        if item["arm"]["name"] == "rezero":
            item["warnings"] = ["does not start as the baseline"]
            item["arm"] |= {"starts": "no"}
    said = document(defined, trials)["warnings"]
    assert f"rw and lr@16: {note[:-1]}" in said
    assert "rezero: does not start as the baseline" in said
    assert not any("trained weights" in line for line in said)
    model = {"reference": "paper-c4", "weights": "gpt.safetensors", "weights_sha256": "ab" * 32}
    said = document(defined | {"recipe": {"model": model}}, trials)["warnings"]
    assert any(line.startswith("rezero does not start as the trained weights") for line in said)
