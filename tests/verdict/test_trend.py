"""Savings, their line and its intervals, against formulas written out."""

import math

import numpy as np
import pytest
from scipy import stats

from laurel_cli.verdict import trend
from laurel_cli.verdict.trend import Rung, at_size, baseline_curve, by_clock, misfit_of, on_line, pooled, saving
from tests.bench.simulated_ladders import World, constant, line, rungs

QUIET = {"block": 1e-9, "pair": 1e-9}


def measured(world, seed=0):
    found = rungs(world, np.random.default_rng(seed))
    return found, saving(found, "rw", baseline_curve(found))


@pytest.mark.parametrize("truth", [constant(1.25), line(1.4, 1.05), line(1.3, 0.8)])
@pytest.mark.parametrize("ratio", [1.0, 1.07])
def test_without_noise_the_truth_is_found(truth, ratio):
    world = World({"rw": truth}, ratios={"rw": ratio}, **QUIET)
    _, found = measured(world)
    assert found.saved == pytest.approx([truth(h) for h in np.log(world.computes) / math.log(81)], abs=1e-4)
    slope = trend.weights_of_slope(found.xs) @ found.saved
    assert slope == pytest.approx((truth(1) - truth(0)) / math.log10(81), abs=1e-3)
    beyond = trend.weights_at(found.xs, found.xs[-1] + 1) @ found.saved
    assert beyond == pytest.approx(truth(1) + (truth(1) - truth(0)) / math.log10(81), abs=1e-3)


def test_weights_of_the_line_are_those_of_least_squares():
    xs, ys = np.array([0.0, 0.7, 1.2, 1.9]), np.array([0.3, 0.1, 0.2, -0.1])
    slope, cut = np.polyfit(xs, ys, 1)
    assert trend.weights_of_slope(xs) @ ys == pytest.approx(slope)
    assert trend.weights_at(xs, 2.9) @ ys == pytest.approx(cut + 2.9 * slope)


def test_a_pooled_gain_is_a_mean_of_independent_means():
    """Of one size it is the paired t-interval; of two Welch and Satterthwaite's for (a + b) / 2."""
    draw = np.random.default_rng(1)
    losses = [
        {"baseline": dict(enumerate(draw.normal(2, 0.1, n))), "rw": dict(enumerate(draw.normal(1.9, 0.1, n)))}
        for n in (4, 6)
    ]
    one, two = (Rung(str(i), 10.0**i, item, {}) for i, item in enumerate(losses))
    over = [np.array([item["baseline"][s] - item["rw"][s] for s in item["rw"]]) for item in losses]
    alone = pooled([one], "rw", "baseline", 0.9)
    wanted = stats.t.interval(0.9, 3, over[0].mean(), over[0].std(ddof=1) / 2)
    assert (alone.low, alone.high) == pytest.approx(wanted)
    both = pooled([one, two], "rw", "baseline", 0.9)
    parts = [part.var(ddof=1) / len(part) / 4 for part in over]
    degrees = sum(parts) ** 2 / sum(v**2 / (len(o) - 1) for v, o in zip(parts, over, strict=True))
    wanted = stats.t.interval(0.9, degrees, (over[0].mean() + over[1].mean()) / 2, math.sqrt(sum(parts)))
    assert (both.low, both.high) == pytest.approx(wanted)


def test_errors_are_those_of_ladders_made_again():
    """The standard error of a saving and of the slope, against their spread over 600 ladders."""
    world = World({"rw": constant(1.2)})
    found = [measured(world, seed)[1] for seed in range(600)]
    slopes = [trend.weights_of_slope(one.xs) @ one.saved for one in found]
    quiet = trend.Misfit(0.0, 1.0, 0)
    errors = [on_line(one, trend.weights_of_slope(one.xs), 0.95, quiet).error for one in found]
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(slopes), rel=0.12)
    tops = [one.saved[-1] for one in found]
    errors = [at_size(one, 3, 0.95).error for one in found]
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(tops), rel=0.12)


def test_one_block_tells_no_spread():
    _, found = measured(World({"rw": constant(1.2)}, seeds=1))
    assert math.isinf(at_size(found, 0, 0.95).high)
    assert misfit_of(found).stretch == 1


def test_scatter_about_the_line_widens_its_intervals():
    """A gain at one size alone, of fifty times its error, is no line; of exact ones nothing is wrong with the line."""
    world = World({"rw": constant(1.2)})
    found, straight = measured(world)
    bent = [*found]
    losses = dict(found[1].losses)
    losses["rw"] = {seed: loss - 0.09 for seed, loss in losses["rw"].items()}
    bent[1] = Rung(found[1].name, found[1].compute, losses, {})
    kinked = saving(bent, "rw", baseline_curve(bent))
    assert misfit_of(kinked).p < 0.001
    weights = trend.weights_of_slope(kinked.xs)
    narrow, wide = (on_line(kinked, weights, 0.95, one) for one in (trend.Misfit(0.0, 1.0, 0), misfit_of(kinked)))
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)
    assert misfit_of(straight).p > 0.001


def test_time_takes_the_place_of_flops():
    """1.25 times the FLOPs saved at 1.1 of a step's time and 1.02 of its FLOPs are 1.25 x 1.02 / 1.1 of the time."""
    _, found = measured(World({"rw": constant(1.25)}, ratios={"rw": 1.02}, **QUIET))
    timed = by_clock(found, 3, 1.02, (1.1, 1.08, 1.12), 0.95, 0.95)
    assert math.exp(timed.value) == pytest.approx(1.25 * 1.02 / 1.1, rel=1e-3)
    # The ends are those of the time, with Student's factor of 4 degrees in the place of the normal one.
    wider = stats.t.ppf(0.975, 4) / stats.norm.ppf(0.975)
    assert timed.high - timed.value == pytest.approx(wider * math.log(1.12 / 1.08) / 2, rel=1e-2)
