"""What a paper printed beside what was counted, timed and trained: the document "laurel.reproduce/1"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli.experiments import Experiment, Scale
from laurel_cli.latency.document import AT_START, is_at_start
from laurel_cli.verdict.findings import JUDGED

SCHEMA = "laurel.reproduce/1"
Document = Mapping[str, Any]


def document(
    experiment: Experiment,
    scale: Scale,
    *,
    folder: str,
    command: str,
    lines: Sequence[str],
    cluster: Sequence[str],
    answers: Mapping[str, Document],
    timed_before: str = "",
) -> dict[str, Any]:
    """What came of an experiment.

    Args:
        experiment, scale: what was made, and how large.
        folder: where it lies.
        command: that asked for it; `lines` the commands that made it, `cluster` those that would make its study on
            other machines.
        answers: documents of `analyze`, `profile` and `train-proxy` by command.
        timed_before: when an earlier run took the times, "" where this one did.
    """
    said = [warning for name in answers for warning in answers[name].get("warnings", ())]
    timed = answers.get("profile", {})
    if is_at_start(timed) and any("rw" in re.split(r"[+@:]", arm["name"]) for arm in timed["arms"]):
        said.append(AT_START)
    return {
        "schema": SCHEMA,
        "command": command,
        "experiment": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "scale": scale.name,
        "note": scale.note,
        "folder": folder,
        "commands": list(lines),
        "cluster": list(cluster),
        "models": {name: _model(answer, scale.steps.get(name, {})) for name, answer in answers.items()},
        "printed_quality": experiment.quality,
        "metric": _metric(answers),
        "learned_reason": answers.get("train-proxy", {}).get("learned_reason", ""),
        "withheld": answers.get("train-proxy", {}).get("withheld", ""),
        "mode": answers.get("profile", {}).get("mode"),
        "timed_before": timed_before,
        "papers_model": scale.papers_model,
        "unwritten": experiment.unwritten.why if experiment.unwritten and scale.papers_model else None,
        "arms": [_row(name, experiment, scale, answers) for name in _arms(answers)],
        "notes": list(experiment.notes),
        "warnings": list(dict.fromkeys(said)),
    }


def _metric(answers: Mapping[str, Document]) -> str | None:
    return answers["train-proxy"]["metric"] if "train-proxy" in answers else None


def _model(answer: Document, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The model of a command, with what was asked of it, and its baseline's parameters where they are told."""
    model, own = answer["model"], (_arm(answer, "baseline") or {}).get("parameters")
    sizes = [f"{name}={asked[name]}" for name in ("layers", "width", "stem") if asked.get(name)]
    return {
        "reference": model.get("reference"),
        "options": ", ".join([*sizes, *(asked.get("model_args") or ())]),
        "parameters": own.get("total") if isinstance(own, Mapping) else own,
        "input": model.get("input"),
    }


def _arms(answers: Mapping[str, Document]) -> list[str]:
    """Every arm that was measured, the baseline first; controls where they were trained."""
    found: dict[str, None] = {}
    for answer in answers.values():
        found |= dict.fromkeys(arm["name"] for arm in answer["arms"])
    return list(found)


def _row(name: str, experiment: Experiment, scale: Scale, answers: Mapping[str, Document]) -> dict[str, Any]:
    counted, timed, trained = (_arm(answers.get(key), name) or {} for key in ("analyze", "profile", "train-proxy"))
    printed = scale.beside.get(name, name)
    kept, base = trained.get("parameters") or {}, _arm(answers.get("profile"), "baseline") or {}
    # A gain of which nothing may be claimed is left out, as a report leaves it out.
    is_told = trained.get("role") != "arm" or trained.get("verdict") in JUDGED
    difference = trained.get("difference") if is_told else None
    return {
        "arm": name,
        "role": trained.get("role"),
        "beside": printed if printed in experiment.printed else None,
        "paper": _printed(experiment, printed),
        "parameters": counted.get("parameters"),
        "added_parameters": counted.get("added_parameters"),
        "added_percent": counted.get("added_parameters_percent"),
        "with_unwritten": _with_unwritten(experiment, scale, printed, counted.get("parameters")),
        "trained_parameters": kept.get("total"),
        "trained_added_parameters": kept.get("added"),
        "quality": trained.get("mean"),
        "accuracy": trained.get("accuracy"),
        "n": trained.get("n"),
        "trials": dict(Counter(trial["status"] for trial in trained["trials"])) if trained else None,
        "gain": None if difference is None else -difference["mean"],
        "gain_low": None if difference is None else _turned(difference["high"]),
        "gain_high": None if difference is None else _turned(difference["low"]),
        "gain_level": None if difference is None else difference["confidence"],
        "words": trained.get("words") or "",
        "ratio": timed.get("ratio"),
        "memory_ratio": _ratio(timed.get("peak_bytes"), base.get("peak_bytes")),
    }


def _printed(experiment: Experiment, name: str) -> dict[str, Any] | None:
    """The paper's figures of an arm, and over its own baseline; a gain is positive where the arm is better."""
    own, base = experiment.printed.get(name), experiment.printed.get("baseline", {})
    if own is None:
        return None
    gain = _difference(own.get("quality"), base.get("quality"))
    of_counts = _percent(own.get("parameters"), base.get("parameters"))
    return {
        "parameters": own.get("parameters"),
        "added_percent": own.get("added_percent", of_counts),
        "percent_of_counts": "added_percent" not in own and of_counts is not None,
        "quality": own.get("quality"),
        "gain": gain if gain is None or experiment.quality == "accuracy" else -gain,
        "step_ratio": _ratio(own.get("step"), base.get("step")),
        "memory_ratio": _ratio(own.get("memory"), base.get("memory")),
    }


def _with_unwritten(experiment: Experiment, scale: Scale, name: str, parameters: int | None) -> int | None:
    """The count with what the paper seems to count and does not mention; its model alone has a comparable count."""
    extra = experiment.unwritten
    if extra is None or parameters is None or not scale.papers_model or name not in experiment.printed:
        return None
    return parameters + extra.each * extra.arms.get(name, 0)


def _arm(answer: Document | None, name: str) -> Document | None:
    return next((arm for arm in answer["arms"] if arm["name"] == name), None) if answer else None


def _turned(value: float | None) -> float | None:
    return None if value is None else -value


def _difference(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else round(value - base, 9)


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def _percent(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else round(100 * (value - base) / base, 6)
