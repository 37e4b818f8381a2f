"""Does a gain hold at a larger size? One judgement of a ladder, without torch: the same words in every command.

A ladder is a study at each of several sizes, with blocks of its own. What is judged is the compute that an arm saves
(`laurel_cli.verdict.trend`), by the straight line that it makes over the logarithm of compute:

    holds     above zero at the largest size, where at least half of what it is at the smallest one is left
    shrinks   above zero at the smallest size, and falling
    flips     above zero at one end and below it at the other
    worse     below zero at both ends
    unknown   none of these

Each of these is said where intervals establish it, never because nothing else was seen. All intervals of an arm have
one level, so that the chance of any wrong word is at most 5 % over the arms of a study, over arms that are added and
over sizes and seeds that are added: as in a study (`laurel_cli.verdict.declared`), the arms that were declared first
have 90 % of the 5 %, the first look 80 % of that, and whatever comes later half of what is left.

A gain is an arm's own where it beats the controls of the recipe too, every arm that is the baseline with another rate
or start, and the baseline with the arm's own settings where it has any; and a ladder that does not see its positive
control says that it cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from laurel_cli.verdict import trend, words
from laurel_cli.verdict.declared import FIRST_FAMILY, FIRST_LOOK, Controls
from laurel_cli.verdict.effects import BETTER, effect, effects
from laurel_cli.verdict.findings import CANNOT_TELL, WITHHELD
from laurel_cli.verdict.paired import ALPHA
from laurel_cli.verdict.trend import Bounded, Misfit, Rung
from laurel_cli.verdict.trials import BASELINE, alike, is_recipe

HOLDS, SHRINKS, FLIPS, LOSES, UNKNOWN = "holds", "shrinks", "flips", "worse", "unknown"
CLAIMS = (HOLDS, SHRINKS, FLIPS, LOSES)
LEAST_SIZES = 3
LEAST_SPAN = 8.0  # of compute, largest over smallest
KEPT = 0.5  # of the saving at the smallest size, as a logarithm: less than that has not held
BEYOND = 1.0  # tenfolds of compute beyond the largest size: as far as a line is followed
CONTROL_LEVEL = 1 - ALPHA
NO_CONTROLS = Controls()


@dataclass(frozen=True)
class LadderLook:
    """What was declared beforehand: the smallest sizes and how many blocks of each are looked at."""

    sizes: int
    seeds: int


@dataclass(frozen=True)
class Trend:
    """What is established of one arm.

    Attributes:
        arm: its name; `level` that of every interval.
        gains: in nats at each size, `saved` the compute saved there, as measured; () where there is none.
        first, last: on the line, at the smallest and at the largest size.
        slope: of the line, for a tenfold compute.
        kept: what is left at the largest size beyond `KEPT` of that at the smallest.
        ahead: on the line, `BEYOND` the largest size.
        misfit: how the line fits.
        verdict, reason: a word of this module, and why.
        grows: whether the line is established to rise.
    """

    arm: str
    level: float
    gains: tuple[Bounded, ...] = ()
    saved: tuple[Bounded, ...] = ()
    first: Bounded | None = None
    last: Bounded | None = None
    slope: Bounded | None = None
    kept: Bounded | None = None
    ahead: Bounded | None = None
    misfit: Misfit | None = None
    verdict: str = UNKNOWN
    reason: str = ""
    grows: bool = False


@dataclass(frozen=True)
class Decisions:
    """How often the smaller sizes decide as the largest one does.

    Attributes:
        right, pairs: pairs of arms whose order at the largest size the line through the others predicted, of how many.
        low, high: interval of the share.
        predicted, observed: ln of the compute saved at the largest size, by arm.
    """

    right: int
    pairs: int
    low: float
    high: float
    predicted: Mapping[str, float]
    observed: Mapping[str, float]


@dataclass(frozen=True)
class LadderJudgement:
    """What a ladder establishes.

    Attributes:
        rungs: its sizes, ascending, with the blocks that were looked at.
        trends: of every arm, in the order of declaration.
        positive: mean gain of the positive control over the sizes, in nats; None where there is none.
        withheld: why nothing is claimed of any arm; "" where claims may be made.
        cannot_tell: whether that is because the positive control was not seen.
        decisions: None where there are no two sizes below the largest.
        curve: of the baseline.
        falls: what the baseline's loss falls by for a tenfold compute, at each size.
    """

    rungs: tuple[Rung, ...]
    trends: tuple[Trend, ...]
    positive: Bounded | None = None
    withheld: str = ""
    cannot_tell: bool = False
    decisions: Decisions | None = None
    curve: trend.Scaling | None = None
    falls: tuple[float, ...] = field(default=())

    def of(self, arm: str) -> Trend:
        """By the arm's name."""
        return next(found for found in self.trends if found.arm == arm)


def alpha_of(look: int, family: int) -> float:
    """What the look of that number may spend on the family of that number, both counted from 0.

    All of them together are less than 5 %, however many there are.
    """
    share = ALPHA * (FIRST_FAMILY if family == 0 else (1 - FIRST_FAMILY) / 2**family)
    return share * (FIRST_LOOK if look == 0 else (1 - FIRST_LOOK) / 2**look)


def judge(
    rungs: Sequence[Rung],
    families: Sequence[Sequence[str]],
    controls: Controls = NO_CONTROLS,
    *,
    look: int = 0,
    unsteady: Mapping[str, str] | None = None,
    withheld: str = "",
) -> LadderJudgement:
    """Judge a ladder.

    Args:
        rungs: ascending by compute, with the blocks of the look; no two of them share a seed.
        families: arms as they were declared, together.
        controls: of every size.
        look: the number of the look, counted from 0.
        unsteady: by arm, why nothing is claimed of it ("2 of 5 diverged"); such arms count in their families.
        withheld: why nothing is claimed of any.
    """
    rungs = tuple(rungs)
    why = withheld or _too_short(rungs)
    curve = trend.baseline_curve(rungs) if len(rungs) > 1 and all(rung.losses.get(BASELINE) for rung in rungs) else None
    if not why and curve is None:
        why = "the baseline's loss does not fall from size to size"
    found: list[Trend] = []
    for number, members in enumerate(families):
        level = 1 - alpha_of(look, number) / max(1, len(members))
        for arm in members:
            lost = (unsteady or {}).get(arm, "")
            if curve is None or not all(set(rung.losses.get(arm, {})) & set(rung.losses[BASELINE]) for rung in rungs):
                found.append(Trend(arm, level, verdict=WITHHELD, reason=why or lost or "a size of it has no trial"))
                continue
            one = _trend(rungs, arm, curve, level)
            if why or lost:
                one = replace(one, verdict=WITHHELD, reason=why or lost)
            found.append(one)
    positive = trend.pooled(rungs, controls.positive, BASELINE, CONTROL_LEVEL) if controls.positive else None
    blind = not why and positive is not None and not positive.above
    checked = [_controlled(one, rungs, controls, blind, positive is None) for one in found]
    return LadderJudgement(
        rungs,
        tuple(checked),
        positive,
        why,
        blind,
        decisions(rungs, [one.arm for one in checked if one.last is not None]) if not why else None,
        curve,
        () if curve is None else tuple(trend.TENFOLD * curve.fall(x) for x in curve.xs),
    )


def decisions(rungs: Sequence[Rung], arms: Sequence[str]) -> Decisions | None:
    """The largest size is left out, and the order of every two arms there, the baseline among them, is predicted.

    The interval is that of as many independent pairs as no two of which share an arm: pairs that share one are right or
    wrong together (Clopper and Pearson, Biometrika 26 (1934) 404-413, with a share of them right that need be no
    whole number).

    Returns:
        None with fewer than two sizes below the largest, without an arm, or where an arm's gain has no price.
    """
    smaller = tuple(rungs[:-1])
    curves = (trend.baseline_curve(smaller), trend.baseline_curve(rungs)) if len(smaller) > 1 else (None, None)
    if curves[0] is None or curves[1] is None or not arms:
        return None
    predicted, observed = {BASELINE: 0.0}, {BASELINE: 0.0}
    target = math.log10(rungs[-1].compute)
    for arm in arms:
        before, now = trend.saving(smaller, arm, curves[0]), trend.saving(rungs, arm, curves[1])
        if before is None or now is None:
            return None
        predicted[arm] = float(trend.weights_at(before.xs, target) @ before.saved)
        observed[arm] = float(now.saved[-1])
    pairs = list(combinations(predicted, 2))
    right = sum((predicted[a] > predicted[b]) == (observed[a] > observed[b]) for a, b in pairs)
    low, high = share_ends(right / len(pairs), len(predicted) // 2)
    return Decisions(right, len(pairs), low, high, predicted, observed)


def share_ends(share: float, n: int, confidence: float = CONTROL_LEVEL) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share that was right in `share` of n independent cases."""
    from scipy.special import betaincinv

    tail, hits = (1 - confidence) / 2, share * n
    low = 0.0 if hits <= 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def _too_short(rungs: Sequence[Rung]) -> str:
    if len(rungs) < LEAST_SIZES:
        return f"{len(rungs)} size{'' if len(rungs) == 1 else 's'} of {LEAST_SIZES} at least"
    span = rungs[-1].compute / rungs[0].compute
    if span < LEAST_SPAN:
        return f"the sizes span {span:.1f} times the compute, of {LEAST_SPAN:g} at least"
    return ""


def _trend(rungs: Sequence[Rung], arm: str, curve: trend.Scaling, level: float) -> Trend:
    found = trend.saving(rungs, arm, curve)
    gains = tuple(one for rung in rungs if (one := trend.pooled([rung], arm, BASELINE, level)) is not None)
    if found is None:
        return Trend(arm, level, gains, reason="its loss is below what the baseline's curve reaches")
    misfit = trend.misfit_of(found)
    xs = found.xs
    ends = trend.weights_at(xs, xs[0]), trend.weights_at(xs, xs[-1])
    first, last, kept, slope, ahead = (
        trend.on_line(found, weights, level, misfit)
        for weights in (
            ends[0],
            ends[1],
            ends[1] - KEPT * ends[0],
            trend.weights_of_slope(xs),
            trend.weights_at(xs, xs[-1] + BEYOND),
        )
    )
    verdict, reason = _verdict(first, last, kept, slope)
    return Trend(
        arm,
        level,
        gains,
        tuple(trend.at_size(found, number, level) for number in range(len(xs))),
        first,
        last,
        slope,
        kept,
        ahead,
        misfit,
        verdict,
        reason,
        grows=slope.above,
    )


def _verdict(first: Bounded, last: Bounded, kept: Bounded, slope: Bounded) -> tuple[str, str]:
    if (first.above and last.below) or (first.below and last.above):
        return FLIPS, ""
    if first.above and slope.below:
        return SHRINKS, ""
    if last.above and kept.above:
        return HOLDS, ""
    if first.below and last.below:
        return LOSES, ""
    if not first.above and not last.above:
        return UNKNOWN, "no gain is established at either end"
    if not last.above:
        return UNKNOWN, "a gain is established at the smallest size, and neither one at the largest nor a fall"
    return UNKNOWN, "a gain is established at the largest size, and not how much of that at the smallest it is"


def _controlled(one: Trend, rungs: Sequence[Rung], controls: Controls, blind: bool, no_positive: bool) -> Trend:
    """The trend with what its controls say: a gain is the arm's own where it beats them too."""
    if blind and one.verdict != WITHHELD:
        return replace(one, verdict=CANNOT_TELL, reason="the positive control is not separated from the baseline")
    if one.verdict not in CLAIMS or one.verdict == LOSES:
        return one
    if not controls.recipe:
        return replace(one, reason="no control of the recipe was run")
    arms = {name for rung in rungs for name in rung.losses}
    beside = [*sorted(filter(is_recipe, arms)), *filter(None, [alike(one.arm)])]
    for control in dict.fromkeys([*controls.recipe, *beside]):
        said = _not_beaten(one, rungs, control) if control != one.arm else ""
        if said:
            return replace(one, verdict=UNKNOWN, reason=said)
    return replace(one, reason="no positive control was run") if no_positive else one


def _not_beaten(one: Trend, rungs: Sequence[Rung], control: str) -> str:
    """Why an arm is not known to beat a control over all sizes, and at each where the control beats the baseline."""
    said = words.control(control)
    over_base = trend.pooled(rungs, control, BASELINE, CONTROL_LEVEL)
    over_control = trend.pooled(rungs, one.arm, control, one.level)
    if over_base is None or over_control is None:
        return f"{said} has no figure at some size"
    if not (over_base.below or over_control.above):
        return f"over all sizes it is not separated from {said}"
    pairs = [
        ({s: -x for s, x in r.losses[control].items()}, {s: -x for s, x in r.losses[BASELINE].items()}) for r in rungs
    ]
    for rung, found in zip(rungs, effects(pairs), strict=True):
        if found is None or found.verdict != BETTER:
            continue
        own, other = ({s: -x for s, x in rung.losses[name].items()} for name in (one.arm, control))
        if effect(own, other, one.level).low <= 0:
            return f"at size {rung.name} {said} is better than the baseline, and {one.arm} is not separated from it"
    return ""
