"""A gain turned into steps and parameters, on curves whose answer is known."""

from __future__ import annotations

import math

import pytest

from laurel_cli.verdict.paired import MeanInterval
from laurel_cli.verdict.saved import cost_saved, share_of_naive, steps_saved, times_fewer


@pytest.mark.parametrize("gain", [0.005, 0.02, 0.03])
def test_steps_on_a_line_in_log_steps(gain):
    """Runs of T steps end at 3 - 0.1 log(T): the baseline reaches a gain at T exp(gain / 0.1), solved for by hand."""
    steps, fewer, slope = 1000, 700, 0.1
    fall = slope * math.log(steps / fewer)
    spread = (0.98, 1.0, 1.02, 1.01, 0.99)
    found = steps_saved([gain * e for e in spread], [fall * e for e in reversed(spread)], steps, fewer, 0.95)
    reached = math.exp((gain + slope * math.log(steps)) / slope)
    assert found.mean == pytest.approx(reached - steps, rel=1e-6)
    assert found.low < reached - steps < found.high
    assert not found.at_least


def test_steps_of_a_power_law_are_about_right():
    """loss = 0.5 + T^-0.3: the true number of steps of equal loss has a closed form."""
    steps, fewer = 1000, 700
    end = steps**-0.3
    gain = 0.05 * end
    truth = (end - gain) ** (-1 / 0.3) - steps
    falls = [(fewer**-0.3 - end) * e for e in (0.99, 1.0, 1.01)]
    assert steps_saved([gain * e for e in (1.01, 1.0, 0.99)], falls, steps, fewer, 0.95).mean == pytest.approx(
        truth, rel=0.15
    )


def test_the_line_is_followed_no_further_than_it_was_measured():
    falls = [0.035, 0.036, 0.034]
    beyond = steps_saved([0.10, 0.11, 0.12], falls, 1000, 700, 0.95)
    assert beyond.at_least
    assert beyond.mean == pytest.approx(1000 / 0.7 - 1000)
    assert beyond.high == math.inf
    assert steps_saved([0.05], [0.1], 1000, 700, 0.95) is None
    assert steps_saved([0.05, 0.06, 0.07], [0.1, -0.1, 0.05], 1000, 700, 0.95) is None
    assert steps_saved([0.05, 0.06, 0.07], [-0.1, -0.11, -0.12], 1000, 700, 0.95) is None


def test_costs_saved_by_hand():
    inside = cost_saved(MeanInterval(0.5, 0.25, 0.75, 5), 10, 1000)
    assert (inside.mean, inside.low, inside.high, inside.at_least) == (490, 240, 740, False)
    beyond = cost_saved(MeanInterval(1.5, 0.9, 2.5, 5), 10, 1000)
    assert (beyond.mean, beyond.low, beyond.high, beyond.at_least) == (990, 890, math.inf, True)


def test_times_fewer_by_hand():
    inside = times_fewer(MeanInterval(0.5, 0.25, 0.75, 5), 10, 1000)
    assert (inside.mean, inside.low, inside.high, inside.at_least) == (50, 25, 75, False)
    beyond = times_fewer(MeanInterval(1.5, 0.9, 2.5, 5), 10, 1000)
    assert (beyond.mean, beyond.low, beyond.high, beyond.at_least) == (100, 90, math.inf, True)
    assert times_fewer(MeanInterval(0.1, -0.5, 0.7, 5), 10, 1000).low == 0
    assert times_fewer(MeanInterval(0.5, 0.25, 0.75, 5), 0, 1000) is None


def test_a_share_is_that_of_common_blocks():
    base = dict.fromkeys(range(4), 0.0)
    naive = {0: 1.0, 1: 1.1, 2: 0.9, 9: 50.0}
    arm = {0: 0.5, 1: 0.56, 2: 0.44, 3: 40.0}
    assert share_of_naive(arm, naive, base, 0.95).mean == pytest.approx(0.5)
    assert share_of_naive(arm, {0: 1.0}, base, 0.95) is None
    assert share_of_naive(arm, {0: 1.0, 1: -1.0, 2: 0.1}, base, 0.95) is None
