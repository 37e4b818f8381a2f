"""Paired statistics against scipy, plain formulas and simulation."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from laurel_cli.verdict.paired import (
    compare,
    correlation,
    difference,
    holm,
    holm_levels,
    looks,
    mean,
    ratio,
    smallest_visible,
)

A = [0.81, 0.79, 0.84, 0.80, 0.86]
B = [0.83, 0.80, 0.84, 0.83, 0.87]


def t_test(x: np.ndarray) -> np.ndarray:
    """Two-sided p-values of rows against zero, written out."""
    n = x.shape[-1]
    return 2 * stats.t.sf(np.abs(x.mean(-1)) / (x.std(-1, ddof=1) / math.sqrt(n)), n - 1)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_a_difference_is_the_paired_t_test(confidence):
    found, truth = difference(A, B, confidence), stats.ttest_rel(A, B)
    interval = truth.confidence_interval(confidence)
    assert found.p == pytest.approx(truth.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(A) - np.mean(B))
    assert found.sd == pytest.approx(np.std(np.subtract(A, B), ddof=1))
    assert (found.n, found.confidence) == (5, confidence)
    assert found.separated == (truth.pvalue < 1 - confidence)


def test_a_mean_has_the_t_interval():
    found = mean(A)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(A), stats.sem(A)), rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "middle"),
    [([1.0], [0.5], 0.5), ([0.8, 0.8, 0.8], [0.7, 0.7, 0.7], 0.1), ([0.3, 0.9], [0.1, 0.7], 0.2), (A, A, 0.0)],
    ids=["one pair", "the same run thrice", "equal but for rounding", "bit-equal"],
)
def test_without_a_spread_nothing_is_claimed(a, b, middle):
    found = difference(a, b)
    assert found.mean == pytest.approx(middle)
    assert (found.low, found.high, found.p) == (-math.inf, math.inf, 1.0)
    assert not found.separated


def test_a_spread_far_below_the_losses_is_still_one():
    assert difference([2.0 + 1e-12, 2.0 + 2e-12, 2.0], [1.0, 1.0, 1.0]).separated


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_what_is_no_value_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        mean(values)
    with pytest.raises(ValueError, match="finite"):
        difference(values, values)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        difference([1.0, 2.0], [1.0])


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_the_interval_covers_the_truth(n, shape):
    """Skewed: a gamma distribution of shape 8, skewness 0.7. The same through our function and the vectorised one."""
    rng, runs = np.random.default_rng(n), 40_000
    draws = rng.normal(0.3, 1.0, (runs, n)) if shape == "normal" else rng.gamma(8.0, 1.0, (runs, n))
    truth = 0.3 if shape == "normal" else 8.0
    half = stats.t.ppf(0.975, n - 1) * draws.std(1, ddof=1) / math.sqrt(n)
    held = np.abs(draws.mean(1) - truth) <= half
    ours = [mean(row.tolist()) for row in draws[:500]]
    assert [item.low <= truth <= item.high for item in ours] == held[:500].tolist()
    assert held.mean() == pytest.approx(0.95, abs=0.004 if shape == "normal" else 0.015)


def test_a_percentile_bootstrap_would_not():
    """Why it is not offered: at five pairs a "95 %" one covers about 84 %."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(2000, 5))
    means = np.take_along_axis(draws[:, None, :], rng.integers(0, 5, (2000, 400, 5)), axis=2).mean(2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert ((low <= 0) & (high >= 0)).mean() < 0.88


def rejected_by_holm(p_values: list[float], alpha: float) -> set[int]:
    """Holm's procedure, word for word: the smallest against alpha / m, the next against alpha / (m - 1), to the end."""
    left, rejected = dict(enumerate(p_values)), set()
    while left:
        i = min(left, key=lambda key: left[key])
        if left[i] >= alpha / len(left):
            break
        rejected.add(i)
        del left[i]
    return rejected


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_levels([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.05 / 3, 0.025, 0.025, 0.0125])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_holm_is_the_procedure(m):
    rng = np.random.default_rng(m)
    for _ in range(300):
        p_values = (rng.uniform(size=m) ** 4).tolist()
        rejected = rejected_by_holm(p_values, 0.05)
        adjusted, levels = holm(p_values), holm_levels(p_values)
        assert {i for i in range(m) if adjusted[i] < 0.05} == rejected
        assert {i for i in range(m) if p_values[i] < levels[i]} == rejected


@pytest.mark.parametrize("family", [None, 7])
def test_intervals_agree_with_the_corrected_verdicts(family):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(100):
        base = rng.normal(size=5)
        pairs = [((base + rng.normal(effect, 0.3, 5)).tolist(), base.tolist()) for effect in (0.0, 0.3, 0.5, 0.8)]
        p_values = [stats.ttest_rel(*pair).pvalue for pair in pairs] + [1.0] * ((family or 4) - 4)
        rejected = rejected_by_holm(p_values, 0.05)
        found = compare(pairs, family=family)
        assert {i for i, item in enumerate(found) if item.separated} == rejected
        assert {i for i, item in enumerate(found) if item.p < 0.05} == rejected
        # Never narrower than the interval of one comparison alone.
        for item, pair in zip(found, pairs, strict=True):
            alone = stats.ttest_rel(*pair).confidence_interval(0.95)
            assert item.low <= alone.low + 1e-12
            assert item.high >= alone.high - 1e-12
        seen.add(len(rejected))
    assert {0, 1, 2, 3} <= seen


def test_wrong_claims_among_many_arms_stay_under_five_percent():
    """Four arms against one baseline, none of them different; and two that are beside two that are not."""
    rng = np.random.default_rng(0)
    for effects in ([0, 0, 0, 0], [2, 0, 0, 3]):
        wrong = 0
        for _ in range(1500):
            base = rng.normal(size=5)
            pairs = [((base + rng.normal(effect, 0.5, 5)).tolist(), base.tolist()) for effect in effects]
            wrong += any(item.separated for item, effect in zip(compare(pairs), effects, strict=True) if effect == 0)
        assert wrong / 1500 < 0.065  # 0.05 and 2.7 standard errors


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_smallest_visible_effect_is_seen_in_four_of_five_studies(n, alpha):
    effect = smallest_visible(2.0, n, alpha)
    critical, centre = stats.t.ppf(1 - alpha / 2, n - 1), effect / 2.0 * math.sqrt(n)
    assert stats.nct.sf(critical, n - 1, centre) == pytest.approx(0.8, abs=1e-4)
    draws = np.random.default_rng(n).normal(effect, 2.0, (40_000, n))
    assert (t_test(draws) < alpha).mean() == pytest.approx(0.8, abs=0.01)


def test_without_a_spread_no_effect_is_visible():
    assert smallest_visible(1.0, 1) == smallest_visible(math.nan, 5) == smallest_visible(0.0, 5) == math.inf


def test_correlation():
    assert correlation(A, B) == pytest.approx(np.corrcoef(A, B)[0, 1])
    assert correlation(A, A) == pytest.approx(1.0)
    assert correlation([1.0, 2.0], [3.0, 1.0]) is None
    assert correlation([1.0, 1.0, 1.0], [3.0, 1.0, 2.0]) is None


def test_a_ratio_has_fiellers_interval():
    """Its ends are the ratios that a t-test of y - ratio x just does not reject."""
    y, x = np.array([0.02, 0.05, 0.03, 0.04, 0.01]), np.array([0.30, 0.36, 0.33, 0.28, 0.35])
    found = ratio(y.tolist(), x.tolist(), 0.9)
    assert found is not None
    assert found.mean == pytest.approx(y.mean() / x.mean())
    for end in (found.low, found.high):
        assert stats.ttest_1samp(y - end * x, 0).pvalue == pytest.approx(0.1, rel=1e-6)
    assert found.low < found.mean < found.high
    assert (found.low > 0) == difference(y.tolist(), [0.0] * 5, 0.9).separated


def test_a_ratio_to_what_may_be_zero_is_none():
    assert ratio([1.0, 2.0, 3.0], [0.5, -0.4, 0.1]) is None
    assert ratio([1.0], [1.0]) is None
    assert ratio([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_looks():
    for most, first in itertools.product((5, 6, 9, 20, 100), (2, 3, 5)):
        declared = looks(most, first)
        sizes = [look.n for look in declared]
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == most
        assert sizes[0] == first or len(sizes) == 1
        assert math.fsum(look.alpha for look in declared) == pytest.approx(0.05)
        assert all(look.alpha > 0 for look in declared)
    for wrong in ((4, 5), (5, 1), (5, 5, 1.0)):
        with pytest.raises(ValueError, match="no looks"):
            looks(*wrong)


@pytest.mark.parametrize("arms", [1, 4])
def test_looking_again_and_again_finds_nothing_where_nothing_is(arms):
    """All looks and all arms together make a wrong claim in at most 5 % of studies; uncorrected looks in many more."""
    runs, declared = 20_000, looks(20)
    rng = np.random.default_rng(arms)
    base = rng.normal(size=(runs, 1, 20))
    losses = base + rng.normal(0, 0.5, (runs, arms, 20)) - base
    claimed = np.zeros(runs, bool)
    naive = np.zeros(runs, bool)
    for look in declared:
        p = t_test(losses[:, :, : look.n])
        claimed |= p.min(1) < look.alpha / arms  # Holm's first step: without it no arm is separated
        naive |= p.min(1) < 0.05 / arms
    assert 0.02 < claimed.mean() <= 0.05
    assert naive.mean() > 0.1


def test_reading_needs_neither_torch_nor_all_of_scipy():
    script = (
        "import sys, laurel_cli.verdict.paired as paired; assert 'scipy' not in sys.modules\n"
        "paired.difference([1., 2.], [3., 5.]); assert not {'torch', 'scipy.stats'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
