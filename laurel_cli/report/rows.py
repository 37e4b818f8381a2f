"""The document as one flat table, a row an arm of a comparison: for CSV, for gates, for spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Item = Mapping[str, Any]
TOTALS = {
    "parameters": "parameters",
    "flops": "flops",
    "latency": "latency_ms",
    "step": "step_ms",
    "memory": "peak_bytes",
}


def rows(document: Item) -> list[dict[str, Any]]:
    """Every arm of every comparison, exact values, None for what is not known."""
    return [_row(body, arm) for body in document["comparisons"] for arm in body["arms"]]


def columns(found: list[dict[str, Any]]) -> list[str]:
    """The columns of `rows` that hold numbers."""
    names = dict.fromkeys(key for row in found for key in row)
    return [name for name in names if any(_is_number(row.get(name)) for row in found)]


def _row(body: Item, arm: Item) -> dict[str, Any]:
    study, spec = body["study"] or {}, arm["spec"] or {}
    row: dict[str, Any] = {
        "model": body["model"]["reference"],
        "study": study.get("name"),
        "task": (study.get("task") or {}).get("name"),
        "trained_on": study.get("device"),
        "arm": arm["name"],
        "kind": arm["kind"],
        "formula": arm["family"],
        "rank": spec.get("rank") if "lr" in arm["family"] or spec.get("history") in ("shared", "per-lag") else None,
        **{f"trials_{state}": number for state, number in arm["trials"].items()},
        "metric": study.get("metric"),
    }
    row |= _ends("quality", arm["quality"], "mean")
    row |= _ends("gain", arm["gain"], "gain")
    row |= {key: (arm["gain"] or {}).get(key) for key in ("p", "p_holm")}
    row |= {"verdict": arm["verdict"]} | _ends("share_of_naive_gain", arm["share_of_naive_gain"], "value")
    for setting in body["settings"]:
        row |= _cost(setting, arm["costs"].get(setting["name"]) or {})
    for panel in body["panels"]:
        name = panel["name"]
        point: Item = next((p for p in panel["arms"] if p["name"] == arm["name"]), {})
        saving = point.get("saving_at_equal_quality") or {}
        row |= {f"frontier_{name}": point.get("status"), f"frontier_{name}_probability": point.get("probability")}
        row |= {f"times_fewer_{name}": point.get("times_fewer_than_naive")}
        row |= {
            f"saving_{name}{end}": saving.get(key) for end, key in (("", "times"), ("_low", "low"), ("_high", "high"))
        }
    return row


def _cost(setting: Item, paid: Item) -> dict[str, Any]:
    """`added_latency_percent` with `_low` and `_high`, and what the percentage is of."""
    kind, _, number = str(setting["name"]).partition("_")
    suffix = f"_{number}" if number else ""
    found = {f"{TOTALS[kind]}{suffix}": paid.get("total"), f"added_{kind}_percent{suffix}": paid.get("percent")}
    if kind in ("latency", "step"):
        found |= {f"added_{kind}_percent{end}{suffix}": paid.get(end[1:]) for end in ("_low", "_high")}
        found |= {f"{kind}_setting{suffix}": setting["setting"]}
    else:
        found |= {f"added_{kind}{suffix}": paid.get("added")}
    return found


def _ends(name: str, found: Item | None, middle: str) -> dict[str, Any]:
    known = found or {}
    return {name: known.get(middle), f"{name}_low": known.get("low"), f"{name}_high": known.get("high")}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
