"""Whether a learning rate that muP carried from the smallest size of a ladder fits the larger ones: what controls say.

At every size the baseline is trained at half and at twice the rate as well. Where one of them is better, the rate is
not the best there, and an arm's gain over the baseline may be one of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli import text
from laurel_cli.reports import words
from laurel_cli.verdict import trend
from laurel_cli.verdict.paired import ALPHA
from laurel_cli.verdict.trend import Bounded, Rung
from laurel_cli.verdict.trials import BASELINE

CONTROLS = {"baseline:lr=0.5": "half", "baseline:lr=2": "twice"}
WHAT_TO_DO = {  # where the rate comes from, and how a better one is found
    "muP carried": "`ladder_lr='search'` would search it",
    "its search found": "a ladder with another `lr`, or a larger `lr_search`, would find a better one",
    "was given": "a ladder with another `lr` may have a better one, `ladder_lr='mup'` would search it",
}
CARRIED = (
    "The learning rates of the larger sizes are those of the smallest, carried by muP (arXiv 2203.03466, tables 3 and "
    "8; for AdamW): with m the ratio of the widths, hidden matrices have 1/m of the rate and m^(-1/2) of the standard "
    "deviation at the start, maps from the width to a number that does not grow 1/m of both, all else the same; "
    "logits that the embedding gives are divided by m. What weights lose by decay in a step is not scaled. Attention "
    "heads are as wide at every size."
)


def beside(document: Mapping[str, Any], rungs: Sequence[Rung]) -> dict[str, Any]:
    """The document of a ladder whose rates were carried, with what the controls say of that.

    Args:
        document: schema "laurel.ladder-report/1"; `rungs` the sizes that were looked at, ascending.

    Returns:
        The same with `rate_gains` at every size, their level, a note, and a warning where they contradict the rate.
    """
    by_name = {rung.name: rung for rung in rungs}
    names = [size["name"] for size in document["sizes"]]
    level = 1 - ALPHA / (len(CONTROLS) * len(names))
    gains = {name: {arm: _gain(rung, arm, level) for arm in CONTROLS} for name, rung in by_name.items()}
    sizes = [size | {"rate_gains": _plain(gains.get(size["name"], {}))} for size in document["sizes"]]
    known = [gain for name in names for gain in gains.get(name, {}).values() if gain is not None]
    notes = [*document["notes"], f"{CARRIED} {_said(len(known), len(CONTROLS) * len(names), level)}"]
    first = "its search found" if document["rates"] else "was given"
    origins = [first if number == 0 else "muP carried" for number in range(len(names))]
    warnings = [
        f"size {name}: the baseline at {CONTROLS[arm]} the rate that {origin} "
        f"is better, by {_nats(gain)} nats: the rate is not the best there, and what an arm gains at this size may be "
        f"a matter of the rate; {WHAT_TO_DO[origin]}"
        for origin, name in zip(origins, names, strict=True)
        for arm, gain in gains.get(name, {}).items()
        if gain is not None and gain.low > 0
    ]
    return dict(document) | {
        "sizes": sizes,
        "rate_level": level,
        "notes": notes,
        "warnings": [*warnings, *document["warnings"]],
    }


def _gain(rung: Rung, arm: str, level: float) -> Bounded | None:
    return trend.pooled([rung], arm, BASELINE, level) if rung.losses.get(arm) else None


def _said(known: int, wanted: int, level: float) -> str:
    if not known:
        return "No control says whether a carried rate fits: none was trained at half or at twice the rate."
    lost = f", {wanted - known} of {wanted} were not run" if known < wanted else ""
    return (
        "Whether it fits is said by the baseline at half and at twice the rate of each size, with "
        f"{words.level(level)} intervals, corrected for all of them{lost}."
    )


def _plain(gains: Mapping[str, Bounded | None]) -> list[dict[str, Any]]:
    return [{"name": arm, "gain": estimate(gain)} for arm, gain in gains.items()]


def estimate(found: Bounded | None) -> dict[str, float | None] | None:
    """A figure with its interval, as JSON has it."""
    return None if found is None else {"value": found.value, "low": end(found.low), "high": end(found.high)}


def end(value: float) -> float | None:
    """An end of an interval, as JSON has it: null where it is infinite."""
    return value if math.isfinite(value) else None


def _nats(gain: Bounded) -> str:
    return f"{text.figure(gain.value)} {text.interval(gain.low, gain.high)}"
