"""How the compute that an arm saves changes from size to size, with intervals that carry all that blocks leave open.

At each size k the arm's gain over the baseline, within blocks, is worth u_k = ln of the compute that the baseline would
need for the arm's loss, over its own (`laurel_cli.verdict.curve`). The arm costs r_k times the baseline, so it saves

    y_k = u_k - ln r_k        exp(y_k) times as much compute for the same loss

A trend is the straight line of y over the logarithm of compute, by least squares: each figure of it is a weighted sum
of the y_k. Every block moves such a sum linearly (to first order), by its own losses: through the arm's gain at its
size, and through the baseline's curve at all sizes. So the sum's variance is that of the blocks' influences, size for
size, which are independent since no two sizes share a seed; degrees of freedom after Satterthwaite, Biometrics Bulletin
2 (1946) 110-114.

What else moves a gain from size to size (a learning rate that its search did not quite find, a trend that is no line)
shows in how the y scatter about the line, of which few sizes tell little. So the mean square of that scatter is weighed
with that of the blocks, as Smyth (Statistical Applications in Genetics and Molecular Biology 3 (2004) 3) moderates a
variance: `TRUST` degrees of freedom for the blocks' own, one for each size beyond two. Errors are never made smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laurel_cli.verdict.curve import Scaling, fitted, worth
from laurel_cli.verdict.trials import BASELINE

Vector = NDArray[np.float64]
TENFOLD = math.log(10)
PROCESSES = 4  # degrees of freedom of a profile: it starts five processes at least
TRUST = (
    4.0  # degrees of freedom with which it is believed, before they are seen, that nothing but blocks scatters the y
)


@dataclass(frozen=True)
class Rung:
    """One size of a ladder.

    Attributes:
        name: "64", "64x4".
        compute: FLOPs of training the baseline once.
        losses: in nats at the end, by arm and seed, the baseline's and those of controls among them.
        ratios: FLOPs of an arm over the baseline's, by arm; 1 for one that is not named.
    """

    name: str
    compute: float
    losses: Mapping[str, Mapping[int, float]]
    ratios: Mapping[str, float]


@dataclass(frozen=True)
class Bounded:
    """A figure with the interval of a given level; infinite ends where no spread can be told.

    Attributes:
        value, low, high: of it.
        error: its standard error, `degrees` those of freedom.
    """

    value: float
    low: float
    high: float
    error: float
    degrees: float

    @property
    def above(self) -> bool:
        """Whether it is established to be above zero."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether it is established to be below zero."""
        return self.high < 0


@dataclass(frozen=True)
class ArmSaving:
    """What an arm saves at each size.

    Attributes:
        arm: its name.
        xs: log10 of the compute of the sizes.
        gains: mean gain over the baseline in nats, by size.
        saved: y, ln of the compute saved.
        influences: for each size, (blocks, sizes): by how much each of its blocks moves each y from its mean.
    """

    arm: str
    xs: Vector
    gains: Vector
    saved: Vector
    influences: tuple[Vector, ...]

    @property
    def covariance(self) -> Vector:
        """Of the y: (sizes, sizes)."""
        return sum((_covariance(part) for part in self.influences), np.zeros((len(self.xs), len(self.xs))))


@dataclass(frozen=True)
class Misfit:
    """How the line fits: mean square of what it leaves over that of the blocks, and its p; 1 and 1 of two sizes."""

    ratio: float
    p: float
    degrees: int

    @property
    def stretch(self) -> float:
        """By what the line's errors are multiplied: the mean square of the scatter, weighed with that of the blocks."""
        return math.sqrt(max(1.0, (TRUST + self.degrees * self.ratio) / (TRUST + self.degrees)))


def baseline_curve(rungs: Sequence[Rung]) -> Scaling | None:
    """The baseline's loss against compute; None where it does not fall."""
    means = [float(np.mean(list(rung.losses[BASELINE].values()))) for rung in rungs]
    return fitted([math.log(rung.compute) for rung in rungs], means)


def saving(rungs: Sequence[Rung], arm: str, curve: Scaling) -> ArmSaving | None:
    """What `arm` saves at every size; None where its gain at some size is beyond the baseline's curve.

    Args:
        rungs: ascending; at each the arm and the baseline share a block at least.
        curve: of the baseline.
    """
    gains, saved, to_gain, to_losses, moves = [], [], [], [], []
    for rung, x in zip(rungs, curve.xs, strict=True):
        own, base = rung.losses[arm], rung.losses[BASELINE]
        blocks = [seed for seed in base if seed in own]
        losses = np.array([base[seed] for seed in blocks])
        over = losses - np.array([own[seed] for seed in blocks])
        found = worth(curve, x, float(over.mean()))
        if found is None:
            return None
        gains.append(float(over.mean()))
        saved.append(found.saved - math.log(rung.ratios.get(arm, 1.0)))
        to_gain.append(found.to_gain)
        to_losses.append(found.to_losses)
        moves.append((losses - losses.mean(), over - over.mean()))
    influences = []
    for number, (losses, over) in enumerate(moves):
        part = np.outer(losses, [response[number] for response in to_losses])
        part[:, number] += to_gain[number] * over
        influences.append(part)
    xs = np.array([x / TENFOLD for x in curve.xs])
    return ArmSaving(arm, xs, np.array(gains), np.array(saved), tuple(influences))


def weights_at(xs: Vector, x: float) -> Vector:
    """The line's value at x, as weights of the y."""
    centred = xs - xs.mean()
    found: Vector = 1 / len(xs) + (x - xs.mean()) * centred / (centred @ centred)
    return found


def weights_of_slope(xs: Vector) -> Vector:
    """The line's slope, a tenfold compute further, as weights of the y."""
    centred = xs - xs.mean()
    found: Vector = centred / (centred @ centred)
    return found


def at_size(of: ArmSaving, number: int, level: float) -> Bounded:
    """y as it was measured at one size, without the line."""
    return _estimate(of, np.eye(len(of.xs))[number], level)


def on_line(of: ArmSaving, weights: Vector, level: float, misfit: Misfit) -> Bounded:
    """A figure of the line; its spread is that of the blocks, stretched where the y scatter about the line more."""
    found = _estimate(of, weights, level)
    if not math.isfinite(found.high):
        return found
    return _interval(found.value, found.error * misfit.stretch, min(found.degrees, TRUST + misfit.degrees), level)


def by_clock(
    of: ArmSaving, number: int, flops_ratio: float, time: tuple[float, float, float], confidence: float, level: float
) -> Bounded:
    """What the arm saves at one size in time: as many steps of the baseline, at what a step of each takes.

    Args:
        of: the arm; `number` of the size.
        flops_ratio: the arm's FLOPs over the baseline's.
        time: its time over the baseline's, with the ends of an interval of level `confidence`.
        level: of the interval that is wanted. The time's error is that of its interval, with as few degrees of freedom
            as five processes have.
    """
    from scipy.special import ndtri

    found = at_size(of, number, level)
    middle, low, high = time
    value = found.value + math.log(flops_ratio / middle)
    if not (0 < low <= high < math.inf) or not found.degrees:
        return Bounded(value, -math.inf, math.inf, math.nan, 0.0)
    timed = (math.log(high / low) / 2 / float(ndtri(0.5 + confidence / 2))) ** 2
    variance = found.error**2 + timed
    degrees = variance**2 / (found.error**4 / found.degrees + timed**2 / PROCESSES)
    return _interval(value, math.sqrt(variance), degrees, level)


def misfit_of(of: ArmSaving) -> Misfit:
    """The lack of fit of the line, by F with the blocks' degrees of freedom."""
    from scipy.special import fdtrc

    sizes = len(of.xs)
    if sizes < 3 or any(len(part) < 2 for part in of.influences):
        return Misfit(1.0, 1.0, max(sizes - 2, 0))
    line = np.stack([np.ones(sizes), of.xs - of.xs.mean()], axis=1)
    beside = np.linalg.svd(line)[0][:, 2:]  # an orthonormal basis of what no line explains
    left = beside.T @ of.saved
    spread = beside.T @ of.covariance @ beside
    if not np.all(np.diag(spread) > 0):
        return Misfit(1.0, 1.0, sizes - 2)
    ratio = float(left @ np.linalg.solve(spread, left)) / (sizes - 2)
    degrees = min(_estimate(of, column, 0.95).degrees for column in beside.T)
    return Misfit(ratio, float(fdtrc(sizes - 2, degrees, ratio)), sizes - 2)


def pooled(rungs: Sequence[Rung], arm: str, other: str, level: float) -> Bounded | None:
    """Mean over the sizes of the paired gain of `arm` over `other`, in nats; None where a size has no common block."""
    parts = []
    for rung in rungs:
        own, base = rung.losses.get(arm, {}), rung.losses.get(other, {})
        blocks = [seed for seed in base if seed in own]
        if not blocks:
            return None
        parts.append(np.array([base[seed] - own[seed] for seed in blocks]))
    value = float(np.mean([part.mean() for part in parts]))
    return _combined(value, [(part - part.mean()) / len(rungs) for part in parts], level)


def _estimate(of: ArmSaving, weights: Vector, level: float) -> Bounded:
    return _combined(float(weights @ of.saved), [part @ weights for part in of.influences], level)


def _combined(value: float, moved: Sequence[Vector], level: float) -> Bounded:
    """A sum of independent means: `moved` is, for each, by how much its blocks move it from where it is."""
    if any(len(part) < 2 for part in moved):
        return Bounded(value, -math.inf, math.inf, math.nan, 0.0)
    variances = [float(part @ part) / (len(part) * (len(part) - 1)) for part in moved]
    total = sum(variances)
    if total <= 0:  # as with a t-interval: equal values say nothing of the spread
        return Bounded(value, -math.inf, math.inf, math.nan, 0.0)
    degrees = total**2 / sum(v**2 / (len(part) - 1) for v, part in zip(variances, moved, strict=True))
    return _interval(value, math.sqrt(total), degrees, level)


def _interval(value: float, error: float, degrees: float, level: float) -> Bounded:
    from scipy.special import stdtrit

    half = float(stdtrit(degrees, 0.5 + level / 2)) * error
    return Bounded(value, value - half, value + half, error, degrees)


def _covariance(part: Vector) -> Vector:
    n = len(part)
    found: Vector = part.T @ part / (n * (n - 1))
    return found
