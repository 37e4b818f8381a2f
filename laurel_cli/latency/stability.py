"""What makes a measurement doubtful, in sentences: the checks that pyperf makes, on the samples of every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev

UNSTABLE = 0.10  # standard deviation over mean
OUTLIER = 1.5  # times the median
MANY_OUTLIERS = 0.05
DRIFT = 0.05  # from the first to the last third


def doubts(seconds: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    """Warnings about samples.

    Args:
        seconds: of every arm, by process, in the order in which they were taken.
    """
    checks = {
        "the samples are unstable: their standard deviation is above 10 % of the mean": _is_unstable,
        "many samples are outliers: above 1.5 times the median": _has_outliers,
        "the speed drifts: the last third of a process's samples differs from the first by more than 5 %": _drifts,
    }
    said = []
    for sentence, check in checks.items():
        arms = [arm for arm, processes in seconds.items() if any(check(samples) for samples in processes)]
        if arms:
            said.append(f"{', '.join(arms)}: {sentence}")
    return said


def _is_unstable(samples: Sequence[float]) -> bool:
    return len(samples) > 1 and stdev(samples) > UNSTABLE * fmean(samples)


def _has_outliers(samples: Sequence[float]) -> bool:
    limit = OUTLIER * median(samples)
    return sum(sample > limit for sample in samples) > MANY_OUTLIERS * len(samples)


def _drifts(samples: Sequence[float]) -> bool:
    third = len(samples) // 3
    return third > 1 and abs(median(samples[-third:]) / median(samples[:third]) - 1) > DRIFT
