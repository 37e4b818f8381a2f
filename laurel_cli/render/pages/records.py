"""What a person sees of the document of `laurel records`: one row a record, then what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli import text
from laurel_cli.render.page import Column, Page, Table, answer

KEYS = {"kind": "kind", "status": "status", "model": "model", "what": "what", "device": "device", "recorded": "when"}


def page(document: Mapping[str, Any]) -> Page:
    """Counts, the records, the files that are none."""
    found, problems = document["records"], document["problems"]
    facts = [("folders", ", ".join(document["folders"])), ("records", text.count(len(found)))]
    facts += [("copies", text.count(document["copies"]))] if document["copies"] else []
    facts += [("left by writers that were killed", text.count(document["leftovers"]))] if document["leftovers"] else []
    facts += [("problems", text.count(len(problems)))]
    merged = document["merged"]
    facts += [] if merged is None else [("new in " + merged["folder"], text.count(merged["new"]))]
    columns = (*(Column(title) for title in KEYS.values()), Column("file", code=True))
    rows = tuple((*(item[key] for key in KEYS), item["file"]) for item in found)
    tables = [Table("Records", columns, rows)]
    if problems:
        columns = (Column("file", code=True), Column("what is wrong", prose=True))
        tables.append(Table("Problems", columns, tuple((item["file"], item["what"]) for item in problems)))
    return answer("What measurements have left on disk", document, rows=found, facts=facts, tables=tables)
