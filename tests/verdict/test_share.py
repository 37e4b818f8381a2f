"""The share of naive scaling's gain that an arm has: Fieller's interval, in blocks and without."""

import random
from statistics import fmean, variance

import pytest
from scipy import stats

from laurel_cli.verdict.document import judged
from laurel_cli.verdict.saved import share_of_naive
from tests.report.made import ARMS, trial


def scores(rng, seeds, mean, sd=0.02):
    return {seed: rng.gauss(mean, sd) for seed in seeds}


def test_the_share_covers_the_truth_paired_and_not():
    """Arms with 0.6 of naive's gain: the interval holds 0.6 in about 95 of 100 studies."""
    rng = random.Random(4)
    for shift in (0, 100):
        held = known = 0
        for _ in range(400):
            base, naive, arm = (
                scores(rng, range(k * shift, k * shift + 6), mean) for k, mean in enumerate((1.0, 1.25, 1.15))
            )
            found = share_of_naive(arm, naive, base, 0.95)
            known += found is not None
            held += found is not None and found.low <= 0.6 <= found.high
        assert known > 390
        assert 0.92 <= held / known <= 1.0


def test_without_blocks_the_ends_are_where_the_t_statistic_is_at_its_limit():
    """Fieller: at an end r the difference arm - r naive - (1 - r) base is as large as its t-limit allows."""
    rng = random.Random(1)
    base, naive, arm = (scores(rng, range(10 * k, 10 * k + 5), mean) for k, mean in enumerate((1.0, 1.25, 1.15)))
    found = share_of_naive(arm, naive, base, 0.98)
    limit = stats.t(4).ppf(0.99)
    for r in (found.low, found.high):
        parts = ((arm, 1.0), (naive, -r), (base, r - 1))
        middle = sum(weight * fmean(one.values()) for one, weight in parts)
        error = sum(weight**2 * variance(one.values()) / 5 for one, weight in parts) ** 0.5
        assert abs(middle) / error == pytest.approx(limit)


def test_no_share_of_a_gain_that_is_none_and_of_a_spread_that_is_unknown():
    values = (0.98, 0.99, 1.00, 1.01, 1.02)
    base, naive, arm = ({10 * k + i: value for i, value in enumerate(values)} for k in range(3))
    assert share_of_naive(arm, naive, base, 0.95) is None
    assert share_of_naive({1: 2.0}, {2: 3.0}, {3: 1.0}, 0.95) is None
    # Two of the three share seeds: neither paired nor independent.
    assert share_of_naive(arm, {seed: 2.0 + value for seed, value in base.items()}, base, 0.95) is None


@pytest.mark.parametrize("seed", range(40))
def test_a_share_leaves_out_zero_exactly_where_the_arm_is_separated(seed):
    rng = random.Random(seed)
    arms = [(name, kind, 1 - rng.choice([0.0, 0.01, 0.02, 0.1])) for name, kind, _, _ in ARMS if kind != "copy"]
    arms[0] = ("baseline", "baseline", 1.0)
    trials = [trial(name, kind, s, rng.gauss(loss, 0.02)) for name, kind, loss in arms for s in range(5)]
    found = judged([], trials)
    for item in found.judged:
        if found.naive is None or item.name == "naive+1":
            assert item.share_of_naive is None
            continue
        share = item.share_of_naive
        assert share is not None
        assert (share.low > 0 or share.high < 0) == (item.gain.p_holm < 0.05)
