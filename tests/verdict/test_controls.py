"""What controls say of an arm's gain: other rates, copies, wider baselines, other budgets; and what is remarked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
from laurel_cli.proxy.trial import _is_due
from laurel_cli.verdict.document import document, judged, separated
from laurel_cli.verdict.gates import by, half_way

from .studies import LEVEL, PLAIN, STEPS, arm, controlled, definition, losses, study, trial, verdicts, without


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


@pytest.mark.slow
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
