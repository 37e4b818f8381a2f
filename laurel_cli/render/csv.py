"""CSV: a page's main table. One header, one row an item, exact values; what a spreadsheet would run is made text."""

from __future__ import annotations

import csv
import io
import json
from math import isfinite
from typing import Any

from laurel_cli.render.page import Look, Page
from laurel_cli.text import visible

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def text(page: Page, _look: Look) -> str:
    """The page's rows under the columns of all of them, in the order in which they first come."""
    columns = list(dict.fromkeys(key for row in page.rows for key in row))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(row.get(column)) for column in columns] for row in page.rows)
    return file.getvalue()


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
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
    return ("'" if said.startswith(FORMULA_STARTS) else "") + visible(said)
