"""Quality against cost: who is on the Pareto frontier, how surely, and what that saves.

A point is worse than another where that one costs no more and is no worse, and one of the two is strict. Everything is
computed on joint draws of the true means and costs (`compare.draws`); with one draw it is the plain definition.
Hypervolume: Zitzler and Thiele, IEEE Transactions on Evolutionary Computation 3 (1999) 257-271.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laurel_cli.report.compare import Effect

FRONTIER, TIED, DOMINATED, UNKNOWN = "on the frontier", "tied", "dominated", "not known"


@dataclass(frozen=True)
class Cost:
    """What an arm costs beyond the baseline, in percent; `low` and `high` where it was measured, else the same."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Saving:
    """How many times less an arm costs than naive scaling to the same quality.

    Attributes:
        times: the estimate, infinite where the arm costs nothing; 0 where it is no better than the baseline.
        low, high: 95 % interval; None where it is not known.
        at_least: the arm is better than all that naive scaling was tried, so its curve ends before: a lower bound.
    """

    times: float
    low: float | None
    high: float | None
    at_least: bool
    high_at_least: bool


def cost_draws(costs: Sequence[Cost], count: int, seed: int) -> np.ndarray:
    """Draws of the costs, [count, arms]: normal around measured ones, in the log of their ratio to the baseline."""
    rng = np.random.default_rng(seed)
    found = np.empty((count, len(costs)))
    for i, cost in enumerate(costs):
        found[:, i] = cost.value
        if cost.low < cost.high and math.isfinite(cost.high - cost.low) and cost.low > -100:
            middle, low, high = (math.log1p(x / 100) for x in (cost.value, cost.low, cost.high))
            drawn = middle + (high - low) / (2 * 1.959964) * rng.standard_normal(count)
            found[:, i] = 100 * np.expm1(drawn)
    return found


def on_frontier(costs: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Whether each arm is worse than no other, in every draw: [count, arms] of bool.

    Args:
        costs: lower is better, [count, arms]; gains: higher is better, [count, arms].
    """
    order = _order(costs, gains)
    cost, gain = np.take_along_axis(costs, order, 1), np.take_along_axis(gains, order, 1)
    # From the cheapest on: one is worse than another where a gain as high was there before, unless that one is its
    # equal in both. `leader` is the first that reached the highest gain so far.
    before = np.concatenate([np.full((len(gain), 1), -np.inf), np.maximum.accumulate(gain, axis=1)[:, :-1]], axis=1)
    leads = gain > before
    leader = np.maximum.accumulate(np.where(leads, np.arange(gain.shape[1]), 0), axis=1)
    equal = (gain == before) & (cost == np.take_along_axis(cost, leader, 1))
    on = np.empty(costs.shape, dtype=bool)
    np.put_along_axis(on, order, leads | equal, 1)
    return on


def status(i: int, costs: Sequence[Cost], over: Sequence[Sequence[Effect | None]], enough: Sequence[bool]) -> str:
    """What is established of arm `i`.

    Args:
        costs: of every arm.
        over: over[a][b] is the gain of arm a over arm b.
        enough: whether an arm has the two trials without which nothing is known.

    Returns:
        DOMINATED where an arm that surely costs no more is separated from it and better; FRONTIER where it is
        separated from and better than every arm that may cost no more; TIED otherwise.
    """
    if not enough[i]:
        return UNKNOWN
    others = [j for j in range(len(costs)) if j != i]
    for j in others:
        effect = over[j][i]
        if effect is not None and costs[j].high <= costs[i].low and effect.verdict == "better":
            return DOMINATED
    for j in others:
        effect = over[i][j]
        if costs[j].low <= costs[i].high and (effect is None or effect.verdict != "better"):
            return TIED
    return FRONTIER


def hypervolume(costs: np.ndarray, gains: np.ndarray, most: float) -> np.ndarray:
    """The area between no gain and the best gain at no more than a cost, from cost 0 to `most`, over `most`: [count].

    It is the gain that a budget between 0 and `most` buys on average.
    """
    order = _order(costs, gains)
    sorted_costs = np.clip(np.take_along_axis(costs, order, 1), 0.0, most)
    best = np.maximum.accumulate(np.clip(np.take_along_axis(gains, order, 1), 0.0, None), axis=1)
    widths = np.diff(np.concatenate([sorted_costs, np.full((len(costs), 1), most)], axis=1), axis=1)
    return np.asarray((widths * best).sum(axis=1) / most)


def naive_cost(gains: np.ndarray, curve_costs: np.ndarray, curve_gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cost at which naive scaling reaches a gain: on straight lines between what was tried, first time reached.

    Args:
        gains: wanted, [count].
        curve_costs, curve_gains: of naive scaling from the baseline (cost 0, gain 0) on, cost rising, [count, points].

    Returns:
        (cost, whether it is a lower bound: naive scaling as tried never reaches the gain), both [count].
    """
    cost = np.where(gains <= 0, 0.0, np.nan)
    for k in range(1, curve_costs.shape[1]):
        c0, c1, g0, g1 = (a[:, n] for a in (curve_costs, curve_gains) for n in (k - 1, k))
        reached = np.isnan(cost) & (g1 >= gains)
        share = np.divide(gains - g0, g1 - g0, out=np.ones_like(gains), where=g1 > g0)
        cost = np.where(reached, c0 + np.clip(share, 0.0, 1.0) * (c1 - c0), cost)
    beyond = np.isnan(cost)
    return np.where(beyond, curve_costs[:, -1], cost), beyond


def saving(gain: np.ndarray, cost: np.ndarray, naive_costs: np.ndarray, naive_gains: np.ndarray) -> Saving | None:
    """`Saving` of an arm; row 0 of all arguments is the estimate, the others are draws. None where it costs nothing.

    Args:
        gain, cost: of the arm over the baseline, [1 + count].
        naive_costs, naive_gains: as for `naive_cost`.
    """
    if cost[0] <= 0:
        return None
    equal, beyond = naive_cost(gain, naive_costs, naive_gains)
    times = np.divide(equal, cost, out=np.full_like(equal, np.inf), where=cost > 0)
    low: float | None = None
    high: float | None = None
    high_at_least = False
    if len(times) > 2:
        drawn = times[1:]
        first, last = math.floor(0.025 * len(drawn)), math.ceil(0.975 * len(drawn)) - 1
        low, high = (float(value) for value in np.partition(drawn, (first, last))[[first, last]])
        high_at_least = bool(beyond[1:][drawn == high].any())
    return Saving(float(times[0]), low, high, bool(beyond[0]), high_at_least)


def _order(costs: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The arms of every draw by cost, and by falling gain where costs are equal: [count, arms] of int."""
    if (costs == costs[0]).all() and len(np.unique(costs[0])) == costs.shape[1]:
        return np.broadcast_to(np.argsort(costs[0]), costs.shape)
    return np.asarray(np.lexsort((-gains, costs), axis=1))
