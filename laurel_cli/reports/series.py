"""What the figures beside the frontier show: learning curves, the sweep over ranks, latencies, places in the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

from laurel_cli.arms import Arm
from laurel_cli.laurel.spec import Spec
from laurel_cli.reports.arms import order
from laurel_cli.reports.costs import level
from laurel_cli.reports.join import Model, arms_of, newest_first
from laurel_cli.reports.quality import CONTROLS, Quality
from laurel_cli.reports.timed import Timed, timed
from laurel_cli.verdict import paired
from laurel_cli.verdict.findings import Finding
from laurel_cli.verdict.trials import outcome

Named = Mapping[Arm, str]


def curves(quality: Quality, labels: Named) -> list[dict[str, Any]]:
    """For each arm the mean over its complete trials of every evaluation that all of them have."""
    found = []
    for arm, finding in quality.findings.items():
        runs = [
            {point["step"]: point for point in trial.get("evaluations") or () if _has(point, quality.shown)}
            for trial in finding.arm.trials.values()
            if outcome(trial)[0] == "complete"
        ]
        steps = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
        points = []
        for step in steps:
            values = [float(run[step][quality.shown]) for run in runs]
            points.append({"step": step, "samples": runs[0][step].get("samples", step)} | _mean(values))
        if points:
            found.append({"arm": labels[arm], "family": _family(arm, finding), "points": points})
    return found


def sweeps(quality: Quality, labels: Named) -> list[dict[str, Any]]:
    """Arms that differ in their rank alone, where there are at least two ranks (the paper's Figure 3)."""
    groups: dict[Any, list[tuple[Spec, Arm]]] = {}
    for arm in quality.drawn:
        if isinstance(arm.spec, Spec) and arm.spec.low_rank:
            key = (replace(arm.spec, rank=1), arm.name.partition(":")[2])
            groups.setdefault(key, []).append((arm.spec, arm))
    found = []
    for arms in groups.values():
        if len(arms) < 2:
            continue
        points = []
        for spec, arm in sorted(arms, key=lambda item: item[0].rank):
            points.append({"arm": labels[arm], "rank": spec.rank} | _mean(list(quality.values[arm].values())))
        spec, arm = arms[0]
        found.append({"name": labels[arm].replace(f"@{spec.rank}", ""), "family": arm.family, "points": points})
    return found


def latencies(model: Model, labels: Named) -> list[dict[str, Any]]:
    """For each setting and arm the ratio to the baseline, and the median ratio of each placement."""
    found = []
    for setting, by_form in model.once(timed).items():
        by_arm = {one.arm: one for one in by_form.values() if one.item.get("ratio")}
        arms = [_latency(by_arm[arm], labels) for arm in order(by_arm)]
        if arms:
            found.append({"setting": setting.text, "mode": setting.mode, "arms": arms})
    return found


def _latency(one: Timed, labels: Named) -> dict[str, Any]:
    item, ratio = one.item, one.item["ratio"]
    return {
        "arm": labels.get(one.arm, one.arm.name),
        "family": one.arm.family,
        **{key: ratio.get(key) for key in ("median", "low", "high", "verdict")},
        "level": level(item),
        "p_holm": ratio.get("p_holm", item.get("p_holm")),
        "to_naive": _to_naive(item),
        "placements": _placements(one.record.content, item["name"]),
        "source": one.record.name,
    }


def where(model: Model, labels: Named) -> list[dict[str, Any]]:
    """For each arm that was counted how many parameters stand at which connection, in the order of execution."""
    stands = model.once(_stands)
    return [{"arm": labels.get(arm, arm.name), **stands[arm]} for arm in order(list(stands))]


def _stands(model: Model) -> dict[Arm, dict[str, Any]]:
    found: dict[Arm, dict[str, Any]] = {}
    for record in newest_first(model.analyses):
        stands = record.content.get("where") or {}
        streams = {item["name"]: item.get("stream") for item in record.content.get("connections") or ()}
        for arm, item in arms_of(record).items():
            if item["name"] in stands and arm not in found:
                places = [place | {"stream": streams.get(place["connection"])} for place in stands[item["name"]]]
                found[arm] = {"family": arm.family, "places": places, "source": record.name}
    return found


def coefficients(quality: Quality, labels: Named) -> list[dict[str, Any]]:
    """For each arm with residual weights the learned a and b at each connection, as means over its complete trials."""
    found = []
    for arm, finding in quality.findings.items():
        by_place: dict[str, dict[str, list[float]]] = {}
        for trial in finding.arm.trials.values():
            if outcome(trial)[0] != "complete":
                continue
            for item in trial.get("coefficients") or ():
                place = by_place.setdefault(str(item.get("connection")), {"a": [], "b": []})
                for key in ("a", "b"):
                    if isinstance(item.get(key), int | float):
                        place[key].append(float(item[key]))
        places = [
            {"connection": name, "a": _average(values["a"]), "b": _average(values["b"])}
            for name, values in by_place.items()
            if values["a"] or values["b"]
        ]
        if places:
            found.append({"arm": labels[arm], "family": arm.family, "places": places})
    return found


def _family(arm: Arm, finding: Finding) -> str:
    return "control" if finding.role in CONTROLS else arm.family


def _to_naive(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ratio to `naive+1` of a profile that tested it, with its level; older profiles did not."""
    ratio = item.get("to_naive")
    if not isinstance(ratio, Mapping) or ratio.get("median") is None:
        return None
    return {key: ratio.get(key) for key in ("median", "low", "high", "verdict", "p_holm")} | {
        "level": level(dict(ratio))
    }


def _placements(content: Mapping[str, Any], name: str) -> list[float]:
    ratios = []
    for placement in content.get("samples") or ():
        seconds = placement.get("seconds") or {}
        pairs = list(zip(seconds.get(name) or (), seconds.get("baseline") or (), strict=False))
        if pairs:
            ratios.append(math.exp(median(math.log(a / b) for a, b in pairs)))
    return ratios


def _has(point: Mapping[str, Any], metric: str) -> bool:
    return point.get("step") is not None and isinstance(point.get(metric), int | float)


def _mean(values: Sequence[float]) -> dict[str, Any]:
    found = paired.mean(values)
    ends = (found.low, found.high) if math.isfinite(found.high - found.low) else (None, None)
    return {"mean": found.mean, "low": ends[0], "high": ends[1], "n": found.n}


def _average(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
