"""A difference in loss, turned into what the baseline would have to pay for it: training steps, or parameters.

Steps. The late slope of a baseline run is how much loss it loses per unit of log(step), from the first evaluation in
the last third to the end. Had the curve gone on as that straight line, the loss of an arm that is `gain` ahead would
have been reached at step T exp(gain / slope), so the arm saves T (exp(gain / slope) - 1) of T steps; below zero it
wastes them. Which slope is honest? What is asked for is the slope from run to run, each with its own decay to zero.
While its learning rate falls a run comes down faster than that: at two thirds of a long run, not yet decayed, the loss
is higher than at the end of a run of that length. So this slope is rather too steep, and the steps saved or wasted
are rather too few than too many. The slope at the very end, where the learning rate is nearly zero, errs to the other
side without any bound.

Parameters. Naive scaling is taken as a straight line from the baseline to `naive+1`: to gain as much as the arm it
needs the share gain / (gain of naive+1) of the parameters that naive+1 adds.

Both are ratios of means over the same blocks and have Fieller's interval (`laurel_cli.paired.ratio`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laurel_cli.paired import Interval, ratio

LAST_PART = 1 / 3


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


def late_slope(evaluations: Sequence[Mapping[str, Any]]) -> float | None:
    """Nats per unit of log(step) over the last third of a run, above zero where the loss falls.

    Args:
        evaluations: `step` and `loss` of each, the last one at the end of the run.

    Returns:
        None where only the end was evaluated in the last third, or a loss there is no number.
    """
    points = sorted((int(item["step"]), item["loss"]) for item in evaluations if item["loss"] is not None)
    if not points or points[-1][0] != max(int(item["step"]) for item in evaluations):
        return None
    end, last = points[-1]
    late = [(step, loss) for step, loss in points if (1 - LAST_PART) * end <= step + 1e-9 * end and step < end]
    if not late or not math.isfinite(last) or not math.isfinite(late[0][1]):
        return None
    return float((late[0][1] - last) / math.log(end / late[0][0]))


def steps_saved(gains: Sequence[float], slopes: Sequence[float], steps: int, confidence: float) -> Saved | None:
    """Steps that the baseline would need beyond its own to be where the arm is.

    Args:
        gains: the baseline's loss minus the arm's, one for each block.
        slopes: `late_slope` of the baseline in the same blocks.
        steps: of a run.
        confidence: of the interval.

    Returns:
        None where the slope is not clearly above zero, or the arm is further ahead than a run twice as long.
    """
    share = ratio(gains, slopes, confidence) if len(gains) > 1 else None
    if share is None or sum(slopes) <= 0 or share.mean > math.log(2):
        return None
    low, mean = (steps * math.expm1(value) for value in (share.low, share.mean))
    high = steps * math.expm1(share.high) if share.high <= math.log(2) else math.inf
    return Saved(mean, low, high)


def parameters_saved(share: Interval, added: int, naive_added: int) -> Saved:
    """Parameters that naive scaling would add to gain as much as the arm, less those that the arm adds.

    Args:
        share: of the gain of `naive+1` that the arm has, with its interval.
        added, naive_added: parameters that the arm and `naive+1` add to the baseline.

    Returns:
        Beyond the whole gain of `naive+1` nothing was measured: the mean is then a lower bound, an upper end infinite.
    """
    low, mean = (min(value, 1.0) * naive_added - added for value in (share.low, share.mean))
    high = share.high * naive_added - added if share.high <= 1 else math.inf
    return Saved(mean, low, high, at_least=share.mean > 1)
