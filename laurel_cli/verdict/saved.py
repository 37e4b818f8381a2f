"""A gain, turned into what the baseline would have to pay for it: training steps, or parameters of naive scaling.

Steps. The baseline is trained a second time with fewer steps, its learning rate falling to zero there as well. What
that costs it, per unit of log(steps), is the slope from run to run; a line through the two budgets says how many steps
the baseline would need to be where the arm is: T exp(gain / slope). The slope late in one run is another thing: while
the rate falls a run comes down faster than that (by a factor of 2.4 where it was measured), so it is not used.

Parameters, or any other cost. Naive scaling is taken as a straight line from the baseline to `naive+1`: to gain as
much as the arm it needs the share gain / (gain of naive+1) of what `naive+1` costs.

Both are ratios of means over the same blocks and have Fieller's interval (`laurel_cli.verdict.paired.ratio`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, variance

from laurel_cli.verdict.effects import Scores
from laurel_cli.verdict.paired import MeanInterval, fieller, ratio


@dataclass(frozen=True)
class Saved:
    """What an arm saves, with its interval; an end is infinite where it lies beyond what was measured.

    Attributes:
        at_least: the mean is a lower bound, the truth lies beyond what was measured.
    """

    mean: float
    low: float
    high: float
    at_least: bool = False


def steps_saved(
    gains: Sequence[float], falls: Sequence[float], steps: int, fewer: int, confidence: float
) -> Saved | None:
    """Steps that the baseline would need beyond its own to be where the arm is.

    Args:
        gains: of the arm over the baseline, one for each block.
        falls: of the baseline's loss from `fewer` steps to `steps`, in the same blocks.
        steps: of a run; `fewer` those of the second budget.
        confidence: of the interval.

    Returns:
        None where the second budget is not clearly worse. The line is followed upwards as far as it was measured
        downwards: beyond steps^2 / fewer an end is infinite, and the mean a lower bound.
    """
    share = ratio(gains, falls, confidence) if len(gains) > 1 else None
    if share is None or math.fsum(falls) <= 0:
        return None

    def saved(value: float) -> float:
        return steps * math.expm1(value * math.log(steps / fewer))

    high = saved(share.high) if share.high <= 1 else math.inf
    low, middle = (saved(min(value, 1.0)) for value in (share.low, share.mean))
    return Saved(middle, low, high, at_least=share.mean > 1)


def share_of_naive(arm: Scores, naive: Scores, base: Scores, confidence: float) -> MeanInterval | None:
    """(arm - base) / (naive - base) over the blocks that all three share, with Fieller's interval.

    Arms of which no two share a seed are independent; the degrees of freedom are then those of the fewest trials.

    Returns:
        None where the gain of `naive` is not separated from zero at `confidence`, or no spread can be told.
    """
    common = sorted(set(arm) & set(naive) & set(base))
    if not any(set(one) & set(other) for one, other in combinations((arm, naive, base), 2)):
        return _of_strangers(arm, naive, base, confidence)
    if len(common) < 2:
        return None
    return ratio([arm[s] - base[s] for s in common], [naive[s] - base[s] for s in common], confidence)


def _of_strangers(arm: Scores, naive: Scores, base: Scores, confidence: float) -> MeanInterval | None:
    n = min(len(arm), len(naive), len(base))
    if n < 2:
        return None
    mine, theirs, common = (variance(one.values()) / len(one) for one in (arm, naive, base))
    middle = fmean(base.values())
    gains = (fmean(arm.values()) - middle, fmean(naive.values()) - middle)
    return fieller(*gains, (mine + common, theirs + common, common), n, confidence)


def cost_saved(share: MeanInterval, added: float, naive_added: float) -> Saved:
    """What naive scaling would add to gain as much as the arm, less what the arm adds, in the unit of the cost.

    Args:
        share: of the gain of `naive+1` that the arm has, with its interval.
        added, naive_added: what the arm and `naive+1` add to the baseline.

    Returns:
        Beyond the whole gain of `naive+1` nothing was measured: the mean is then a lower bound, an upper end infinite.
    """
    low, mean = (min(value, 1.0) * naive_added - added for value in (share.low, share.mean))
    high = share.high * naive_added - added if share.high <= 1 else math.inf
    return Saved(mean, low, high, at_least=share.mean > 1)


def times_fewer(share: MeanInterval, added: float, naive_added: float) -> Saved | None:
    """How many times less an arm costs than naive scaling to the same quality.

    Args:
        share, added, naive_added: as for `cost_saved`.

    Returns:
        None where the arm costs nothing, or naive scaling nothing more than the baseline. An end beyond the gain of
        `naive+1` is infinite; one below the baseline's quality is 0.
    """
    if added <= 0 or naive_added <= 0:
        return None
    times = naive_added / added
    low, mean = (times * min(max(value, 0.0), 1.0) for value in (share.low, share.mean))
    high = times * max(share.high, 0.0) if share.high <= 1 else math.inf
    return Saved(mean, low, high, at_least=share.mean > 1)
