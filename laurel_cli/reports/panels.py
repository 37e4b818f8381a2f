"""One cost against the quality of a study: the points, who is on the frontier, what is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laurel_cli.arms import Arm
from laurel_cli.reports import frontier
from laurel_cli.reports.costs import Axis, Paid
from laurel_cli.reports.quality import CONTROLS, Quality
from laurel_cli.reports.savings import Saving, saving
from laurel_cli.verdict.findings import NAIVE, UNCONTROLLED


@dataclass(frozen=True)
class Point:
    """An arm in a panel.

    Attributes:
        paid: beyond the baseline.
        status: of `frontier.status`; CONTROL of the positive control, which stands beside and is no rival.
        saving: against naive scaling at equal quality; None where that is not known.
    """

    arm: Arm
    paid: Paid
    status: str
    saving: Saving | None


@dataclass(frozen=True)
class Panel:
    """One axis with its points, and the arms of which its cost was not measured."""

    axis: Axis
    points: tuple[Point, ...]
    missing: tuple[Arm, ...]


def panel(axis: Axis, quality: Quality) -> Panel:
    """The panel of an axis: the arms whose quality and cost are known."""
    paid = {arm: cost for arm in quality.drawn if (cost := axis.of(arm)) is not None}
    rivals = [arm for arm in paid if quality.findings[arm].role not in CONTROLS]
    costs = [paid[arm].cost for arm in rivals]
    known = [quality.known(arm) for arm in rivals]
    points = []
    for arm in paid:
        status = frontier.CONTROL
        if arm in rivals:
            i = rivals.index(arm)
            status = frontier.status(i, costs, lambda a, b: quality.better(rivals[a], rivals[b]), known)
            if status == frontier.FRONTIER and quality.findings[arm].verdict == UNCONTROLLED:
                status = frontier.UNCONTROLLED
        points.append(Point(arm, paid[arm], status, _saving(arm, axis, quality)))
    missing = tuple(arm for arm in quality.drawn if arm not in paid)
    return Panel(axis, tuple(points), missing)


def _saving(arm: Arm, axis: Axis, quality: Quality) -> Saving | None:
    finding, judgement = quality.findings[arm], quality.judgement
    naive = next((other for other, item in quality.findings.items() if item.name == NAIVE), None)
    ours, theirs = axis.of(arm), None if naive is None else axis.of(naive)
    if judgement.naive is None or finding.share_of_naive is None or ours is None or theirs is None:
        return None
    found = saving(finding.share_of_naive, judgement.share_confidence(finding), ours.cost, theirs.cost)
    return found if found is not None and found.known else None


def document(found: Panel, labels: Mapping[Arm, str]) -> dict[str, Any]:
    """The panel as plain JSON."""
    return {
        "name": found.axis.name,
        "cost": found.axis.kind,
        "title": found.axis.title,
        "setting": found.axis.setting,
        "sources": list(found.axis.sources),
        "arms": [
            {
                "name": labels[point.arm],
                "cost_percent": point.paid.cost.value,
                "cost_low": _finite(point.paid.cost.low),
                "cost_high": _finite(point.paid.cost.high),
                "level": point.paid.cost.level,
                "elementwise_added": point.paid.cost.beside if found.axis.kind == "flops" else None,
                "lower_bound": point.paid.lower_bound,
                "status": point.status,
                "times_fewer": None if point.saving is None else _plain(point.saving),
            }
            for point in found.points
        ],
        "missing": [labels[arm] for arm in found.missing],
    }


def _plain(item: Saving) -> dict[str, Any]:
    return {key: _finite(value) for key, value in vars(item).items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
