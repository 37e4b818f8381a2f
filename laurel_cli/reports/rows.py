"""The document as one flat table, a row an arm of a comparison: for CSV, for gates, for spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.verdict.findings import JUDGED

Item = Mapping[str, Any]
OF_STUDIES = ("quality", "gain", "p", "p_holm", "excluded", "share_of_naive", "steps_saved")
"""Columns, and beginnings of columns, that hold a figure of every arm that was trained and may be judged."""
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


def is_of_studies(column: str) -> bool:
    """Whether a column is about trained quality."""
    return any(column == name or column.startswith(f"{name}_") for name in OF_STUDIES)


def _row(body: Item, arm: Item) -> dict[str, Any]:
    study, spec = body["study"] or {}, arm["spec"] or {}
    row: dict[str, Any] = {
        "model": body["model"]["reference"],
        "study": study.get("name"),
        "task": (study.get("task") or {}).get("name"),
        "trained_on": study.get("device"),
        "arm": arm["name"],
        "kind": arm["kind"],
        "role": arm["role"],
        "formula": arm["family"],
        "rank": spec.get("rank") if "lr" in arm["family"] or spec.get("history") in ("shared", "per-lag") else None,
        **{f"trials_{state}": number for state, number in arm["trials"].items()},
        "metric": study.get("shown"),
    }
    row |= _ends("quality", arm["quality"], "mean")
    row |= {"verdict": arm["verdict"], "words": arm["words"], "verdict_by": study.get("metric")}
    row |= {"trend": arm["trend"], "worth": arm["worth"]}
    # A gain of which nothing may be claimed is no figure to gate on: trials are missing from it, or the study is blind.
    gain = arm["gain"] if arm["role"] != "arm" or arm["verdict"] in JUDGED else None
    row |= _ends("gain", gain, "gain")
    row |= {key: (gain or {}).get(key) for key in ("p", "p_holm")}
    row |= {f"excluded_{end}": (arm["excluded"] or {}).get(end) if gain else None for end in ("low", "high")}
    row |= _ends("share_of_naive", arm["share_of_naive"], "value") | _ends("steps_saved", arm["steps_saved"], "mean")
    for setting in body["settings"]:
        row |= _cost(setting, arm["costs"].get(setting["name"]) or {})
    for panel in body["panels"]:
        name = panel["name"]
        point: Item = next((p for p in panel["arms"] if p["name"] == arm["name"]), {})
        row |= {f"frontier_{name}": point.get("status")}
        row |= _ends(f"times_fewer_{name}", point.get("times_fewer"), "times")
    return row


def _cost(setting: Item, paid: Item) -> dict[str, Any]:
    """`added_latency_percent` with `_low` and `_high`, under what it was measured, and what the percentage is of."""
    kind, _, number = str(setting["name"]).partition("_")
    suffix = f"_{number}" if number else ""
    found = {f"{TOTALS[kind]}{suffix}": paid.get("total"), f"added_{kind}_percent{suffix}": paid.get("percent")}
    if kind in ("latency", "step"):
        found |= {f"added_{kind}_percent_{end}{suffix}": paid.get(end) for end in ("low", "high", "level")}
    else:
        found |= {f"added_{kind}{suffix}": paid.get("added")}
    if kind == "flops":
        found |= {f"added_elementwise{suffix}": paid.get("elementwise_added")}
        found |= {f"flops_lower_bound{suffix}": paid.get("lower_bound")}
    return found | ({f"{kind}_setting{suffix}": setting["setting"]} if setting["setting"] else {})


def _ends(name: str, found: Item | None, middle: str) -> dict[str, Any]:
    known = found or {}
    return {name: known.get(middle)} | {f"{name}_{key}": known.get(key) for key in ("low", "high", "level")}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
