"""One cost against the quality of a study: the points, who is on the frontier, what is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laurel_cli.report import frontier
from laurel_cli.report.arms import Arm
from laurel_cli.report.compare import DRAWS, SEED, Effect, draws
from laurel_cli.report.costs import Axis
from laurel_cli.report.frontier import Cost, Saving
from laurel_cli.report.quality import Quality

BEYOND = 1.1  # where the hypervolume ends, in largest costs: that one must count too


@dataclass(frozen=True)
class Point:
    """An arm in a panel.

    Attributes:
        cost: beyond the baseline, in percent.
        status: of `frontier.status`; `probability` that it is on the frontier, None where that is not known.
        saving: against naive scaling at equal quality; `times` the naive arm's cost over its own, whatever the quality.
    """

    arm: Arm
    cost: Cost
    status: str
    probability: float | None
    saving: Saving | None
    times: float | None


@dataclass(frozen=True)
class Panel:
    """One axis with its points; `volume` and `naive_volume` are (estimate, low, high) of what a budget buys."""

    axis: Axis
    points: tuple[Point, ...]
    missing: tuple[Arm, ...]
    volume: tuple[float, float, float] | None
    naive_volume: tuple[float, float, float] | None


def panel(axis: Axis, quality: Quality) -> Panel:
    """The panel of an axis: the ranked arms whose cost is known. Nothing is ranked where the proxy has not learned."""
    arms = [arm for arm in quality.ranked if arm.form in axis.paid]
    missing = tuple(arm for arm in quality.ranked if arm.form not in axis.paid)
    costs = [axis.paid[arm.form].cost for arm in arms]
    enough = [len(quality.scores[arm]) > 1 and quality.learned is not False for arm in arms]
    over: list[list[Effect | None]] = [[quality.over.get((a, b)) for b in arms] for a in arms]
    statuses = [frontier.status(i, costs, over, enough) for i in range(len(arms))]
    base = next((i for i, arm in enumerate(arms) if arm.kind == "baseline"), None)
    if base is None or not all(enough):
        plain = [
            Point(arm, cost, said, None, None, None) for arm, cost, said in zip(arms, costs, statuses, strict=True)
        ]
        return Panel(axis, tuple(plain), missing, None, None)
    # Row 0 is the estimate itself, the other rows are draws.
    estimate = np.array([[np.mean(list(quality.scores[arm].values())) for arm in arms]])
    means = np.concatenate([estimate, draws([quality.scores[arm] for arm in arms])])
    paid = np.concatenate([[[cost.value for cost in costs]], frontier.cost_draws(costs, DRAWS, SEED)])
    gains = means - means[:, [base]]
    probability = frontier.on_frontier(paid[1:], gains[1:]).mean(axis=0)
    savings, times = _savings(arms, paid, gains, base)
    points = [
        Point(arm, costs[i], statuses[i], float(probability[i]), savings.get(arm), times.get(arm))
        for i, arm in enumerate(arms)
    ]
    naive = [i for i, arm in enumerate(arms) if arm.kind in ("baseline", "naive")]
    most = BEYOND * float(paid[0].max())
    volume = _spread(frontier.hypervolume(paid, gains, most)) if most > 0 else None
    naive_volume = None
    if most > 0 and len(naive) > 1:
        naive_volume = _spread(frontier.hypervolume(paid[:, naive], gains[:, naive], most))
    return Panel(axis, tuple(points), missing, volume, naive_volume)


def _savings(
    arms: Sequence[Arm], paid: np.ndarray, gains: np.ndarray, base: int
) -> tuple[dict[Arm, Saving], dict[Arm, float]]:
    naive = sorted((i for i, arm in enumerate(arms) if arm.kind == "naive"), key=lambda i: arms[i].blocks)
    if not naive or any(paid[0, i] <= 0 for i in naive):
        return {}, {}
    curve = [base, *naive]
    savings, times = {}, {}
    for i, arm in enumerate(arms):
        if i in curve:
            continue
        found = frontier.saving(gains[:, i], paid[:, i], paid[:, curve], gains[:, curve])
        if found is not None:
            savings[arm] = found
            times[arm] = float(paid[0, naive[0]] / paid[0, i])
    return savings, times


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)


def document(found: Panel, labels: Mapping[Arm, str]) -> dict[str, Any]:
    """The panel as plain JSON."""

    def saved(point: Point) -> dict[str, Any] | None:
        return None if point.saving is None else {key: _finite(value) for key, value in vars(point.saving).items()}

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
                "status": point.status,
                "probability": point.probability,
                "times_fewer_than_naive": point.times,
                "saving_at_equal_quality": saved(point),
            }
            for point in found.points
        ],
        "missing": [labels[arm] for arm in found.missing],
        "hypervolume": _triple(found.volume),
        "hypervolume_naive": _triple(found.naive_volume),
    }


def _triple(values: tuple[float, float, float] | None) -> dict[str, float] | None:
    return None if values is None else dict(zip(("value", "low", "high"), values, strict=True))


def _finite(value: float | bool | None) -> float | bool | None:
    return None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
