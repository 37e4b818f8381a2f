"""Times fewer than naive scaling: the paper's figure where the quality is equal, one-sided where nothing is known."""

import math
import random

import pytest

from laurel_cli.reports import words
from laurel_cli.reports.frontier import AddedCost
from laurel_cli.reports.savings import saving
from laurel_cli.verdict.paired import MeanInterval


def exact(value):
    return AddedCost(value, value, value)


def measured(value, low, high):
    return AddedCost(value, low, high, level=0.95)


def plain(found):
    return {key: None if math.isinf(value) else value for key, value in vars(found).items()}


def test_the_papers_figures():
    equal = saving(MeanInterval(1.0, 0.4, 1.6, 5), 0.98, exact(1.68), exact(4.37))
    assert f"{equal.times:.1f}" == "2.6"
    assert (equal.at_least, equal.level) == (False, pytest.approx(0.98))
    better = saving(MeanInterval(1.2, 0.7, 1.7, 5), 0.98, exact(2.40), exact(4.37))
    assert f"{better.times:.2f}" == "1.82"
    assert better.at_least


@pytest.mark.parametrize(
    ("share", "said"),
    [
        ((1.0, 0.5, 1.6), "2.60x (at least 1.30x)"),
        ((0.6, 0.4, 0.8), "1.56x [1.04x, 2.08x]"),
        ((1.3, 0.5, 2.0), "2.60x or more (at least 1.30x)"),
        ((1.3, 1.1, 2.0), "at least 2.60x"),
        ((0.3, -0.2, 0.8), "0.78x (at most 2.08x)"),
    ],
)
def test_words(share, said):
    mean, low, high = share
    found = saving(MeanInterval(mean, low, high, 5), 0.98, exact(1.68), exact(4.37))
    assert words.saving(plain(found)) == said


def test_an_interval_that_excludes_nothing_is_not_known():
    assert not saving(MeanInterval(1.3, -0.2, 2.0, 5), 0.98, exact(0.001), exact(4.37)).known
    assert words.saving(None) == "not known"


def test_no_interval_has_one_bound_twice():
    """The old figure: `>= 389.33x [389.33x, >= 389.33x]`."""
    rng = random.Random(1)
    for _ in range(500):
        middle, half = rng.uniform(-1, 3), rng.uniform(0, 1)
        found = saving(
            MeanInterval(middle, middle - half, middle + half, 5), 0.98, exact(rng.uniform(0.001, 5)), exact(4.37)
        )
        if not found.known:
            assert (found.low, found.high in (0, math.inf)) == (0, True)
            continue
        assert found.low < found.high
        assert found.low <= found.times
        assert found.times <= found.high


def test_a_measured_cost_widens_the_interval_and_lowers_its_level():
    share = MeanInterval(0.6, 0.4, 0.8, 5)
    found = saving(share, 0.98, measured(2.0, 1.0, 3.0), measured(4.0, 3.0, 5.0))
    assert found.times == pytest.approx(0.6 * 4 / 2)
    assert (found.low, found.high) == pytest.approx((0.4 * 3 / 3, 0.8 * 5 / 1))
    assert found.level == pytest.approx(1 - 0.02 - 0.05 - 0.05)
    # Where it may cost nothing, there is no upper bound; where naive scaling may cost nothing, no lower one.
    assert math.isinf(saving(share, 0.98, measured(2.0, -1.0, 3.0), exact(4.0)).high)
    assert saving(share, 0.98, exact(2.0), measured(4.0, -1.0, 5.0)).low == 0


def test_the_widened_interval_covers():
    """Both costs and the share are drawn; the truth is inside at least as often as the level says."""
    rng, held, runs = random.Random(5), 0, 2_000
    for _ in range(runs):
        middle, arm, naive = rng.gauss(0.6, 0.1), rng.gauss(2, 0.2), rng.gauss(4, 0.3)
        share = MeanInterval(middle, middle - 1.96 * 0.1, middle + 1.96 * 0.1, 5)
        costs = [AddedCost(v, v - 1.96 * sd, v + 1.96 * sd, level=0.95) for v, sd in ((arm, 0.2), (naive, 0.3))]
        found = saving(share, 0.95, *costs)
        held += found.low <= 0.6 * 4 / 2 <= found.high
        assert found.level == pytest.approx(0.85)
    assert held / runs > 0.97  # far more than 85 %: the three are hardly at their ends together


@pytest.mark.parametrize(("arm", "naive"), [(0.0, 4.0), (-1.0, 4.0), (2.0, 0.0), (2.0, -1.0)])
def test_nothing_is_no_divisor(arm, naive):
    assert saving(MeanInterval(0.6, 0.4, 0.8, 5), 0.98, exact(arm), exact(naive)) is None
