"""The baseline's loss against compute, against curves that are written out and derivatives taken by differences."""

import math

import numpy as np
import pytest

from laurel_cli.verdict.curve import STEEPEST, fitted, worth

XS = [math.log(c) for c in (1.0, 5.1, 16.0, 81.0)]


def power(x, floor=1.2, above=1.0, exponent=0.12):
    """E + A C^-a."""
    return floor + above * math.exp(-exponent * x)


@pytest.mark.parametrize("exponent", [0.05, 0.12, 0.4])
@pytest.mark.parametrize("sizes", [3, 4])
def test_a_power_law_is_found_again(exponent, sizes):
    xs = XS[:sizes]
    curve = fitted(xs, [power(x, exponent=exponent) for x in xs])
    assert curve.bend == pytest.approx(exponent, abs=1e-4)
    for x in np.linspace(xs[0], xs[-1] + 1, 9):
        assert curve.loss(x) == pytest.approx(power(x, exponent=exponent), abs=1e-5)
        assert curve.fall(x) == pytest.approx(exponent * math.exp(-exponent * x), rel=1e-3)


@pytest.mark.parametrize("saved", [-0.5, -0.02, 0.0, 0.05, 0.7, 1.5])
def test_a_gain_is_worth_the_compute_that_makes_it(saved):
    """The loss at x + u is lower by g: then g at x is worth u."""
    curve = fitted(XS, [power(x) for x in XS])
    for x in XS:
        gain = power(x) - power(x + saved)
        assert worth(curve, x, gain).saved == pytest.approx(saved, abs=2e-4)


def test_two_sizes_make_a_straight_line():
    curve = fitted(XS[:2], [2.0, 1.8])
    assert curve.bend == 0
    fall = 0.2 / (XS[1] - XS[0])
    assert curve.fall(XS[1]) == pytest.approx(fall)
    assert worth(curve, XS[1], 0.05).saved == pytest.approx(0.05 / fall)


def test_losses_that_bend_upwards_are_taken_for_a_line():
    """Falling faster and faster is no power law towards a floor: its nearest one has a = 0."""
    assert fitted(XS[:3], [2.0, 1.95, 1.5]).bend == 0


def test_a_loss_that_drops_to_its_floor_at_once_has_the_steepest_bend():
    assert fitted(XS[:3], [2.0, 1.5, 1.4999]).bend == STEEPEST


def test_a_loss_that_does_not_fall_has_no_curve():
    assert fitted(XS, [1.0, 1.1, 1.2, 1.3]) is None
    assert fitted(XS[:2], [1.0, 1.0]) is None


def test_a_gain_below_the_floor_has_no_price():
    curve = fitted(XS, [power(x) for x in XS])
    assert worth(curve, XS[-1], power(XS[-1]) - 1.2) is None
    assert worth(curve, XS[-1], 0.5 * (power(XS[-1]) - 1.2)) is not None


@pytest.mark.parametrize("losses", [[2.2, 2.03, 1.92, 1.78], [2.0, 1.95, 1.5]])
@pytest.mark.parametrize("gain", [-0.03, 1e-6, 0.04])
def test_derivatives_are_those_by_differences(losses, gain):
    """Of the price by the gain, and by the baseline's loss at each size, where the fit is exact or a at its end."""
    xs = XS[: len(losses)]
    if len(losses) == 4:  # on a curve, so that the derivative of least squares has no part from what is left
        losses = [power(x) for x in xs]
    x, step = xs[-1], 1e-4

    def price(moved, gain):
        return worth(fitted(xs, moved), x, gain).saved

    found = worth(fitted(xs, losses), x, gain)
    assert found.to_gain == pytest.approx(
        (price(losses, gain + step) - price(losses, gain - step)) / (2 * step), rel=1e-3
    )
    for number in range(len(losses)):
        up, down = ([*losses] for _ in range(2))
        up[number] += step
        down[number] -= step
        by_difference = (price(up, gain) - price(down, gain)) / (2 * step)
        assert found.to_losses[number] == pytest.approx(by_difference, rel=5e-3, abs=1e-4)
