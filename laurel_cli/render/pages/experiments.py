"""What a person sees of the document of `laurel reproduce --list`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.render.page import Column, Page, Table, answer


def page(document: Mapping[str, Any]) -> Page:
    """A line an experiment."""
    columns = (Column("experiment", code=True), Column("scales"), Column("what it is", prose=True))
    rows = tuple((item["name"], ", ".join(item["scales"]), item["title"]) for item in document["experiments"])
    flat = [{**item, "scales": ", ".join(item["scales"])} for item in document["experiments"]]
    return answer(
        "Experiments that can be made again", document, rows=flat, tables=[Table("Experiments", columns, rows)]
    )
