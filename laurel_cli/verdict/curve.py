"""A baseline's loss against compute: what one more of it is worth at each size, and what a gain would have cost.

Between a ladder's sizes the loss falls as a power of the compute C towards a floor, L(C) = E + A C^-a (Hestness et al.,
arXiv 1712.00409; Hoffmann et al., arXiv 2203.15556). With x = ln C, counted from the smallest size,

    L(x) = e - s (1 - exp(-a x)) / a        a straight line in x where a = 0

so s exp(-a x) is what the loss falls by for one more unit of ln C at x. A gain g over the baseline at x is the fall
that the baseline makes from x to x + u, and u is the compute saved, as a logarithm:

    g = s exp(-a x) (1 - exp(-a u)) / a      u = -ln(1 - a g / (s exp(-a x))) / a

The fit is by least squares of the sizes' mean losses, a between 0 and 1; of two sizes a = 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEEPEST = 1.0  # of a: a loss whose distance to its floor falls as 1 / C; exponents that were measured are 0.05 to 0.4
REACH = 0.9  # of what is left of the curve's fall: a gain beyond has no finite price that could be trusted
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """L(x) of the fit.

    Attributes:
        xs: ln C of the sizes, the first one's is `origin`.
        top, slope, bend: e, s and a.
        response: (3, sizes): by how much e, s and a move where the loss of one size moves by one nat.
    """

    xs: tuple[float, ...]
    origin: float
    top: float
    slope: float
    bend: float
    response: Vector

    def loss(self, x: float) -> float:
        """In nats, at ln C = x."""
        return self.top - self.slope * _fallen(x - self.origin, self.bend)

    def fall(self, x: float) -> float:
        """What the loss falls by, in nats for one more unit of ln C."""
        return self.slope * math.exp(-self.bend * (x - self.origin))


@dataclass(frozen=True)
class Worth:
    """What a gain is worth at one size.

    Attributes:
        saved: ln of the compute that the baseline needs for the arm's loss, over its own.
        to_gain: d saved / d gain.
        to_losses: (sizes,): d saved / d loss of the baseline at each size, through the curve.
    """

    saved: float
    to_gain: float
    to_losses: Vector


def fitted(xs: Sequence[float], losses: Sequence[float]) -> Scaling | None:
    """The curve through mean losses at ln C = xs, ascending, two sizes at least; None where the loss does not fall."""
    d = np.asarray(xs, dtype=float) - xs[0]
    means = np.asarray(losses, dtype=float)
    bend = 0.0 if len(d) < 3 else _best_bend(d, means)
    top, slope = _line(d, means, bend)
    if slope <= 0:
        return None
    free = len(d) >= 3 and 0 < bend < STEEPEST
    columns = [np.ones_like(d), -_fallen_all(d, bend)]
    if free:
        columns.append(-slope * _fallen_by_bend(d, bend))
    design = np.stack(columns, axis=1)
    response = np.zeros((3, len(d)))
    response[: len(columns)] = np.linalg.pinv(design)
    return Scaling(tuple(map(float, xs)), float(xs[0]), top, slope, bend, response)


def worth(curve: Scaling, x: float, gain: float) -> Worth | None:
    """What a gain of so many nats at ln C = x is worth; None where the baseline's curve does not reach so low.

    A loss (a negative gain) is a compute wasted, by the same curve followed downwards.
    """
    a, d, s = curve.bend, x - curve.origin, curve.fall(x)
    share = gain / s
    if a * share > REACH:
        return None
    left = 1 - a * share
    saved = share if a == 0 else -math.log1p(-a * share) / a
    to_gain = 1 / (s * left)
    to_fall = -share / (s * left)
    # At small a the two terms cancel: the series has what is left of them.
    to_bend = share**2 / 2 if abs(a * share) < 1e-4 else (share / left - saved) / a
    by_slope, by_bend = to_fall * math.exp(-a * d), to_bend - to_fall * d * s
    return Worth(saved, to_gain, by_slope * curve.response[1] + by_bend * curve.response[2])


def _fallen(d: float, bend: float) -> float:
    return d if bend == 0 else -math.expm1(-bend * d) / bend


def _fallen_all(d: Vector, bend: float) -> Vector:
    return d if bend == 0 else -np.expm1(-bend * d) / bend


def _fallen_by_bend(d: Vector, bend: float) -> Vector:
    return (d * np.exp(-bend * d) - _fallen_all(d, bend)) / bend


def _line(d: Vector, losses: Vector, bend: float) -> tuple[float, float]:
    """(e, s) by least squares for a given a."""
    fallen = _fallen_all(d, bend)
    centred = fallen - fallen.mean()
    slope = -float(centred @ losses / (centred @ centred))
    return float(losses.mean() + slope * fallen.mean()), slope


def _best_bend(d: Vector, losses: Vector) -> float:
    """a between 0 and `STEEPEST` by golden section; the ends where the best one lies beyond."""

    def misfit(bend: float) -> float:
        top, slope = _line(d, losses, bend)
        return float(np.sum((losses - top + slope * _fallen_all(d, bend)) ** 2))

    grid = [STEEPEST * i / 20 for i in range(21)]
    values = [misfit(bend) for bend in grid]
    best = min(range(21), key=values.__getitem__)
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 20)]
    ratio = (math.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    found = [misfit(inner[0]), misfit(inner[1])]
    while high - low > 1e-7:
        if found[0] <= found[1]:
            high, inner, found = inner[1], [inner[1] - ratio * (inner[1] - low), inner[0]], [0.0, found[0]]
            found[0] = misfit(inner[0])
        else:
            low, inner, found = inner[0], [inner[1], inner[0] + ratio * (high - inner[0])], [found[1], 0.0]
            found[1] = misfit(inner[1])
    middle = (low + high) / 2
    return min((0.0, STEEPEST, middle), key=misfit)
