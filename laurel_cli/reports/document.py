"""All that was recorded as one JSON document, from which every format and figure is made (schema "laurel.report/2").

The same records give the same document: everything is sorted, and nothing of the moment or the machine is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from laurel_cli.arms import Arm
from laurel_cli.errors import RecordError
from laurel_cli.records.folder import Gathered
from laurel_cli.records.places import Places
from laurel_cli.records.store import Record
from laurel_cli.reports import panels, series, study
from laurel_cli.reports.answer import answer
from laurel_cli.reports.arms import labels, order
from laurel_cli.reports.costs import COSTS, Axis, axes
from laurel_cli.reports.join import Model, arms_of, models, usable
from laurel_cli.reports.method import caveats, formulas
from laurel_cli.reports.paper import beside, printed
from laurel_cli.reports.quality import quality
from laurel_cli.reports.studies import Trials, studies
from laurel_cli.reports.study import finite

SCHEMA = "laurel.report/2"


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
        metric: "loss" or "accuracy", to be shown; None for the one that each study declared. Verdicts are always those
            of the declared metric.
        model: the reference or the first letters of the architecture that is wanted alone.
        command: the command that makes this report.

    Raises:
        UsageError: `metric` was not measured in a study.
        RecordError: there are trials, and of no study can they be compared.
    """
    records, said = usable(gathered.records)
    chosen = [found for found in models(records) if model is None or _is(found, model)]
    said += [problem.what for problem in gathered.problems]
    pairs: list[tuple[Model, Trials | None]] = []
    refused: list[RecordError] = []
    for found in chosen:
        try:
            of_study, words = studies(found)
        except RecordError as error:
            refused.append(error)
            of_study, words = [], [str(error)]
        said += words
        pairs += [(found, trials) for trials in of_study] if of_study else [(found, None)]
    if refused and all(trials is None for _, trials in pairs):
        raise refused[0]
    compared = [_comparison(found, trials, costs, metric) for found, trials in pairs]
    named = {name for body in compared for name in _sources(body)}
    used = [record for found in chosen for record in found.records if record.name in named]
    used += [record for _, trials in pairs if trials is not None for record in trials.records]
    used = list({record.name: record for record in used}.values())
    return {
        "schema": SCHEMA,
        "command": Places().without(command),
        "records": dict(sorted(Counter(record.kind for record in used).items())),
        "unreadable": len(gathered.problems),
        "comparisons": compared,
        "formulas": formulas(compared),
        "environment": _environment(used),
        "commands": _commands(used),
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
    drawn = [panels.panel(axis, found) for axis in paid] if found is not None and found.drawn else []
    described = study.document(found) if found is not None else None
    body: dict[str, Any] = {
        "model": model.once(_model),
        "study": described,
        "partial": any(record.status == "partial" for record in model.profiles)
        or (described is not None and _is_unfinished(described)),
        "arms": [study.arm(arm, names[arm], found) | {"costs": _costs(arm, paid)} for arm in arms],
        "panels": [panels.document(panel, names) for panel in drawn],
        "orders": [] if found is None else study.orders(found, names),
        "curves": [] if found is None else series.curves(found, names),
        "sweeps": [] if found is None else series.sweeps(found, names),
        "latencies": series.latencies(model, names) if {"latency", "step"} & set(costs) else [],
        "where": series.where(model, names),
        "coefficients": [] if found is None else series.coefficients(found, names),
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


def _is_unfinished(study: Mapping[str, Any]) -> bool:
    """Whether a trial that was declared has left no record, or the first look is not reached."""
    return study["missing"] > 0 or study["blocks"] < study["declared"]["first"]


def _sources(body: Mapping[str, Any]) -> list[str]:
    """Names of the records from which a figure of a cost, a time or a place in the model is."""
    found = [name for setting in body["settings"] for name in setting["sources"]]
    found += [arm["source"] for panel in body["latencies"] for arm in panel["arms"]]
    return found + [arm["source"] for arm in body["where"]]


def _arms(model: Model, trials: Trials | None) -> list[Arm]:
    """The study's arms, and those that were counted or timed without being trained."""
    found = list(trials.findings if trials is not None else ())
    forms = {arm.form for arm in found}
    return order([*found, *(arm for form, arm in model.once(_untrained).items() if form not in forms)])


def _untrained(model: Model) -> dict[tuple[Any, ...], Arm]:
    """The arms that were counted or timed, by form: of several of one form the first."""
    found: dict[tuple[Any, ...], Arm] = {}
    for record in (*model.analyses, *model.profiles):
        for arm in arms_of(record):
            found.setdefault(arm.form, arm)
    return found


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


def _costs(arm: Arm, paid: Sequence[Axis]) -> dict[str, Any]:
    found = {}
    for axis in paid:
        item = axis.of(arm)
        if item is None:
            continue
        found[axis.name] = {
            "percent": finite(item.cost.value),
            "low": finite(item.cost.low),
            "high": finite(item.cost.high),
            "level": item.cost.level,
            "total": item.total,
            "added": item.added,
        }
        if axis.kind == "flops":
            found[axis.name] |= {"elementwise_added": item.cost.beside, "lower_bound": item.lower_bound}
    return found


def _environment(records: Iterable[Record]) -> list[dict[str, str]]:
    """Each kind of record with the devices and versions that it was made with."""
    found = set()
    for record in records:
        versions = record.content.get("versions") or {}
        device = record.content.get("device") or {}
        known = ", ".join(f"{name} {value}" for name, value in sorted(versions.items()) if value)
        where = " ".join(str(device[key]) for key in ("name", "cpu", "gpu") if device.get(key))
        found.add((record.kind, where or "-", known or "-"))
    return [{"kind": kind, "device": device, "versions": versions} for kind, device, versions in sorted(found)]


def _commands(records: Iterable[Record]) -> list[str]:
    return sorted({str(record.content["command"]) for record in records if record.content.get("command")})
