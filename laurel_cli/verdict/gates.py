"""What must hold before a study may say anything, and what stands beside a gain: learned, flattened out, lasting.

None of these is a claim about an arm. They say whether the study could have seen one, and whether it would have lasted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from laurel_cli.verdict.effects import Scores, effect
from laurel_cli.verdict.paired import MeanInterval, mean
from laurel_cli.verdict.trials import ArmTrials, StudyTrials, has_own_steps, outcome

LEARNED = 0.7  # of chance: the baseline's loss must be below
LAST_PART = 0.75  # of a run: the fall after it is the fall over the last quarter
HALF = 0.5  # of a run: the gain there is held against that at the end
NEAR = 0.05  # of a run: an evaluation that is further from a named share is called by its step
LASTING, FADING, GROWING, UNKNOWN = "lasting", "fading", "growing", "no trend seen"


@dataclass(frozen=True)
class Moment:
    """A gain at one evaluation, with its 95 % interval for this moment alone."""

    step: int
    gain: float
    low: float
    high: float
    n: int


def learned(study: StudyTrials) -> tuple[bool | None, str]:
    """Whether the baseline is well under chance, and why that is said; None where it cannot be told.

    A property of its losses, whatever metric is shown. Records that hold accuracies alone are judged by the share of
    wrong answers, which chance makes 1 - 1 / classes.
    """
    base = study.baseline
    losses = base.values("loss")
    if losses:
        chance = next((value for arm in study.arms if (value := arm.first("chance_loss")) is not None), None)
        if chance is None or not chance > 0:
            return None, "the chance loss of the task is not known"
        return _below(fmean(losses.values()), float(chance), "loss")
    accuracies = base.values("accuracy")
    if not accuracies:
        return None, "no trial of the baseline is complete"
    classes = (base.first("task") or {}).get("classes")
    if not isinstance(classes, int) or classes < 2:
        return None, "neither a loss nor the number of classes is known"
    return _below(1 - fmean(accuracies.values()), 1 - 1 / classes, "share of wrong answers")


def _below(figure: float, chance: float, what: str) -> tuple[bool, str]:
    below = figure < LEARNED * chance
    relation = "below" if below else "not below"
    return below, (
        f"the baseline's {what} of {figure:.4f} is {figure / chance:.3f} of chance ({chance:.4f}), "
        f"{relation} {LEARNED:g}"
    )


def chance_loss(study: StudyTrials) -> float | None:
    """Of the task, as its records say."""
    return next((value for arm in study.arms if (value := arm.first("chance_loss")) is not None), None)


def by(steps: Collection[int], share: float) -> int | None:
    """The last evaluation by a share of the run that some evaluations end; None where there is none before the end.

    Evaluations at even shares of a run fall at the first whole step that is not before them.
    """
    last = max(steps, default=0)
    return max((step for step in steps if step <= math.ceil(share * last) and step < last), default=None)


def half_way(steps: Collection[int]) -> str:
    """`half way`, or `at step 67` where no evaluation is near it: what the trend of a gain is held against."""
    step = by(steps, HALF)
    if step is None or abs(step / max(steps) - HALF) <= NEAR:
        return "half way"
    return f"at step {step:,}"


def late_fall(base: ArmTrials, seeds: Sequence[int], metric: str, sign: float) -> tuple[MeanInterval, float] | None:
    """How much the baseline still gained over the last quarter of its run, and how much of the run that was.

    Measured from the last evaluation by three quarters of the steps.

    Returns:
        (its mean with a 95 % interval, share of the run); None where no run was evaluated before its end.
    """
    falls, shares = [], []
    for seed in seeds:
        points = _points(base.trials.get(seed), metric)
        before = by(points, LAST_PART)
        if before is not None:
            last = max(points)
            falls.append(sign * (points[last] - points[before]))
            shares.append(1 - before / last)
    return (mean(falls), fmean(shares)) if falls else None


def moments(arm: ArmTrials, base: ArmTrials, seeds: Sequence[int], metric: str, sign: float) -> tuple[Moment, ...]:
    """The gain over the baseline at every evaluation that all complete trials of both share.

    None of an arm with steps of its own: at an equal step its rate has not fallen as far, or it has spent less.
    """
    if has_own_steps(arm.name):
        return ()
    runs = [
        (_points(arm.trials.get(seed), metric), _points(base.trials.get(seed), metric))
        for seed in seeds
        if all(seed in one.trials and outcome(one.trials[seed])[0] == "complete" for one in (arm, base))
    ]
    steps = set.intersection(*({*own} & {*other} for own, other in runs)) if runs else set()
    found = []
    for step in sorted(steps):
        gain = mean([sign * (own[step] - other[step]) for own, other in runs])
        found.append(Moment(step, gain.mean, gain.low, gain.high, gain.n))
    return tuple(found)


def trend(arm: ArmTrials, base: ArmTrials, seeds: Sequence[int], metric: str, sign: float) -> str:
    """Whether the gain at the end is smaller, larger or neither than half way, by a paired test of its change at 95 %.

    Half way is the last evaluation by half of the steps; `half_way` says which where that is not near it.

    LASTING is said where no change is seen and the gain is above zero at both moments; else UNKNOWN.
    """
    times = [moment.step for moment in moments(arm, base, seeds, metric, sign)]
    early = by(times, HALF)
    if early is None:
        return UNKNOWN
    first, last = {}, {}
    for seed in seeds:
        own, other = (_points(one.trials.get(seed), metric) for one in (arm, base))
        if all(step in points for step in (early, times[-1]) for points in (own, other)):
            first[seed] = sign * (own[early] - other[early])
            last[seed] = sign * (own[times[-1]] - other[times[-1]])
    if len(first) < 2:
        return UNKNOWN
    change = effect(last, first)
    if change.verdict == "worse":
        return FADING
    if change.verdict == "better":
        return GROWING
    return LASTING if _above(first) and _above(last) else UNKNOWN


def _above(gains: Scores) -> bool:
    return mean(list(gains.values())).low > 0


def _points(trial: Mapping[str, Any] | None, metric: str) -> dict[int, float]:
    """The metric at each evaluation of one trial, by step."""
    points = (trial or {}).get("evaluations") or ()
    return {
        int(point["step"]): float(point[metric])
        for point in points
        if isinstance(point.get(metric), int | float) and math.isfinite(point[metric])
    }
