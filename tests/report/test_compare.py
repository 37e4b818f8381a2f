"""Comparisons against scipy, and joint draws against the paired t-test that they must agree with."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from laurel_cli.report.compare import draws, effects, share_ends


def scores(rng, seeds, mean, block=None, own=0.1):
    return {s: mean + (block or {}).get(s, 0.0) + rng.gauss(0, own) for s in seeds}


@pytest.fixture
def rng():
    return random.Random(4)


def test_shared_seeds_are_paired(rng):
    block = {s: rng.gauss(0, 1) for s in range(6)}
    a, b = scores(rng, range(6), 1.2, block), scores(rng, range(6), 1.0, block)
    (found,) = effects([(a, b)])
    theirs = stats.ttest_rel([a[s] for s in range(6)], [b[s] for s in range(6)])
    assert (found.gain, found.p) == pytest.approx((np.mean([a[s] - b[s] for s in a]), theirs.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert (found.n, found.paired) == (6, True)


def test_no_shared_seed_is_welch(rng):
    a, b = scores(rng, range(5), 1.2, own=0.4), scores(rng, range(10, 17), 1.0)
    (found,) = effects([(a, b)])
    theirs = stats.ttest_ind(list(a.values()), list(b.values()), equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert (found.n, found.paired) == (5, False)


def test_only_common_seeds_count(rng):
    a, b = scores(rng, range(5), 1.0), scores(rng, range(2, 8), 1.0)
    assert effects([(a, b)])[0].gain == pytest.approx(np.mean([a[s] - b[s] for s in (2, 3, 4)]))


def test_holm_over_the_family(rng):
    base = scores(rng, range(5), 1.0)
    arms = [scores(rng, range(5), 1.0 + 0.1 * i) for i in range(4)]
    found = effects([(arm, base) for arm in arms])
    p = sorted(e.p for e in found)
    stepped = [max((len(p) - k) * p[k] for k in range(i + 1)) for i in range(len(p))]
    assert sorted(e.p_holm for e in found) == pytest.approx([min(1, x) for x in stepped])
    for e in found:
        assert (e.low > 0 or e.high < 0) == (e.p_holm < 0.05)
        assert e.verdict == ("not separated" if e.p_holm >= 0.05 else "better" if e.gain > 0 else "worse")


@pytest.mark.parametrize(("a", "b"), [({0: 1.0}, {0: 0.5}), ({0: 1.0}, {1: 0.5}), ({0: 1.0, 1: 1.0}, {0: 0.5, 1: 0.5})])
def test_without_a_spread_nothing_is_claimed(a, b):
    (found,) = effects([(a, b)])
    assert (found.gain, found.p, found.verdict) == (0.5, 1.0, "not separated")
    assert math.isinf(found.low)
    assert math.isinf(found.high)


def test_draws_agree_with_the_paired_test(rng):
    """P(a is better) must be one minus half of the two-sided p of the paired t-test."""
    block = {s: rng.gauss(0, 1) for s in range(5)}
    a, b, c = (scores(rng, range(5), mean, block) for mean in (1.10, 1.0, 1.05))
    drawn = draws([a, b, c], count=200_000)
    for i, j, x, y in ((0, 1, a, b), (0, 2, a, c), (1, 2, b, c)):
        p = stats.ttest_rel([x[s] for s in range(5)], [y[s] for s in range(5)], alternative="greater").pvalue
        assert np.mean(drawn[:, i] > drawn[:, j]) == pytest.approx(1 - p, abs=0.005)


def test_draws_of_one_arm_are_its_t_distribution(rng):
    values = scores(rng, range(6), 2.0, own=0.5)
    drawn = draws([values], count=200_000)[:, 0]
    x = list(values.values())
    theirs = stats.t(df=5, loc=np.mean(x), scale=stats.sem(x))
    for q in (0.025, 0.25, 0.5, 0.975):
        assert np.mean(drawn <= theirs.ppf(q)) == pytest.approx(q, abs=0.006)


def test_arms_without_shared_seeds_vary_apart(rng):
    a, b = scores(rng, range(5), 1.0), scores(rng, range(5, 10), 1.0)
    drawn = draws([a, b], count=100_000)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.02


def test_draws_are_the_same_every_time(rng):
    a, b = scores(rng, range(5), 1.0), scores(rng, range(5), 1.1)
    assert (draws([a, b]) == draws([b, a])[:, ::-1]).all()
    assert (draws([a, b]) == draws([a, b])).all()


def test_the_share_of_a_gain_covers_the_truth_paired_and_not(rng):
    """Arms with 0.6 of naive's gain: the interval holds 0.6 in about 95 of 100 studies."""
    for shift in (0, 100):
        held = known = 0
        for _ in range(150):
            base, naive, arm = (
                scores(rng, range(k * shift, k * shift + 6), mean, own=0.02) for k, mean in enumerate((1.0, 1.25, 1.15))
            )
            low, high = share_ends(arm, naive, base)
            known += low is not None
            held += low is not None and low <= 0.6 <= high
        assert known > 140
        assert 0.89 <= held / known <= 1.0


def test_no_share_of_a_gain_that_is_none(rng):
    base, naive, arm = (scores(rng, range(5), 1.0) for _ in range(3))
    assert share_ends(arm, naive, base) == (None, None)
