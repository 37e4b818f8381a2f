"""What a person sees of the document of `laurel evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Column, Page, Table, answer

NOTE = (
    "A standard error is over the samples of the task: it says how far these weights may be from their own score on "
    "more samples like them. Other seeds would give other weights, and two models are told apart by neither."
)
CUT = "These are the first samples of each task, not the task: no figure can be set beside a published one."


def page(document: Mapping[str, Any]) -> Page:
    """Every metric of every task, with its standard error."""
    rows = [_flat(row, metric) for row in document["rows"] for metric in row["metrics"]]
    few = document["limit"] is not None
    learned = f" with {document['arm']}" if document["arm"] else ""
    facts = [
        (
            "model",
            f"{document['model']}{learned}, {text.count(document['parameters'])} parameters, {document['dtype']}",
        ),
        ("tokenizer", document["tokenizer"]),
        ("harness", f"lm-evaluation-harness {document['versions']['lm_eval']}"),
        ("device", document["device"]),
    ]
    columns = (
        Column("task", code=True),
        Column("version"),
        Column("shots", text.count, "right"),
        Column("samples", text.count, "right"),
        Column("metric"),
        Column("filter"),
        Column("value", text.figure, "right"),
        Column("standard error", text.figure, "right"),
    )
    cells = tuple(
        tuple(row[key] for key in ("task", "version", "shots", "samples", "metric", "filter", "value", "stderr"))
        for row in rows
    )
    notes = [CUT, NOTE] if few else [NOTE]
    title = f"{document['model']} on {', '.join(row['task'] for row in document['rows'])}"
    return answer(title, document, rows=rows, tables=[Table("Tasks", columns, cells)], facts=facts, notes=notes)


def _flat(row: Mapping[str, Any], metric: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "metrics"} | dict(metric)
