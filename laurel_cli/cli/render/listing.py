"""What a person sees of the documents of `laurel models` and `laurel env`."""

from __future__ import annotations

from collections.abc import Mapping
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
