"""What a paper printed beside what was counted, timed and trained: the document "laurel.reproduce/1"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from laurel_cli.experiments import Experiment, Scale

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
) -> dict[str, Any]:
    """What came of an experiment.

    Args:
        experiment, scale: what was made, and how large.
        folder: where it lies.
        command: that asked for it; `lines` the commands that made it, `cluster` those that would make its study on
            other machines.
        answers: documents of `analyze`, `profile` and `train-proxy` by command.
    """
    said = [warning for name in answers for warning in answers[name].get("warnings", ())]
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
        "printed_quality": experiment.quality,
        "metric": _metric(answers),
        "learned_reason": answers.get("train-proxy", {}).get("learned_reason", ""),
        "withheld": answers.get("train-proxy", {}).get("withheld", ""),
        "mode": answers.get("profile", {}).get("mode"),
        "unwritten": experiment.unwritten.why if experiment.unwritten and scale.name == "paper" else None,
        "arms": [_row(name, experiment, scale, answers) for name in _arms(answers)],
        "notes": list(experiment.notes),
        "warnings": list(dict.fromkeys(said)),
    }


def _metric(answers: Mapping[str, Document]) -> str | None:
    return answers["train-proxy"]["metric"] if "train-proxy" in answers else None


def _arms(answers: Mapping[str, Document]) -> list[str]:
    """Every arm that was measured, the baseline first; controls where they were trained."""
    found: dict[str, None] = {}
    for answer in answers.values():
        found |= dict.fromkeys(arm["name"] for arm in answer["arms"])
    return list(found)


def _row(name: str, experiment: Experiment, scale: Scale, answers: Mapping[str, Document]) -> dict[str, Any]:
    counted, timed, trained = (_arm(answers.get(key), name) for key in ("analyze", "profile", "train-proxy"))
    printed = scale.beside.get(name, name)
    difference, kept = (trained or {}).get("difference"), (trained or {}).get("parameters") or {}
    base = _arm(answers.get("profile"), "baseline")
    parameters = (counted or {}).get("parameters", kept.get("total"))
    return {
        "arm": name,
        "role": (trained or {}).get("role"),
        "beside": printed if printed in experiment.printed else None,
        "paper": _printed(experiment, printed),
        "parameters": parameters,
        "added_parameters": (counted or {}).get("added_parameters", kept.get("added")),
        "added_percent": (counted or {}).get("added_parameters_percent"),
        "with_unwritten": _with_unwritten(experiment, scale, printed, parameters),
        "quality": (trained or {}).get("mean"),
        "n": (trained or {}).get("n"),
        "gain": None if difference is None else -difference["mean"],
        "gain_low": None if difference is None else _turned(difference["high"]),
        "gain_high": None if difference is None else _turned(difference["low"]),
        "gain_level": None if difference is None else difference["confidence"],
        "words": (trained or {}).get("words") or "",
        "ratio": (timed or {}).get("ratio"),
        "memory_ratio": _ratio((timed or {}).get("peak_bytes"), (base or {}).get("peak_bytes")),
    }


def _printed(experiment: Experiment, name: str) -> dict[str, Any] | None:
    """The paper's figures of an arm, and over its own baseline; a gain is positive where the arm is better."""
    own, base = experiment.printed.get(name), experiment.printed.get("baseline", {})
    if own is None:
        return None
    gain = _difference(own.get("quality"), base.get("quality"))
    return {
        "parameters": own.get("parameters"),
        "added_percent": _percent(own.get("parameters"), base.get("parameters")),
        "quality": own.get("quality"),
        "gain": gain if gain is None or experiment.quality == "accuracy" else -gain,
        "step_ratio": _ratio(own.get("step"), base.get("step")),
        "memory_ratio": _ratio(own.get("memory"), base.get("memory")),
    }


def _with_unwritten(experiment: Experiment, scale: Scale, name: str, parameters: int | None) -> int | None:
    """The count with what the paper seems to count and does not mention; its model alone has a comparable count."""
    extra = experiment.unwritten
    if extra is None or parameters is None or scale.name != "paper" or name not in experiment.printed:
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
