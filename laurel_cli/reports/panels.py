"""One cost against the quality of a study: the points, who is on the frontier, what is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laurel_cli.arms import Arm
from laurel_cli.reports import frontier
from laurel_cli.reports.costs import Axis
from laurel_cli.reports.frontier import AddedCost
from laurel_cli.reports.quality import CONTROLS, Quality
from laurel_cli.reports.savings import Saving, saving
from laurel_cli.verdict.findings import NAIVE, UNCONTROLLED


@dataclass(frozen=True)
class Point:
    """An arm in a panel.

    Attributes:
        cost: beyond the baseline.
        status: of `frontier.status`; CONTROL of the positive control, which stands beside and is no rival.
        saving: against naive scaling at equal quality; None where that is not known.
    """

    arm: Arm
    cost: AddedCost
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
    arms = [arm for arm in quality.drawn if arm.form in axis.paid]
    rivals = [arm for arm in arms if quality.findings[arm].role not in CONTROLS]
    costs = [axis.paid[arm.form].cost for arm in rivals]
    known = [quality.known(arm) for arm in rivals]
    points = []
    for arm in arms:
        status = frontier.CONTROL
        if arm in rivals:
            i = rivals.index(arm)
            status = frontier.status(i, costs, lambda a, b: quality.better(rivals[a], rivals[b]), known)
            if status == frontier.FRONTIER and quality.findings[arm].verdict == UNCONTROLLED:
                status = frontier.UNCONTROLLED
        points.append(Point(arm, axis.paid[arm.form].cost, status, _saving(arm, axis, quality)))
    missing = tuple(arm for arm in quality.drawn if arm.form not in axis.paid)
    return Panel(axis, tuple(points), missing)


def _saving(arm: Arm, axis: Axis, quality: Quality) -> Saving | None:
    finding, judgement = quality.findings[arm], quality.judgement
    naive = next((other for other, item in quality.findings.items() if item.name == NAIVE), None)
    if judgement.naive is None or finding.share_of_naive is None or naive is None or naive.form not in axis.paid:
        return None
    found = saving(
        finding.share_of_naive,
        judgement.share_confidence(finding),
        axis.paid[arm.form].cost,
        axis.paid[naive.form].cost,
    )
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
                "cost_percent": point.cost.value,
                "cost_low": _finite(point.cost.low),
                "cost_high": _finite(point.cost.high),
                "level": point.cost.level,
                "elementwise_added": point.cost.beside if found.axis.kind == "flops" else None,
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
