"""All that was recorded as one JSON document, from which every format and figure is made (schema "laurel.report/1").

The same records give the same document: everything is sorted, and nothing of the moment or the machine is in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from laurel_cli.verdict import paired
from laurel_cli.records.folder import Gathered
from laurel_cli.records.places import Places
from laurel_cli.records.store import Record
from laurel_cli.report import panels, series
from laurel_cli.report.answer import answer
from laurel_cli.report.arms import Arm, labels
from laurel_cli.report.compare import Effect, share_ends
from laurel_cli.report.costs import COSTS, Axis, axes
from laurel_cli.report.join import ORDER, Model, Trials, arms_of, models, studies, usable
from laurel_cli.report.method import caveats, formulas
from laurel_cli.report.paper import beside, printed
from laurel_cli.report.quality import Quality, order, quality

SCHEMA = "laurel.report/1"
TASK = ("name", "kind", "classes", "train_examples", "evaluation_examples", "unit")


def report(
    gathered: Gathered,
    *,
    costs: Sequence[str] = COSTS,
    metric: str | None = None,
    model: str | None = None,
    command: str = "",
) -> dict[str, Any]:
    """The document of everything in `gathered`.

    Args:
        gathered: the records.
        costs: of `costs.COSTS`, the ones wanted.
        metric: "loss" or "accuracy"; None for the one that each study names.
        model: the reference or the first letters of the architecture that is wanted alone.
        command: the command that makes this report.

    Raises:
        UsageError: `metric` was not measured in a study.
    """
    records, said = usable(gathered.records)
    chosen = [found for found in models(records) if model is None or _is(found, model)]
    said += [problem.what for problem in gathered.problems]
    pairs: list[tuple[Model, Trials | None]] = []
    for found in chosen:
        of_study = [trials for trials in studies(found) if not trials.is_search]
        searched = sum(len(trials.records) for trials in studies(found) if trials.is_search)
        said += [f"{searched:,} trials of a search of learning rates are not compared"] if searched else []
        pairs += [(found, trials) for trials in of_study] if of_study else [(found, None)]
    compared = [_comparison(found, trials, costs, metric) for found, trials in pairs]
    return {
        "schema": SCHEMA,
        "command": Places().without(command),
        "records": dict(sorted(Counter(record.kind for record in records).items())),
        "unreadable": len(gathered.problems),
        "comparisons": compared,
        "formulas": formulas(compared),
        "environment": _environment([record for found in chosen for record in found.records]),
        "commands": _commands([record for found in chosen for record in found.records]),
        "warnings": said,
    }


def _is(model: Model, wanted: str) -> bool:
    names = {str(record.content["model"].get("reference")) for record in model.records}
    return wanted in names or (len(wanted) >= 6 and model.architecture.startswith(wanted.lower()))


def _comparison(model: Model, trials: Trials | None, costs: Sequence[str], metric: str | None) -> dict[str, Any]:
    found = quality(trials, metric) if trials is not None else None
    paid, notes = axes(model, trials, costs)
    arms = _arms(model, trials)
    names = labels(arms)
    drawn = [panels.panel(axis, found) for axis in paid] if found is not None and found.ranked else []
    body: dict[str, Any] = {
        "model": _model(model),
        "study": None if trials is None or found is None else _study(trials, found),
        "partial": any(record.status == "partial" for record in model.profiles) or _is_unfinished(trials),
        "arms": [_arm(arm, names[arm], found, trials, paid) for arm in arms],
        "panels": [panels.document(panel, names) for panel in drawn],
        "orders": [] if found is None else _orders(found, names),
        "curves": [] if found is None or trials is None else series.curves(trials, found, names),
        "sweeps": [] if found is None else series.sweeps(found, names),
        "latencies": series.latencies(model, names) if {"latency", "step"} & set(costs) else [],
        "where": series.where(model, names),
        "coefficients": [] if found is None or trials is None else series.coefficients(trials, found, names),
        "settings": [
            {"name": axis.name, "title": axis.title, "setting": axis.setting, "sources": list(axis.sources)}
            for axis in paid
        ],
        "notes": [*notes, *(trials.notes if trials is not None else ())],
    }
    body["answer"] = answer(body)
    body["paper"] = beside(body)
    body["printed"] = printed(model, names)
    body["caveats"] = caveats(body)
    return body


def _arms(model: Model, trials: Trials | None) -> list[Arm]:
    """The study's arms, and those that were counted or timed without being trained."""
    found = dict.fromkeys(trials.by_arm if trials is not None else ())
    forms = {arm.form for arm in found}
    for record in (*model.analyses, *model.profiles):
        for arm in arms_of(record):
            if arm.form not in forms:
                forms.add(arm.form)
                found[arm] = None
    return order(list(found))


def _model(model: Model) -> dict[str, Any]:
    counted: Mapping[str, Any] = next(
        (record.content["model"] for record in model.records if record.kind == "analyze"), {}
    )
    return {
        "reference": model.reference,
        "source": model.source,
        "architecture": model.architecture or None,
        "parameters": counted.get("parameters"),
        "inputs": sorted(
            {str(r.content["model"].get("input")) for r in model.records if r.content["model"].get("input")}
        ),
    }


def _study(trials: Trials, found: Quality) -> dict[str, Any]:
    content = trials.content
    task, base = content["task"], next((arm for arm in found.ranked if arm.kind == "baseline"), None)
    states = Counter(state for seeds in found.states.values() for state in seeds.values())
    paired_blocks = [effect.paired for effect in found.gains.values()]
    correlation = _correlation(found, base)
    return {
        "name": trials.name,
        "sha256": content["study"].get("sha256"),
        "definition": content["study"].get("definition"),
        "task": {"title": _title(task)} | {key: task.get(key) for key in TASK},
        "device": trials.device,
        "metric": found.metric,
        "better": "higher" if found.metric == "accuracy" else "lower",
        "chance_loss": content.get("chance_loss"),
        "learned": found.learned,
        "trials": {state: states.get(state, 0) for state in ORDER},
        "paired": all(paired_blocks) if paired_blocks else None,
        "correlation": correlation,
        "noise_floor": _effect(found.floor),
        "smallest_visible": _finite(found.visible),
    }


def _title(task: Mapping[str, Any]) -> str:
    """What the data calls itself (`CIFAR-10 (JPEG)`), else the task's name."""
    provenance = task.get("provenance")
    title = provenance.get("title") if isinstance(provenance, dict) else None
    return str(title or task.get("name"))


def _correlation(found: Quality, base: Arm | None) -> float | None:
    """The median over arms of the correlation with the baseline over blocks."""
    known = []
    for arm in found.gains:
        common = sorted(set(found.scores[arm]) & set(found.scores[base])) if base is not None else []
        value = (
            paired.correlation([found.scores[arm][s] for s in common], [found.scores[base][s] for s in common])
            if (base is not None and common)
            else None
        )
        known += [] if value is None else [value]
    return sorted(known)[len(known) // 2] if known else None


def _arm(arm: Arm, name: str, found: Quality | None, trials: Trials | None, paid: Sequence[Axis]) -> dict[str, Any]:
    values = dict(found.values.get(arm, {})) if found is not None else {}
    states = dict(found.states.get(arm, {})) if found is not None else {}
    reasons = sorted(
        {str(r.content["reason"]) for r in (trials.by_arm.get(arm, ()) if trials else ()) if r.content.get("reason")}
    )
    base = next((a for a in found.ranked if a.kind == "baseline"), None) if found is not None else None
    gain = found.gains.get(arm) if found is not None else None
    if found is not None and arm.kind == "copy":
        gain = found.floor
    return {
        "name": name,
        "kind": arm.kind,
        "family": arm.family,
        "blocks": arm.blocks,
        "spec": None if arm.spec is None else vars(arm.spec),
        "trials": {state: sum(s == state for s in states.values()) for state in ORDER},
        "reasons": reasons,
        "quality": _mean(values),
        "gain": _effect(gain),
        "verdict": _verdict(arm, found, values, states, gain, base),
        "share_of_naive_gain": _share(arm, found, base),
        "costs": {
            axis.name: {
                "percent": _finite(axis.paid[arm.form].cost.value),
                "low": _finite(axis.paid[arm.form].cost.low),
                "high": _finite(axis.paid[arm.form].cost.high),
                "total": axis.paid[arm.form].total,
                "added": axis.paid[arm.form].added,
            }
            for axis in paid
            if arm.form in axis.paid
        },
    }


def _verdict(
    arm: Arm,
    found: Quality | None,
    values: Mapping[int, float],
    states: Mapping[int, str],
    gain: Effect | None,
    base: Arm | None,
) -> str:
    if found is None or not states:
        return "not trained"
    if not values:
        return "diverged" if set(states.values()) == {"diverged"} else "failed"
    if arm is base:
        return "baseline"
    if arm.kind == "copy":
        return "the noise floor"
    return "no baseline" if gain is None else gain.verdict


def _share(arm: Arm, found: Quality | None, base: Arm | None) -> dict[str, Any] | None:
    """The arm's gain as a share of that of the smallest naive arm, with its interval where there is one."""
    if found is None or base is None or arm not in found.gains or arm.kind == "naive":
        return None
    naive = min((a for a in found.gains if a.kind == "naive"), key=lambda a: a.blocks, default=None)
    if naive is None or found.gains[naive].verdict != "better":  # a share of what may be nothing says nothing
        return None
    three = [found.scores[a] for a in (arm, naive, base)]
    low, high = share_ends(*three)
    return {"of": naive.name, "value": found.gains[arm].gain / found.gains[naive].gain, "low": low, "high": high}


def _orders(found: Quality, names: Mapping[Arm, str]) -> list[dict[str, Any]]:
    """Every two arms but the baseline, the better first: whether their order is established."""
    others = [arm for arm in found.ranked if arm.kind != "baseline"]
    pairs = [(a, b) for i, a in enumerate(others) for b in others[i + 1 :]]
    listed = []
    for a, b in pairs:
        better, worse = (a, b) if found.over[a, b].gain >= 0 else (b, a)
        effect = found.over[better, worse]
        listed.append(
            {"better": names[better], "worse": names[worse], "established": effect.verdict == "better"}
            | (_effect(effect) or {})
        )
    return listed


def _mean(values: Mapping[int, float]) -> dict[str, Any] | None:
    if not values:
        return None
    found = paired.mean(list(values.values()))
    by_seed = {str(seed): values[seed] for seed in sorted(values)}
    return {"mean": found.mean, "low": _finite(found.low), "high": _finite(found.high), "n": found.n, "values": by_seed}


def _effect(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    return {key: _finite(value) for key, value in vars(effect).items()} | {"verdict": effect.verdict}


def _is_unfinished(trials: Trials | None) -> bool:
    """Whether a definition names an arm and a seed that have no trial yet; arms and seeds may be added to a study."""
    if trials is None:
        return False
    done = {(str(record.content["arm"]["name"]), record.content["seed"]) for record in trials.records}
    wanted: set[tuple[str, Any]] = set()
    for record in trials.records:
        definition = record.content["study"].get("definition") or {}
        arms, seeds = definition.get("arms"), definition.get("seeds")
        arms = [str(arm) for arm in arms] if isinstance(arms, list) else sorted({arm for arm, _ in done})
        seeds = list(range(seeds)) if isinstance(seeds, int) else seeds if isinstance(seeds, list) else []
        wanted |= {(arm, seed) for arm in arms for seed in seeds}
    return bool(wanted - done)


def _environment(records: Iterable[Record]) -> list[dict[str, str]]:
    """Each kind of record with the devices and versions that it was made with."""
    found = set()
    for record in records:
        versions = record.content.get("versions") or {}
        device = record.content.get("device") or {}
        known = ", ".join(f"{name} {value}" for name, value in sorted(versions.items()) if value)
        where = " ".join(str(device[key]) for key in ("name", "gpu") if device.get(key))
        found.add((record.kind, where or "-", known or "-"))
    return [{"kind": kind, "device": device, "versions": versions} for kind, device, versions in sorted(found)]


def _commands(records: Iterable[Record]) -> list[str]:
    return sorted({str(record.content["command"]) for record in records if record.content.get("command")})


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
