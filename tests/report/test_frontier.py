"""The frontier against its definition, tried out case by case."""

import itertools
import math
import random

import numpy as np
import pytest

from laurel_cli.report.compare import Effect
from laurel_cli.report.frontier import (
    DOMINATED,
    FRONTIER,
    TIED,
    UNKNOWN,
    Cost,
    cost_draws,
    hypervolume,
    naive_cost,
    on_frontier,
    saving,
    status,
)


def brute_force(points):
    """The definition: no other point is no worse in both and better in one."""
    return [not any(c2 <= c1 and g2 >= g1 and (c2 < c1 or g2 > g1) for c2, g2 in points) for c1, g1 in points]


@pytest.mark.parametrize("seed", range(30))
def test_on_the_frontier(seed):
    rng = random.Random(seed)
    # Few values, so that ties come up.
    points = [(rng.randrange(5), rng.randrange(5)) for _ in range(rng.randrange(1, 9))]
    costs, gains = (np.array([column], dtype=float) for column in zip(*points, strict=True))
    assert on_frontier(costs, gains)[0].tolist() == brute_force(points)


def test_every_draw_has_a_frontier():
    rng = np.random.default_rng(0)
    on = on_frontier(rng.normal(size=(200, 7)), rng.normal(size=(200, 7)))
    assert on.any(axis=1).all()


@pytest.mark.parametrize("seed", range(10))
def test_hypervolume_is_the_area_below_the_steps(seed):
    """By counting points of a fine grid of budgets: the best gain that is to be had for no more than that."""
    rng = random.Random(seed)
    points = [(0.0, 0.0)] + [(rng.uniform(0, 4), rng.uniform(-1, 2)) for _ in range(6)]
    most, steps = 5.0, 20_000
    budgets = [(i + 0.5) * most / steps for i in range(steps)]
    area = sum(max([0.0, *(g for c, g in points if c <= budget)]) for budget in budgets) / steps
    costs, gains = (np.array([column]) for column in zip(*points, strict=True))
    assert hypervolume(costs, gains, most)[0] == pytest.approx(area, abs=2e-3)


def effect(gain, half=0.1):
    p = 0.001 if abs(gain) > half else 0.5
    return Effect(gain, gain - half, gain + half, p, p, 5, paired=True)


def statuses(points, half=0.1):
    costs = [Cost(c, *ends) if ends else Cost(c, c, c) for c, _, *ends in points]
    over = [[effect(a[1] - b[1], half) for b in points] for a in points]
    return [status(i, costs, over, [True] * len(points)) for i in range(len(points))]


def test_words():
    assert statuses([(0, 0), (1, 1), (2, 0.5), (3, 1.05)]) == [FRONTIER, FRONTIER, DOMINATED, TIED]
    # The same cost: the worse one is dominated; two alike are tied.
    assert statuses([(0, 0), (1, 1), (1, 0.5), (1, 1.05)]) == [FRONTIER, TIED, DOMINATED, TIED]
    # Cheaper only perhaps: nothing is dominated on the word of an interval that overlaps.
    assert statuses([(0, 0), (2, 1, 1.0, 3.0), (1, 0.5, 0.5, 2.0)]) == [FRONTIER, FRONTIER, TIED]
    # Nothing is separated.
    assert statuses([(0, 0), (1, 0.05), (2, 0.08)]) == [FRONTIER, TIED, TIED]


def test_without_uncertainty_the_words_are_the_definition():
    for points in itertools.islice(itertools.product(itertools.product(range(3), range(3)), repeat=4), 0, None, 7):
        if len(set(points)) < 4:
            continue
        said = statuses(points, half=1e-9)
        assert [word == FRONTIER for word in said] == brute_force(points)


def test_one_trial_is_not_known():
    costs = [Cost(0, 0, 0), Cost(1, 1, 1)]
    assert status(1, costs, [[None, None], [None, None]], [True, False]) == UNKNOWN


def test_cost_draws_spread_as_the_interval_says():
    drawn = cost_draws([Cost(0, 0, 0), Cost(10, 5, 15.24), Cost(3, -math.inf, math.inf)], 40_000, 1)
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, 2] == 3).all()
    low, middle, high = np.quantile(drawn[:, 1], [0.025, 0.5, 0.975])
    assert (low, middle, high) == pytest.approx((5, 10, 15.24), abs=0.15)


def one(*values):
    return np.array([values], dtype=float)


@pytest.mark.parametrize(
    ("gain", "cost", "beyond"),
    [(-1, 0, False), (0, 0, False), (0.15, 2.622, False), (0.25, 4.37, False), (0.3, 4.37, True)],
)
def test_naive_scaling_on_a_straight_line(gain, cost, beyond):
    found, censored = naive_cost(np.array([float(gain)]), one(0, 4.37), one(0, 0.25))
    assert found[0] == pytest.approx(cost)
    assert censored[0] == beyond


def test_naive_scaling_with_several_depths_takes_the_first_that_reaches_it():
    costs, gains = one(0, 1, 2, 3), one(0, 0.4, 0.2, 0.6)
    assert naive_cost(np.array([0.3]), costs, gains)[0][0] == pytest.approx(0.75)
    assert naive_cost(np.array([0.5]), costs, gains)[0][0] == pytest.approx(2.75)


def test_saving_is_the_papers_figure_where_the_quality_is_equal():
    found = saving(np.array([0.25]), np.array([1.68]), one(0, 4.37), one(0, 0.25))
    assert found.times == pytest.approx(4.37 / 1.68)
    assert f"{found.times:.1f}" == "2.6"
    assert not found.at_least
    better = saving(np.array([0.30]), np.array([2.40]), one(0, 4.37), one(0, 0.25))
    assert f"{better.times:.2f}" == "1.82"
    assert better.at_least


def test_the_interval_of_a_saving_holds_the_truth_and_ends_where_naive_scaling_does():
    rng = np.random.default_rng(0)
    count = 4_000
    gains = 0.5 + 0.02 * np.concatenate([[0.0], rng.standard_normal(count)])
    curve = np.stack([np.zeros(count + 1), np.full(count + 1, 1.0)], axis=1)
    found = saving(gains, np.full(count + 1, 2.0), curve * 4.0, curve)
    assert (found.low, found.times, found.high) == pytest.approx((0.5 * 4 / 2 - 0.078, 1.0, 1.078), abs=0.01)
    assert not found.high_at_least
    over = saving(gains + 0.49, np.full(count + 1, 2.0), curve * 4.0, curve)
    assert over.high_at_least
    assert over.high == pytest.approx(2.0)
