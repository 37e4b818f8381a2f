"""Planted ladders: what is known to hold, to shrink, to flip or to be nothing is judged so."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from laurel_cli.verdict import ladder
from laurel_cli.verdict.declared import Controls
from laurel_cli.verdict.findings import CANNOT_TELL, WITHHELD
from laurel_cli.verdict.ladder import HOLDS, LOSES, UNKNOWN, alpha_of, judge, share_ends
from laurel_cli.verdict.ladder_words import sentence, summary
from laurel_cli.verdict.paired import ALPHA
from tests.bench.ladder_statistics import NOTHING, PLANTED, same
from tests.bench.simulated_ladders import CONTROLS, World, constant, families, line, rungs, usual_controls

STUDIES = 20


def verdicts(world, *, controls=CONTROLS, studies=STUDIES):
    """Of the arm rw in so many ladders."""
    made = (rungs(world, np.random.default_rng([7, run])) for run in range(studies))
    return [judge(found, families(world), controls).of("rw") for found in made]


@pytest.mark.parametrize("word", PLANTED)
def test_a_planted_trend_is_judged_right(word):
    found = [one.verdict for one in verdicts(same(PLANTED[word]))]
    assert found.count(word) >= 18, found


def test_a_planted_loss_is_a_loss():
    found = [one.verdict for one in verdicts(same(constant(0.8)))]
    assert found.count(LOSES) >= 18, found


def test_a_gain_that_grows_holds_and_is_said_to_grow():
    found = verdicts(same(line(1.1, 1.5)))
    assert sum(one.verdict == HOLDS and one.grows for one in found) >= 18


def test_where_nothing_is_gained_nothing_is_claimed():
    found = [one.verdict for one in verdicts(same(NOTHING), studies=60)]
    assert found.count(UNKNOWN) >= 57, found


def test_noise_makes_an_unknown_and_no_claim():
    """The gain of the planted trends under eight times the noise: neither end of the line is known."""
    found = [
        one.verdict
        for one in verdicts(replace(same(constant(1.1)), block=0.08, pair=0.032, controls={}), controls=Controls())
    ]
    assert found.count(UNKNOWN) >= 18, found


def test_no_slope_seen_is_not_yet_a_gain_that_holds():
    """A gain that is known at neither end has no slope either: that is no word for it."""
    for one in verdicts(same(NOTHING), studies=10):
        assert not one.slope.above
        assert one.verdict != HOLDS


def test_costs_count():
    """The same losses at two fifths more FLOPs are no gain."""
    world = same(constant(1.4))
    for run in range(5):
        found = rungs(world, np.random.default_rng([7, run]))
        dear = [replace(rung, ratios={"rw": 1.4}) for rung in found]
        assert judge(found, families(world), CONTROLS).of("rw").verdict == HOLDS
        assert judge(dear, families(world), CONTROLS).of("rw").verdict == UNKNOWN


def test_a_blind_ladder_cannot_tell():
    world = replace(same(constant(1.4)), controls=usual_controls(wider=0.0))
    found = judge(rungs(world, np.random.default_rng(3)), families(world), CONTROLS)
    assert found.of("rw").verdict == CANNOT_TELL
    assert "cannot tell" in summary(found)


def test_what_a_rate_gains_is_no_gain_of_an_arm():
    """The baseline at twice the rate gains as much as the arm."""
    world = replace(same(constant(1.4)), controls=usual_controls(twice=0.033))
    found = judge(rungs(world, np.random.default_rng(3)), families(world), CONTROLS).of("rw")
    assert found.verdict == UNKNOWN
    assert "twice the rate" in found.reason


@pytest.mark.parametrize("recipe", ["baseline:init=one", "baseline:train=lora@4"])
def test_what_another_start_or_the_arm_s_settings_gain_is_no_gain_of_an_arm(recipe):
    """The arm's losses under another name, and a baseline that gains as much but for some noise."""
    name = "rw:train=lora@4" if "train" in recipe else "rw"
    draw = np.random.default_rng(5)
    made = rungs(same(constant(1.4)), np.random.default_rng(3))

    def judged(gain):
        own = [
            replace(
                rung,
                losses={
                    **{key: losses for key, losses in rung.losses.items() if key != "rw"},
                    name: rung.losses["rw"],
                    recipe: {
                        seed: (1 - gain) * rung.losses["baseline"][seed] + gain * loss + draw.normal(0, 1e-4)
                        for seed, loss in rung.losses["rw"].items()
                    },
                },
                ratios={},
            )
            for rung in made
        ]
        return judge(own, [[name, recipe]], CONTROLS).of(name)

    assert judged(0.3).verdict == HOLDS
    assert judged(1.0).verdict == UNKNOWN
    assert "not separated from the baseline with" in judged(1.0).reason


def test_a_rate_that_is_better_at_one_size_alone_is_named():
    world = same(constant(1.4))
    found = rungs(world, np.random.default_rng(3))
    name = "baseline:lr=2"
    losses = dict(found[2].losses)
    losses[name] = {seed: losses["baseline"][seed] - 0.036 - 0.0002 * i for i, seed in enumerate(losses[name])}
    changed = [replace(rung, losses=losses) if rung is found[2] else rung for rung in found]
    said = judge(changed, families(world), CONTROLS).of("rw")
    assert said.verdict == UNKNOWN
    assert "at size 128" in said.reason


def test_without_controls_it_is_said():
    world = replace(same(constant(1.4)), controls={})
    found = judge(rungs(world, np.random.default_rng(3)), families(world), Controls())
    assert found.of("rw").verdict == HOLDS
    assert "no control of the recipe" in sentence(found.of("rw"), found)


@pytest.mark.parametrize(("count", "said"), [(2, "2 sizes of 3"), (1, "1 size of 3")])
def test_a_short_ladder_says_nothing(count, said):
    world = same(constant(1.4))
    found = judge(rungs(world, np.random.default_rng(3))[:count], families(world), CONTROLS)
    assert {one.verdict for one in found.trends} == {WITHHELD}
    assert said in found.withheld


def test_a_narrow_ladder_says_nothing():
    world = same(constant(1.4))
    made = rungs(world, np.random.default_rng(3))[:3]
    near = [replace(rung, compute=1e12 * 2**i) for i, rung in enumerate(made)]
    assert "span 4.0 times" in judge(near, families(world), CONTROLS).withheld


def test_an_arm_that_lost_trials_is_not_judged_and_counts_in_its_family():
    world = same(constant(1.4))
    made = rungs(world, np.random.default_rng(3))
    found = judge(made, families(world), CONTROLS, unsteady={"rw": "1 of its 5 trials at size 64 diverged or failed"})
    assert found.of("rw").verdict == WITHHELD
    assert found.of("naive+1").level == judge(made, families(world), CONTROLS).of("naive+1").level


def test_a_baseline_that_does_not_fall_is_no_ladder():
    world = World({"rw": NOTHING}, exponent=-0.05, controls=usual_controls())
    found = judge(rungs(world, np.random.default_rng(3)), families(world), CONTROLS)
    assert "does not fall" in found.withheld


def test_all_looks_at_all_families_spend_less_than_five_percent():
    spent = sum(alpha_of(look, family) for look in range(60) for family in range(60))
    assert spent == pytest.approx(ALPHA)
    assert spent <= ALPHA
    assert alpha_of(0, 0) == pytest.approx(0.72 * ALPHA)


@pytest.mark.parametrize(("hits", "n"), [(0, 3), (2, 3), (3, 3), (5, 9)])
def test_the_interval_of_a_share_is_clopper_and_pearsons(hits, n):
    wanted = stats.binomtest(hits, n).proportion_ci(method="exact")
    assert share_ends(hits / n, n) == pytest.approx((wanted.low, wanted.high))


def test_decisions_are_predicted_without_the_largest_size():
    """Lines that cross beyond the third size are predicted right; a size that no line leads to is not."""
    world = World({"up": line(0.9, 1.5), "down": line(1.3, 0.7)}, block=1e-6, pair=1e-6)
    made = rungs(world, np.random.default_rng(0))
    found = ladder.decisions(made, ["up", "down"])
    assert (found.right, found.pairs) == (3, 3)
    assert found.predicted["up"] == pytest.approx(math.log(1.5), abs=0.02)
    last = replace(made[-1], losses=made[-1].losses | {"up": made[-1].losses["down"], "down": made[-1].losses["up"]})
    turned = ladder.decisions([*made[:-1], last], ["up", "down"])
    assert (turned.right, turned.pairs) == (0, 3)
    assert turned.predicted == found.predicted
