"""What a ladder says, in words: the same words in every command."""

from __future__ import annotations

import math

from laurel_cli import text
from laurel_cli.verdict.ladder import (
    CLAIMS,
    FLIPS,
    HOLDS,
    LOSES,
    SHRINKS,
    Decisions,
    LadderJudgement,
    Trend,
)
from laurel_cli.verdict.trend import Bounded
from laurel_cli.verdict.words import listed


def verdict(one: Trend) -> str:
    """`holds, and grows`, `unknown: no gain is established at either end`."""
    said = {LOSES: "worse at every size"}.get(one.verdict, one.verdict)
    if one.verdict == HOLDS and one.grows:
        said = "holds, and grows"
    return f"{said}: {one.reason}" if one.reason and one.verdict not in CLAIMS else said


def sentence(one: Trend, ladder: LadderJudgement) -> str:
    """What is established of one arm."""
    if one.first is None or one.last is None or one.slope is None:
        return f"{one.arm}: {verdict(one)}."
    small, large = ladder.rungs[0].name, ladder.rungs[-1].name
    ends = f"{times(one.first)} at size {small} and {times(one.last)} at size {large}"
    steep = f"a tenfold compute multiplies it by {factor(one.slope)}"
    said = {
        HOLDS: f"its saving {verdict(one)}: {ends}",
        SHRINKS: f"its saving shrinks: {ends}; {steep}",
        FLIPS: f"its saving flips: {ends}; {steep}",
        LOSES: f"it is worse at every size: {ends}",
    }.get(one.verdict)
    if said is None:
        return f"{one.arm}: whether a gain of it holds is {verdict(one)}. The line is at {ends}."
    beside = f" ({one.reason})" if one.reason else ""
    return f"{one.arm}: {said}{beside}."


def beyond(one: Trend, compute: float) -> str:
    """Where the line goes, `BEYOND` the largest size."""
    if one.ahead is None or not math.isfinite(one.ahead.high):
        return ""
    return f"{one.arm}: at {compute:.2g} FLOPs, ten times the largest size, the line is at {times(one.ahead)}."


def decided(found: Decisions, largest: str) -> str:
    """`decision accuracy of this ladder: 8 of 10 pairs`, with its interval."""
    arms = len(found.predicted)
    return (
        f"Decision accuracy of this ladder: {found.right} of {found.pairs} pair{'' if found.pairs == 1 else 's'} of "
        f"{arms} arms are ordered at size {largest} as the line through the smaller sizes predicts (of such pairs "
        f"{100 * found.low:.0f} to {100 * found.high:.0f} %, at 95 %: {arms} arms make {arms // 2} pair"
        f"{'' if arms // 2 == 1 else 's'} that share{'s' if arms // 2 == 1 else ''} no arm)."
    )


def summary(ladder: LadderJudgement) -> str:
    """The first sentence: what holds."""
    if ladder.withheld:
        return f"Nothing is said of larger sizes: {ladder.withheld}."
    if ladder.cannot_tell:
        return (
            "This ladder cannot tell: its positive control is not separated from the baseline, so gains of that size "
            "would not have been seen either."
        )
    parts = []
    for word, said in ((HOLDS, "holds"), (SHRINKS, "shrinks"), (FLIPS, "flips"), (LOSES, "is a loss at every size")):
        arms = [one.arm for one in ladder.trends if one.verdict == word]
        parts += [f"what {listed(arms)} save{'s' if len(arms) == 1 else ''} {said}"] if arms else []
    rest = [one.arm for one in ladder.trends if one.verdict not in CLAIMS]
    parts += [f"of {listed(rest)} it is not known"] if rest else []
    span = ladder.rungs[-1].compute / ladder.rungs[0].compute
    where = f"From size {ladder.rungs[0].name} to size {ladder.rungs[-1].name}, {span:,.3g} times the compute"
    return f"{where}: {'; '.join(parts) if parts else 'there is no arm'}."


def times(found: Bounded) -> str:
    """`x1.23 [1.18, 1.29]`: a logarithm as times."""
    return f"x{factor(found)}"


def factor(found: Bounded) -> str:
    """`0.86 [0.81, 0.92]`."""
    value, low, high = (math.exp(min(end, 700.0)) for end in (found.value, found.low, found.high))
    known = math.isfinite(found.low) and math.isfinite(found.high)
    return text.factor(value, low if known else None, high if known else None)
