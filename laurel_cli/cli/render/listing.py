"""What a person sees of the documents of `laurel arms`, `laurel models` and `laurel env`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from laurel_cli.cli.render.sheet import Column, Sheet, Table


def models_sheet(document: Mapping[str, Any]) -> Sheet:
    """Models and their sources."""
    columns = (Column("model", code=True), Column("source"))
    rows = tuple((item["reference"], item["source"]) for item in document["models"])
    return Sheet((), (Table(f"{len(rows):,} model{'s' * (len(rows) != 1)}", columns, rows),))


def environment_sheet(document: Mapping[str, Any]) -> Sheet:
    """Versions and devices."""
    versions = tuple((name, value or "not installed") for name, value in document["versions"].items())
    devices = tuple(
        (item["name"], "yes" if item["available"] else "no", item["detail"]) for item in document["devices"]
    )
    columns = (Column("device"), Column("available"), Column("what or why not", prose=True))
    return Sheet(
        (),
        (Table("Versions", (Column("package"), Column("version")), versions), Table("Devices", columns, devices)),
    )


def arms_sheet(document: Mapping[str, Any]) -> Sheet:
    """Arms, with what they compute and what they cost."""
    columns = (
        Column("arm", code=True),
        Column("what it computes", prose=True),
        Column("parameters", prose=True),
        Column("starts as the baseline", prose=True),
        Column("source", prose=True),
    )
    keys = ("name", "equation", "parameters", "starts", "source")
    rows = tuple(tuple(item[key] for key in keys) for item in document["arms"])
    needs = tuple(f"{item['name']} needs {item['needs']}." for item in document["arms"] if item["needs"])
    legend = (
        "x is the skip, f the branch, D the width; parameters are those of one residual connection.",
        "NAME:lr=FACTOR, :width=FACTOR, :steps=FACTOR and :init=zero change an arm in train-proxy.",
    )
    return Sheet((), (Table("Arms", columns, rows),), (*legend, *needs))


SHEETS: dict[str, Callable[[Mapping[str, Any]], Sheet]] = {
    "laurel.arms": arms_sheet,
    "laurel.models": models_sheet,
    "laurel.env": environment_sheet,
}
