"""Intervals hold the true ratio as often as they say, verdicts are rarely wrong: by hand, and on simulated runs."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from laurel_cli.latency.estimate import (
    Error,
    Estimate,
    Interval,
    alone,
    estimate,
    figures,
    first_look,
    judged,
    processes_needed,
)
from tests.bench import latency_statistics
from tests.bench.latency_statistics import LOOSE, MIDDLE, NOISES, Noise, run

FOUR = 2.776445  # the t-distribution's 97.5 % point for four degrees of freedom, from a table


def test_a_process_gives_one_figure() -> None:
    samples = {(0, 0): [1, 0, 9], (0, 1): [2], (1, 0): [3, 3], (1, 1): [5, 7], (1, 2): [6]}
    assert figures(samples) == [1.5, 5.0]  # of medians 1, 2 and 3, 6, 6


def test_the_interval_by_hand() -> None:
    """Five figures 1, 2, 3, 4, 5: mean 3, variance 2.5."""
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0], first=5)
    assert (found.mean, found.first, found.processes) == (3.0, found.all, 5)
    assert found.half_width(0.95) == pytest.approx(FOUR * math.sqrt(2.5 / 5), rel=1e-6)
    # t = 3 / sqrt(0.5) = 4.2426 with 4 degrees of freedom: p = 0.0132 by a table.
    assert found.p == pytest.approx(0.01324, abs=5e-5)


def test_the_mean_is_that_of_all_processes_and_the_wider_interval_counts() -> None:
    """Variance 2.5 of the first five with 4 degrees of freedom, 82 / 9 of all ten with 9."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 11.0, 5.0, 5.0, 5.0]
    found = estimate(values, first=5)
    assert found.mean == 5.0
    assert found.first == Error(math.sqrt(2.5 / 10), 4)
    assert found.all == Error(math.sqrt(82 / 9 / 10), 9)
    nine = 2.262157  # by a table
    assert found.half_width(0.95) == pytest.approx(nine * math.sqrt(82 / 90), rel=1e-6)
    calm = estimate([*values[:5], 3.0, 3.0, 3.0, 3.0, 3.0], first=5)
    assert calm.half_width(0.95) == pytest.approx(FOUR * math.sqrt(2.5 / 10), rel=1e-6)


def test_fewer_processes_than_the_first_look_are_all_there_is() -> None:
    assert estimate([1.0, 3.0], first=5) == Estimate(2.0, Error(1.0, 1), Error(1.0, 1), 2)


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3]])
def test_an_unknown_spread_claims_nothing(values: list[float]) -> None:
    found = alone(estimate(values, first=5))
    assert (found.low, found.high, found.p, found.verdict) == (0.0, math.inf, 1.0, "not separated")
    assert found.width == math.inf


def test_a_huge_spread_is_no_overflow() -> None:
    assert alone(estimate([-900.0, 900.0], first=5)).high == math.inf


def test_milliseconds_come_back_from_their_logarithm() -> None:
    found = Interval.of(estimate([math.log(1.0), math.log(4.0)], first=5))
    assert found.median == pytest.approx(2.0)
    assert found.high / found.median == pytest.approx(found.median / found.low)
    assert found.confidence == 0.95


def test_verdicts_are_holms_and_agree_with_their_intervals() -> None:
    """p-values 0.01, 0.02, 0.04 and 0.2 of 4, written out: 0.01 < 0.05 / 4, 0.02 > 0.05 / 3, where it ends."""
    named = {"a": 0.04, "b": 0.01, "c": 0.2, "d": 0.02}
    found = judged({name: _with_p(p) for name, p in named.items()})
    assert {name: one.p for name, one in found.items()} == pytest.approx(named, rel=1e-6)
    assert [one.p_holm for one in found.values()] == pytest.approx([0.08, 0.04, 0.2, 0.06], rel=1e-6)
    assert [one.confidence for one in found.values()] == pytest.approx(
        [1 - 0.05 / 3, 1 - 0.05 / 4, *[1 - 0.05 / 3] * 2]
    )
    assert {name for name, one in found.items() if one.verdict == "slower"} == {"b"}
    assert alone(_with_p(0.02)).verdict == "slower"


def test_the_verdict_is_the_adjusted_p_value() -> None:
    random = np.random.default_rng(3)
    for _ in range(300):
        arms = {
            str(i): estimate(list(random.normal(0.01 * i, 0.02, 6)), first=6) for i in range(int(random.integers(1, 7)))
        }
        for one in judged(arms).values():
            assert (one.verdict != "not separated") == (one.p_holm < 0.05)


def test_the_first_look_is_after_five_processes_or_more() -> None:
    assert [first_look(arms) for arms in (0, 1, 2, 3, 4, 20)] == [5, 5, 6, 7, 8, 8]


def test_as_many_processes_as_are_needed_and_no_more() -> None:
    """At the widest level that Holm may give: 1 - 0.05 / 2 for two arms."""
    random = np.random.default_rng(0)
    values = [list(random.normal(0, sd, 400)) for sd in (0.01, 0.02)]

    def estimates(processes: int) -> list[Estimate]:
        return [estimate(arm[:processes], first=6) for arm in values]

    def widest(processes: int) -> float:
        return max(Interval.of(one, 1 - 0.05 / 2).width for one in estimates(processes))

    processes = 6
    while (needed := processes_needed(estimates(processes), precision=0.02)) is None or needed > processes:
        assert widest(processes) >= 0.02
        processes += 1
    assert 6 < processes < 400
    assert widest(processes) < 0.02
    forecast = processes_needed(estimates(6), precision=0.02)
    assert forecast is not None
    assert 0.3 < forecast / processes < 3
    assert processes_needed([estimate([0.1], first=6)], precision=0.02) is None


def test_a_planted_slowdown_is_seen() -> None:
    random = np.random.default_rng(1)
    verdicts = []
    for _ in range(200):
        found = run(random, 1, NOISES[1], LOOSE).to_baseline["naive+1"]
        verdicts.append(alone(replace(found, mean=found.mean + math.log(1.05))).verdict)
    assert verdicts.count("slower") >= 198


def test_rounds_alone_would_not_cover() -> None:
    """Why processes are counted: sixty rounds at one place are sure of the wrong ratio."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        rounds = random.normal(0, 0.005) + random.normal(0, 0.01, 60)
        held += abs(rounds.mean()) <= NormalDist().inv_cdf(0.975) * rounds.std(ddof=1) / math.sqrt(60)
    assert held < 600


@pytest.mark.parametrize("far_off", [False, True])
def test_stopping_by_precision_leaves_the_level_as_it_is(far_off: bool) -> None:
    """Against t-intervals of all processes, which cover 92 % at the precision where it matters most.

    Both on the same runs; 2,000 of them say the share to 0.5 points. One process in twelve may be ten times as far off.
    """
    random = np.random.default_rng(0)
    first, most, narrow = 5, 30, math.expm1(0.012)
    ours = theirs = 0
    for _ in range(2000):
        scale = np.where(random.random(most) < 1 / 12, 10.0, 1.0) if far_off else 1.0
        values = list(random.normal(0, 0.01, most) * scale)
        count = first
        while count < most and (processes_needed([estimate(values[:count], first)], narrow) or most) > count:
            count += 1
        ours += _holds(estimate(values[:count], first))
        count = first
        while count < most and Interval.of(estimate(values[:count], count)).width >= narrow:
            count += 1
        theirs += _holds(estimate(values[:count], count))
    assert ours / 2000 > 0.94
    assert theirs < ours
    assert far_off or theirs / 2000 < 0.94


@pytest.mark.parametrize("arms", [1, 3, 6])
def test_simulated_runs_are_rarely_wrong(arms: int) -> None:
    """The page's own functions, quickly: 5 % with a standard error of 1.3 points."""
    random = np.random.default_rng(arms)
    runs = [run(random, arms, Noise("", 0.004, 0.004, 0.01), MIDDLE) for _ in range(300)]
    wrong = [any(one.verdict != "not separated" for one in judged(found.to_baseline).values()) for found in runs]
    assert sum(wrong) / 300 < 0.05 + 3 * 0.0126
    if arms > 1:
        naive = [any(one.verdict != "not separated" for one in judged(found.to_naive).values()) for found in runs]
        assert sum(naive) / 300 < 0.05 + 3 * 0.0126
        assert sum(found.uncorrected for found in runs) > sum(wrong)


def test_the_pages_rows() -> None:
    found = latency_statistics.rows(2)
    assert {row["arms"] for row in found} == {1, 3, 6}
    assert all(0 <= row["coverage"] <= 1 and row["processes"] >= 5 for row in found)


def _holds(found: Estimate) -> bool:
    one = alone(found)
    return one.low <= 1 <= one.high


def _with_p(p: float) -> Estimate:
    """An estimate with that p-value."""
    from scipy.stats import t

    return Estimate(float(t.isf(p / 2, 6)) * 0.01, Error(0.01, 6), Error(0.01, 6), 7)
