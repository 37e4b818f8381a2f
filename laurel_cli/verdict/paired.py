"""Small differences, measured in paired blocks: t-intervals, Holm's correction, power, looks declared beforehand.

In a block every arm has the same seed; what is compared are the differences within blocks. Sources of the formulas:

- t-interval and paired t-test: Student, Biometrika 6 (1908).
- correction for the number of arms: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
- a ratio of two means: Fieller, Journal of the Royal Statistical Society B 16 (1954) 175-185.
- power: the noncentral t distribution, Johnson and Welch, Biometrika 31 (1940) 362-389.
- looks: a spending function, Lan and DeMets, Biometrika 70 (1983) 659-663, its steps added up by Bonferroni.

Of scipy only `scipy.special` is used, and when it is needed: `scipy.stats` takes most of a second to import.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its interval; the ends are infinite where the spread cannot be told (see `mean`)."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences.

    Attributes:
        mean, low, high: with its interval, which covers the truth with probability `confidence`.
        p: of the two-sided test that the mean is zero; from `compare`, Holm-adjusted.
        n: pairs.
        sd: standard deviation of the differences; NaN for fewer than two pairs.
        confidence: of the interval.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    sd: float
    confidence: float

    @property
    def separated(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class InterimLook:
    """A look declared beforehand: at `n` blocks, with `alpha` to spend on it."""

    n: int
    alpha: float


def mean(values: Sequence[float], confidence: float = CONFIDENCE) -> MeanInterval:
    """The mean of independent values with its t-interval.

    Fewer than two values, or values that are all the same, say nothing of the spread: the interval is infinite.
    Equal values are what seeds that never reached the run look like, and a width of zero would claim certainty.

    Args:
        values: finite; at least one.
        confidence: of the interval.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    middle, sd, n = _moments(values)
    half = half_width(sd, n, confidence)
    return MeanInterval(middle, middle - half, middle + half, n)


def difference(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """a - b in pairs, with the t-interval and the p-value of the paired t-test, for one comparison alone.

    With fewer than two pairs, or differences that are all the same but for rounding, the interval is infinite and p
    is 1 (see `mean`).

    Args:
        a, b: finite, of one length, at least one pair; a[i] and b[i] come from one block.
        confidence: of the interval.

    Raises:
        ValueError: lengths that differ, no pair, or a value that is not finite.
    """
    from scipy.special import stdtr

    middle, sd, n = _moments([x - y for x, y in zip(a, b, strict=True)], largest=max(map(abs, [*a, *b]), default=0.0))
    half = half_width(sd, n, confidence)
    p = 1.0 if math.isinf(half) else float(2 * stdtr(n - 1, -abs(middle) * math.sqrt(n) / sd))
    return Difference(middle, middle - half, middle + half, p, n, sd, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values, in the order given: below alpha where Holm's procedure rejects at alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def holm_levels(p_values: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """The level at which Holm's procedure tested each hypothesis, in the order given.

    The k-th smallest of m is tested at alpha / (m - k + 1); the first that is not rejected ends the procedure, and
    those after it share its level.
    """
    levels, level = [alpha] * len(p_values), alpha
    rejecting = True
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if rejecting:
            level = alpha / (len(p_values) - rank)
            rejecting = p_values[i] < level
        levels[i] = level
    return levels


def compare(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], alpha: float = ALPHA, family: int | None = None
) -> list[Difference]:
    """Several comparisons at once: p-values Holm-adjusted, and intervals that agree with them.

    Every interval has the confidence at which Holm's procedure tested its comparison, 1 - `holm_levels`. So it
    leaves out zero exactly where the adjusted p-value is below alpha, and the chance that any interval wrongly leaves
    out zero is at most alpha, however many there are. Each one alone covers its truth with at least 1 - alpha; that
    all of them do so together is not claimed. Intervals with that property that agree with Holm's procedure exist, but
    say no more than a sign of what was rejected (Strassburger and Bretz, Statistics in Medicine 27 (2008) 4914-4927).

    Args:
        pairs: (a, b) of each comparison, as for `difference`.
        alpha: of the whole family.
        family: comparisons in the family, more than `pairs` where some could not be made: they count as p = 1.

    Returns:
        One for each pair, in order.
    """
    missing = [1.0] * (max(family or 0, len(pairs)) - len(pairs))
    p_values = [difference(a, b).p for a, b in pairs] + missing
    found = []
    for (a, b), p, level in zip(pairs, holm(p_values), holm_levels(p_values, alpha), strict=False):
        alone = difference(a, b, 1 - level)
        found.append(replace(alone, p=p))
    return found


def smallest_visible(sd: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """The effect that a paired t-test finds with probability `power`; infinite for n < 2 or an unknown spread.

    Args:
        sd: standard deviation of the paired differences, in the unit of the effect.
        n: pairs.
        alpha: two-sided; for an effect among m comparisons 0.05 / m, the level of Holm's first step.
        power: well above alpha: that the test errs to the other side is not counted.
    """
    from scipy.special import nctdtrinc, stdtrit

    if n < 2 or not sd > 0:
        return math.inf
    critical = float(stdtrit(n - 1, 1 - alpha / 2))
    return float(nctdtrinc(n - 1, 1 - power, critical)) * sd / math.sqrt(n)


def deviation_ends(sd: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a standard deviation that was estimated from n normal values (by chi square, n - 1 degrees).

    Returns:
        (low, high), infinitely wide where there is no spread to go by.
    """
    from scipy.special import chdtri

    if n < 2 or not sd > 0:
        return 0.0, math.inf
    tail = (1 - confidence) / 2
    # chdtri(v, p) is the point above which chi square lies with probability p.
    low, high = (sd * math.sqrt((n - 1) / float(chdtri(n - 1, p))) for p in (tail, 1 - tail))
    return low, high


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = CONFIDENCE
) -> MeanInterval | None:
    """The ratio of two means of paired values, with Fieller's interval.

    The interval leaves out zero exactly where the t-interval of the numerators' mean, at the same confidence, does.

    Returns:
        None where the denominators' mean is not separated from zero at `confidence`, or the spread of the numerators
        cannot be told. Denominators that are all the same are taken as known.
    """
    n = len(numerators)
    if math.isinf(mean(numerators).high):
        return None
    y, x = fmean(numerators), fmean(denominators)
    # Every variance is that of a mean.
    scale = 1 / (n * (n - 1))
    yy = scale * math.fsum((v - y) ** 2 for v in numerators)
    xx = scale * math.fsum((u - x) ** 2 for u in denominators)
    xy = scale * math.fsum((v - y) * (u - x) for v, u in zip(numerators, denominators, strict=True))
    return fieller(y, x, (yy, xx, xy), n, confidence)


def fieller(
    y: float, x: float, moments: tuple[float, float, float], n: int, confidence: float = CONFIDENCE
) -> MeanInterval | None:
    """The ratio y / x of two means with Fieller's interval, from n - 1 degrees of freedom.

    Args:
        moments: the variances of y and of x, and their covariance, as means.

    Returns:
        None where x is not separated from zero at `confidence`.
    """
    from scipy.special import stdtrit

    square = float(stdtrit(n - 1, 0.5 + confidence / 2)) ** 2
    yy, xx, xy = (square * moment for moment in moments)
    lead, half_linear = x * x - xx, x * y - xy
    if lead <= 0:
        return None
    root = math.sqrt(max(0.0, half_linear**2 - lead * (y * y - yy)))
    return MeanInterval(y / x, (half_linear - root) / lead, (half_linear + root) / lead, n)


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation over blocks; None for fewer than three (two are always on a line) or without a spread."""
    if len(a) < 3 or math.isinf(mean(a).high) or math.isinf(mean(b).high):
        return None
    middle_a, middle_b = fmean(a), fmean(b)
    cross = math.fsum((x - middle_a) * (y - middle_b) for x, y in zip(a, b, strict=True))
    squares = math.fsum((x - middle_a) ** 2 for x in a) * math.fsum((y - middle_b) ** 2 for y in b)
    return max(-1.0, min(1.0, cross / math.sqrt(squares)))


def looks(max_n: int, first: int = 5, growth: float = 1.5, alpha: float = ALPHA) -> tuple[InterimLook, ...]:
    """When a study that adds seeds until its arms are separated may look, and what each look may spend.

    By n blocks alpha * (n / max_n)^2 is spent (Kim and DeMets, Biometrika 74 (1987) 149-154, rho = 2): little early,
    where few blocks could separate but a large effect anyway. A look has what was not spent before it. The levels add
    up to alpha, so by Bonferroni's inequality the chance of a wrong claim over all looks is at most alpha, however the
    looks depend on each other.

    Args:
        max_n: blocks at the last look, at which the study ends.
        first: blocks at the first look, at least two; where max_n is hardly more, there is one look, at max_n.
        growth: from look to look the blocks grow by about this factor; fewer looks leave more alpha for each.
        alpha: to be spent in all.

    Raises:
        ValueError: first < 2, max_n < first or growth <= 1.
    """
    if not 2 <= first <= max_n or growth <= 1:
        raise ValueError(f"no looks from {first} to {max_n} blocks that grow by {growth:g}")
    steps = round(math.log(max_n / first) / math.log(growth))
    sizes = {max_n} | {round(first * (max_n / first) ** (step / steps)) for step in range(steps)}
    return tuple(
        InterimLook(now, alpha * (now**2 - before**2) / max_n**2) for before, now in pairwise([0, *sorted(sizes)])
    )


def _moments(values: Sequence[float], largest: float = 0.0) -> tuple[float, float, int]:
    """(mean, standard deviation, n); the deviation is 0 where it is no more than rounding of `largest` leaves."""
    if not values or not all(map(math.isfinite, values)):
        raise ValueError("a mean needs at least one value, and all of them finite")
    n, middle = len(values), fmean(values)
    if n < 2:
        return middle, math.nan, n
    sd = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (n - 1))
    rounding = 4 * sys.float_info.epsilon * max(largest, *map(abs, values))
    return middle, sd if sd > rounding else 0.0, n


def half_width(sd: float, n: int, confidence: float, degrees: int | None = None) -> float:
    """Half the t-interval of a mean of n values; infinite where their spread cannot be told.

    Args:
        sd: their standard deviation, from as many `degrees` of freedom: n - 1, unless it was told by others too.
        n: values.
        confidence: of the interval.
    """
    from scipy.special import stdtrit

    if n < 2 or sd == 0:
        return math.inf
    return float(stdtrit(degrees or n - 1, 0.5 + confidence / 2)) * sd / math.sqrt(n)
