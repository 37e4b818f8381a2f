"""Loss turned into steps, on curves whose answer is known."""

from __future__ import annotations

import math

import pytest

from laurel_cli.verdict.paired import Interval
from laurel_cli.proxy.equal_loss import late_slope, parameters_saved, steps_saved


def points(curve, steps):
    return [{"step": step, "loss": curve(step)} for step in steps]


@pytest.mark.parametrize("steps", [(600, 1200, 1800), (200, 400, 600), (599, 600), (410, 600)])
def test_the_slope_of_a_line_in_log_step(steps):
    assert late_slope(points(lambda t: 3 - 0.25 * math.log(t), steps)) == pytest.approx(0.25)


def test_only_the_last_third_counts():
    assert late_slope(points(lambda t: 9.0 if t < 400 else 1.0, (100, 200, 300, 400, 500, 600))) == 0


@pytest.mark.parametrize(
    "evaluations",
    [
        [],
        [{"step": 600, "loss": 1.0}],
        [{"step": 300, "loss": 2.0}, {"step": 600, "loss": 1.0}],
        [{"step": 500, "loss": 2.0}, {"step": 600, "loss": None}],
        [{"step": 500, "loss": math.nan}, {"step": 600, "loss": 1.0}],
    ],
)
def test_no_slope_where_the_end_of_the_curve_is_not_known(evaluations):
    assert late_slope(evaluations) is None


@pytest.mark.parametrize("power", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("gain", [0.01, 0.03])
def test_a_power_law_gives_about_the_right_steps_and_never_more(power, gain):
    """loss = 0.5 + c step^-power; the true step of equal loss has a closed form."""
    steps, scale = 1000, 1.0
    at_end = scale * steps**-power
    gain *= at_end
    truth = ((at_end - gain) / scale) ** (-1 / power) - steps
    slope = late_slope(points(lambda t: 0.5 + scale * t**-power, range(100, 1001, 100)))
    found = steps_saved(
        [gain * (1 + e) for e in (-0.01, 0, 0.01)], [slope * (1 + e) for e in (0.01, 0, -0.01)], steps, 0.95
    )
    assert 0.8 * truth < found.mean < truth
    assert found.low < found.mean < found.high


def test_decay_makes_the_estimate_too_small_not_too_large():
    """Runs of any length T end at 3 - 0.1 log(T); on the way the undecayed rate costs up to 0.3."""
    steps, slope = 1000, 0.1
    inside = late_slope(points(lambda t: 3 - slope * math.log(t) + 0.3 * (1 - t / steps), range(100, 1001, 100)))
    gains = [0.0099, 0.0100, 0.0101]
    truth = steps * math.expm1(0.01 / slope)
    assert 0 < steps_saved(gains, [inside * f for f in (0.99, 1.0, 1.01)], steps, 0.95).mean < truth


def test_a_gain_beyond_a_run_twice_as_long_is_not_put_into_steps():
    slopes = [0.1, 0.101, 0.099]
    assert steps_saved([0.10, 0.11, 0.12], slopes, 1000, 0.95) is None
    close = steps_saved([0.05, 0.06, 0.07], slopes, 1000, 0.99)
    assert close.high == math.inf
    assert close.mean == pytest.approx(1000 * math.expm1(0.6))
    assert steps_saved([0.05], [0.1], 1000, 0.95) is None
    assert steps_saved([0.05, 0.06, 0.07], [0.1, -0.1, 0.05], 1000, 0.95) is None
    assert steps_saved([0.05, 0.06, 0.07], [-0.1, -0.11, -0.12], 1000, 0.95) is None


def test_parameters_saved_by_hand():
    inside = parameters_saved(Interval(0.5, 0.25, 0.75, 5), 10, 1000)
    assert (inside.mean, inside.low, inside.high, inside.at_least) == (490, 240, 740, False)
    beyond = parameters_saved(Interval(1.5, 0.9, 2.5, 5), 10, 1000)
    assert (beyond.mean, beyond.low, beyond.high, beyond.at_least) == (990, 890, math.inf, True)
