"""What a person sees of the document of `laurel models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.render.page import Column, Page, Table, answer


def page(document: Mapping[str, Any]) -> Page:
    """Models and their sources."""
    found = document["models"]
    columns = (Column("model", code=True), Column("source"))
    rows = tuple((item["reference"], item["source"]) for item in found)
    table = Table(f"{len(rows):,} model{'s' * (len(rows) != 1)}", columns, rows)
    return answer("Models that can be named", document, rows=found, tables=[table])
