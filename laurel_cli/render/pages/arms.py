"""What a person sees of the document of `laurel arms`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.render.page import Column, Page, Table, answer


def page(document: Mapping[str, Any]) -> Page:
    """Arms, with what they compute and what they cost."""
    columns = (
        Column("arm", code=True),
        Column("what it computes", prose=True),
        Column("parameters", prose=True),
        Column("starts as the baseline", prose=True),
        Column("source", prose=True),
    )
    keys = ("name", "equation", "parameters", "starts", "source")
    found = document["arms"]
    rows = tuple(tuple(item[key] for key in keys) for item in found)
    needs = tuple(f"{item['name']} needs {item['needs']}." for item in found if item["needs"])
    legend = (
        "x is the skip, f the branch, D the width; parameters are those of one residual connection.",
        "NAME:lr=FACTOR, :width=FACTOR, :steps=FACTOR, :init=zero, :train=added, :train=lora@4 and :grow=stack change "
        "an arm in train-proxy.",
    )
    title = "What can be compared"
    return answer(title, document, rows=found, tables=[Table("Arms", columns, rows)], notes=(*legend, *needs))
