"""What a person sees of the document of `laurel env`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.render.page import Column, Page, Table, answer


def page(document: Mapping[str, Any]) -> Page:
    """Versions and devices."""
    versions, devices = document["versions"], document["devices"]
    installed = tuple((name, value or "not installed") for name, value in versions.items())
    usable = tuple((item["name"], "yes" if item["available"] else "no", item["detail"]) for item in devices)
    columns = (Column("device"), Column("available"), Column("what or why not", prose=True))
    tables = [Table("Versions", (Column("package"), Column("version")), installed), Table("Devices", columns, usable)]
    title = "What is installed, and which devices there are"
    return answer(title, document, rows=_rows(versions, devices), tables=tables)


def _rows(versions: Mapping[str, Any], devices: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [{"kind": "version", "name": name, "value": value} for name, value in versions.items()]
    return found + [
        {"kind": "device", "name": item["name"], "value": item["detail"], "available": item["available"]}
        for item in devices
    ]
