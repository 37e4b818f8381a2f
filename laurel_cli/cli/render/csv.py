"""CSV: one header, one row an item, exact values; what a spreadsheet would run as a formula is made text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from laurel_cli.text import visible

STUDY_PARTS = {
    "difference": ("mean", "low", "high", "p", "n", "confidence"),
    "to_naive": ("mean", "low", "high", "p", "n", "confidence", "smallest_visible", "verdict"),
    "steps_saved": ("mean", "low", "high"),
    "parameters_saved": ("mean", "low", "high", "at_least"),
    "parameters": ("total", "added"),
}
RATIO = ("median", "low", "high", "confidence", "p", "p_holm", "verdict")
PROFILE_PARTS = {"ratio": RATIO, "to_naive": RATIO}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_text(document: Mapping[str, Any], connections: bool = False) -> str:
    """The document's one table: arms, connections with what was refused, models or devices."""
    rows = list(_rows(document, connections))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return file.getvalue()


def _rows(document: Mapping[str, Any], connections: bool) -> Iterable[dict[str, Any]]:
    kind = str(document["schema"]).partition("/")[0]
    if kind == "laurel.analyze":
        model = {"model": document["model"]["reference"]}
        if not connections:
            return [model | arm for arm in document["arms"]]
        found = [model | {"found": True} | item | {"reason": None} for item in document["connections"]]
        return found + [model | {"found": False} | item for item in document["refused"]]
    if kind == "laurel.profile":
        said = {"model": document["model"]["reference"], "device": document["device"]["name"], "mode": document["mode"]}
        return [said | _whole(arm, PROFILE_PARTS) for arm in document["arms"]]
    if kind == "laurel.train-proxy":
        said = {"model": document["model"].get("reference"), "task": document["task"].get("name")}
        said |= {"metric": document["metric"], "learned": document["learned"], "status": document["status"]}
        return [said | _whole(arm, STUDY_PARTS) for arm in document["arms"]]
    if kind == "laurel.report":
        from laurel_cli.reports.rows import rows

        return rows(document)
    if kind == "laurel.recommend":
        return [
            {key: item[key] for key in ("arm", "formula", "rank", "fits", "verdict")} for item in document["candidates"]
        ]
    if kind == "laurel.records":
        return list(document["records"])
    if kind in ("laurel.models", "laurel.arms"):
        return list(document[kind.partition(".")[2]])
    versions = [{"kind": "version", "name": name, "value": value} for name, value in document["versions"].items()]
    devices = [
        {"kind": "device", "name": item["name"], "value": item["detail"], "available": item["available"]}
        for item in document["devices"]
    ]
    return versions + devices


def _whole(arm: Mapping[str, Any], nested: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """An arm with the same columns whatever is known of it; its trials are a table of their own, which JSON has."""
    parts = {key: {name: (arm[key] or {}).get(name) for name in names} for key, names in nested.items()}
    return _flat({key: parts.get(key, value) for key, value in arm.items() if key != "trials"})


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values side by side: ratio.median, ratio.low."""
    flat: dict[str, Any] = {}
    for key, value in item.items():
        flat |= {f"{key}.{inner}": entry for inner, entry in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _cell(value: Any) -> str:
    """Nothing for null; numbers exact; text with control characters escaped and formulas quoted."""
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple) and value and all(isinstance(item, int) for item in value):
        return "x".join(map(str, value))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
    return ("'" if text.startswith(FORMULA_STARTS) else "") + visible(text)
