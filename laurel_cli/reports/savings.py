"""What the quality of an arm would cost by naive scaling, as a multiple of what the arm costs.

Naive scaling is a straight line from the baseline to `naive+1` (`laurel_cli.verdict.saved`). It is known only where
`naive+1` is established to be better than the baseline; where a cost was measured, its interval widens the multiple.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from laurel_cli.reports.frontier import AddedCost
from laurel_cli.verdict import saved
from laurel_cli.verdict.paired import MeanInterval


@dataclass(frozen=True)
class Saving:
    """How many times less an arm costs than naive scaling to the same quality.

    Attributes:
        times: the estimate; low, high: its interval, 0 and infinite where nothing is known.
        level: of the interval: what the levels of its parts leave (Bonferroni).
        at_least: the arm's mean lies beyond `naive+1`, where nothing was measured: the estimate is a lower bound.
    """

    times: float
    low: float
    high: float
    level: float
    at_least: bool

    @property
    def known(self) -> bool:
        """Whether the interval excludes anything; of an arm that is behind the baseline there is nothing to know."""
        return self.low > 0 or 0 < self.high < math.inf


def saving(share: MeanInterval, level: float, arm: AddedCost, naive: AddedCost) -> Saving | None:
    """The multiple, from the share of naive scaling's gain that the arm has.

    Args:
        share: with its interval of `level`.
        arm, naive: what the arm and `naive+1` cost beyond the baseline.

    Returns:
        None where the arm costs nothing, or naive scaling nothing more than the baseline.
    """
    middle = saved.times_fewer(share, arm.value, naive.value)
    if middle is None:
        return None
    careful = saved.times_fewer(share, arm.high, naive.low) if math.isfinite(arm.high) else None
    largest = saved.times_fewer(share, arm.low, naive.high) if math.isfinite(naive.high) else None
    spent = [1 - part for part in (level, arm.level, naive.level) if part is not None]
    return Saving(
        times=middle.mean,
        low=0.0 if careful is None else careful.low,
        high=math.inf if largest is None else largest.high,
        level=1 - math.fsum(spent),
        at_least=middle.at_least,
    )
