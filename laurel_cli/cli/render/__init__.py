"""From a command's document to text. Every format is made from the one document, so that all say the same.

`analysis.py`, `profile.py`, `study.py` and `listing.py` say what a reader sees of each document as a sheet
(`sheet.py`); `table.py` and `markdown.py` draw any sheet; `csv.py` and `json.py` give the exact values. A report is a
page (`page.py`, made by `report.py`), drawn by the four files called `page_*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.cli.render.sheet import Look, Sheet

__all__ = ["Look", "render"]


def render(
    document: dict[str, Any],
    format: str,  # noqa: A002
    *,
    connections: bool = False,
    look: Look | None = None,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The text of `document`, with a newline at its end.

    Args:
        document: what a command answers; its `schema` names the kind.
        format: "table", "json", "markdown" or "csv"; a report also "html" and "latex".
        connections: list every residual connection and every refused addition too; in CSV, which holds one table,
            in place of the arms. JSON has them always.
        look: what the place that shows it can do; used by "table" alone.
        pictures: of a report, by name: SVG text for "html", paths of files for "markdown" and "latex".
    """
    if format == "json":
        from laurel_cli.cli.render.json import json_text

        return json_text(document)
    if format == "csv":
        from laurel_cli.cli.render.csv import csv_text

        return csv_text(document, connections)
    if str(document["schema"]).startswith("laurel.report/"):
        from laurel_cli.cli.render.report import report_text

        return report_text(document, format, look or Look(), pictures or {})
    sheet = _sheet(document, connections)
    if format == "markdown":
        from laurel_cli.cli.render.markdown import markdown_text

        return markdown_text(sheet)
    from laurel_cli.cli.render.table import table_text

    return table_text(sheet, look or Look())


def _sheet(document: dict[str, Any], connections: bool) -> Sheet:
    kind = str(document["schema"]).partition("/")[0]
    if kind == "laurel.analyze":
        from laurel_cli.cli.render.analysis import analysis_sheet

        return analysis_sheet(document, connections)
    if kind == "laurel.profile":
        from laurel_cli.cli.render.profile import profile_sheet

        return profile_sheet(document)
    if kind == "laurel.train-proxy":
        from laurel_cli.cli.render.study import study_sheet

        return study_sheet(document)
    if kind == "laurel.recommend":
        from laurel_cli.cli.render.recommend import recommend_sheet

        return recommend_sheet(document)
    if kind == "laurel.records":
        from laurel_cli.cli.render.records import records_sheet

        return records_sheet(document)
    from laurel_cli.cli.render.listing import SHEETS

    return SHEETS[kind](document)
