"""From paired samples to ratios, their intervals and verdicts.

In one round every arm is timed once; the log of an arm's time over another's is one paired sample. Samples of one
*placement*, a copy of the models at one place in memory, drift together and share an offset of some tenths of a
percent (where they lie); placements of one process share another one (the order in which the arms were built, what
the machine did meanwhile). So a process gives one figure, the mean of its placements' medians, and the interval comes
from the spread between processes, which holds all of that.

A run that ends once its intervals are narrow ends where the spread came out too small: t-intervals then cover 92 %
where they say 95. The spread of the first processes alone, all of which run before the first look, does not have that
fault: of normal figures it is independent of the mean of all processes, whenever the run ends (Stein, Annals of
Mathematical Statistics 16 (1945) 243-258). But it does not know of a later process that was far off, which the spread
of all does. So the interval is the wider of the two.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from laurel_cli.verdict.paired import ALPHA, CONFIDENCE, holm, holm_levels

Verdict = Literal["slower", "faster", "not separated"]
Samples = Mapping[tuple[int, int], Sequence[float]]  # (process, placement) -> one figure a round
FEWEST_PROCESSES = 5  # before the first look
LARGEST = 700.0  # whose exponential a float holds


@dataclass(frozen=True)
class Error:
    """A standard error, infinite where it cannot be told, and its degrees of freedom."""

    size: float
    degrees: int

    def p(self, mean: float) -> float:
        """Of the two-sided t-test that a mean is zero."""
        if math.isinf(self.size):
            return 1.0
        from scipy.special import stdtr

        return float(2 * stdtr(self.degrees, -abs(mean) / self.size))

    def half_width(self, confidence: float) -> float:
        """Half the width of the t-interval."""
        if math.isinf(self.size):
            return math.inf
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees, 0.5 + confidence / 2)) * self.size


@dataclass(frozen=True)
class Estimate:
    """What is known of the mean of a quantity, on the scale of its logarithm.

    Attributes:
        mean: over processes.
        first: its error by the spread of the processes before the first look, `all` by that of all.
        processes: that it rests on.
    """

    mean: float
    first: Error
    all: Error
    processes: int

    @property
    def p(self) -> float:
        """Of the test that the mean is zero, alone: below alpha where the interval leaves out zero."""
        return max(self.first.p(self.mean), self.all.p(self.mean))

    def half_width(self, confidence: float) -> float:
        """Half the width of the interval."""
        return max(self.first.half_width(confidence), self.all.half_width(confidence))


@dataclass(frozen=True)
class Interval:
    """A quantity with its interval, of which `confidence` is the level; from 0 to infinity where it is not known."""

    median: float
    low: float
    high: float
    confidence: float

    @classmethod
    def of(cls, estimate: Estimate, confidence: float = CONFIDENCE) -> Interval:
        """On the scale of the quantity itself."""
        return cls(*_ends(estimate, confidence), confidence)

    @property
    def width(self) -> float:
        """Relative to its lower end."""
        return self.high / self.low - 1 if self.low > 0 else math.inf


@dataclass(frozen=True)
class Ratio(Interval):
    """An arm's time over that of another, compared alone or as one of a family.

    Attributes:
        p: of the test that both take as long, alone.
        p_holm: the same, adjusted for the family.
    """

    p: float
    p_holm: float

    @property
    def verdict(self) -> Verdict:
        """What the interval says: it holds 1 or it does not."""
        if self.low > 1:
            return "slower"
        return "faster" if self.high < 1 else "not separated"


def figures(samples: Samples) -> list[float]:
    """The figure of each process, in order: the mean over its placements of the median of their samples."""
    by_process: dict[int, list[float]] = {}
    for (process, _), values in samples.items():
        by_process.setdefault(process, []).append(median(values))
    return [fmean(by_process[process]) for process in sorted(by_process)]


def estimate(values: Sequence[float], first: int) -> Estimate:
    """The mean of all processes, with its errors.

    Args:
        values: the figure of each process; at least one.
        first: how many processes run before the first look. Where there are fewer, they are all there is.

    Returns:
        Values that are all the same, or a single one, say nothing of the spread: the errors are infinite.
    """
    before = _error(values[:first], len(values))
    return Estimate(fmean(values), before, before if len(values) <= first else _error(values, len(values)), len(values))


def judged(estimates: Mapping[str, Estimate], alpha: float = ALPHA) -> dict[str, Ratio]:
    """One family of comparisons, with Holm's correction: the chance of any wrong verdict is at most `alpha`.

    Every interval has the level at which Holm's procedure tested its comparison, so that it leaves out 1 exactly where
    the adjusted p-value is below `alpha`.
    """
    p_values = [found.p for found in estimates.values()]
    corrected = zip(p_values, holm(p_values), holm_levels(p_values, alpha), strict=True)
    return {
        name: Ratio(*_ends(found, 1 - level), 1 - level, p, adjusted)
        for (name, found), (p, adjusted, level) in zip(estimates.items(), corrected, strict=True)
    }


def alone(found: Estimate) -> Ratio:
    """A comparison that belongs to no family, as a control's."""
    return judged({"": found})[""]


def first_look(arms: int) -> int:
    """After how many processes a run may first end by precision.

    Five, and up to three more with the number of arms: at the levels of a large family four degrees of freedom make
    an interval half as wide again as seven do.
    """
    return FEWEST_PROCESSES + min(max(arms - 1, 0), 3)


def processes_needed(estimates: Collection[Estimate], precision: float, alpha: float = ALPHA) -> int | None:
    """How many processes make every interval of a family narrower than `precision`, whatever Holm's order will be.

    The level is Bonferroni's, the widest: one that followed the p-values would let the means decide when a run ends.

    Args:
        estimates: at the first look or later.
        precision: of an interval's ends, high / low - 1.

    Returns:
        A forecast, which is exact once that many have been run; None where a spread is not known.
    """
    narrow = math.log1p(precision) / 2
    most = 0
    for found in estimates:
        half = found.half_width(1 - alpha / len(estimates))
        if math.isinf(half):
            return None
        # Strictly narrower; the error falls with the root of the number.
        most = max(most, math.floor(found.processes * (half / narrow) ** 2) + 1)
    return most


def _error(values: Sequence[float], count: int) -> Error:
    """Of a mean of `count` values that are spread as these are."""
    degrees, middle = len(values) - 1, fmean(values)
    squares = math.fsum((value - middle) ** 2 for value in values)
    return Error(math.sqrt(squares / degrees / count) if degrees and squares > 0 else math.inf, degrees)


def _ends(found: Estimate, confidence: float) -> tuple[float, float, float]:
    half = found.half_width(confidence)
    return math.exp(found.mean), _exp(found.mean - half), _exp(found.mean + half)


def _exp(value: float) -> float:
    return math.exp(value) if value < LARGEST else math.inf
