"""From paired samples to a ratio and its interval.

In one round every arm is timed once; the log of an arm's time over the baseline's is one paired sample. Samples of one
*placement*, a copy of the models at one place in memory, are correlated (the machine's state drifts) and share an
offset of some tenths of a percent (where they lie). So a placement gives one figure, the median of its samples, and the
interval comes from the spread between placements: both effects are in that spread. Placements lie in several
processes; where processes differ by more than their placements explain, the processes are what is counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance
from typing import Literal

from scipy import stats

Verdict = Literal["slower", "faster", "not separated"]
Samples = Mapping[tuple[int, int], Sequence[float]]  # (process, placement) -> log-ratios
CONFIDENCE = 0.95
POOLED_ABOVE = 0.5  # the p-value above which processes are taken to differ no more than placements explain


@dataclass(frozen=True)
class Interval:
    """A median with its 95 % interval; `low` and `high` are infinitely far where two placements are missing."""

    median: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Of the interval, relative to its lower end."""
        return self.high / self.low - 1 if self.low > 0 else math.inf


@dataclass(frozen=True)
class Ratio(Interval):
    """An arm's time over the baseline's."""

    @property
    def verdict(self) -> Verdict:
        """What the interval says: it holds 1 or it does not."""
        if self.low > 1:
            return "slower"
        return "faster" if self.high < 1 else "not separated"


def ratio(samples: Samples) -> Ratio:
    """The ratio of an arm to the baseline.

    Args:
        samples: log-ratios by process and placement; at least one.

    Returns:
        The mean over placements of the median log-ratio, with its t-interval, both as ratios.
    """
    middle, half = centre(samples)
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def milliseconds(seconds: Samples) -> Interval:
    """An arm's time per call, from seconds by process and placement."""
    middle, half = centre({key: [math.log(second) for second in values] for key, values in seconds.items()})
    return Interval(*(1000 * math.exp(x) for x in (middle, middle - half, middle + half)))


def centre(samples: Samples) -> tuple[float, float]:
    """The mean of the placements' medians, and half the width of its interval: infinite for one placement."""
    by_process: dict[int, list[float]] = {}
    for (process, _), values in samples.items():
        by_process.setdefault(process, []).append(median(values))
    medians = [figure for group in by_process.values() for figure in group]
    if len(medians) < 2:
        return medians[0], math.inf
    groups = list(by_process.values())
    if len(groups) > 1 and _processes_differ(groups):
        medians = [fmean(group) for group in groups]
    error = math.sqrt(variance(medians) / len(medians))
    return fmean(medians), _t_quantile(len(medians) - 1) * error


def _processes_differ(groups: list[list[float]]) -> bool:
    """The one-way analysis of variance of placements within processes; without two in any, processes count."""
    if all(len(group) == 1 for group in groups):
        return False
    within_df = sum(len(group) - 1 for group in groups)
    within = sum((x - fmean(group)) ** 2 for group in groups for x in group) / within_df
    total = fmean(x for group in groups for x in group)
    between = sum(len(group) * (fmean(group) - total) ** 2 for group in groups) / (len(groups) - 1)
    if within == 0:
        return between > 0
    return float(stats.f.sf(between / within, len(groups) - 1, within_df)) < POOLED_ABOVE


def _t_quantile(degrees: int) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, degrees))
