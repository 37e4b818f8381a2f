"""Markdown (GitHub's): every row has its header's columns, and a name is shown as it is, whatever it holds."""

from __future__ import annotations

import re

from laurel_cli.cli.render.sheet import Column, Sheet, Table
from laurel_cli.text import visible

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$@:-])")
_TICKS = re.compile(r"`+")


def markdown_text(sheet: Sheet) -> str:
    """The sheet as headings, tables and bullets."""
    facts = Table("Model", (Column("fact"), Column("value", code=True)), sheet.facts)
    tables = ([facts] if sheet.facts else []) + list(sheet.tables)
    parts = [f"{_code(visible(sheet.command), in_table=False)}\n"] if sheet.command else []
    parts += [_table(table) for table in tables]
    for title, lines in (("Notes", sheet.notes), ("Warnings", sheet.warnings)):
        if lines:
            parts.append(f"### {title}\n\n" + "\n".join(f"- {_prose(visible(line))}" for line in lines) + "\n")
    return "\n".join(parts)


def _table(table: Table) -> str:
    head = [_prose(column.title) for column in table.columns]
    rule = ["---:" if column.align == "right" else "---" for column in table.columns]
    rows = [
        [_code(cell) if column.code else _plain(column, cell) for column, cell in zip(table.columns, row, strict=True)]
        for row in table.cells()
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return f"### {_prose(table.title)}\n\n" + "\n".join(lines) + "\n"


def _plain(column: Column, cell: str) -> str:
    """Numbers hold nothing that could be markup, and stay readable in the source."""
    return cell if column.align == "right" else _prose(cell)


def _prose(text: str) -> str:
    """Text with everything escaped that could begin markup or HTML."""
    return _MARKUP.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _code(text: str, in_table: bool = True) -> str:
    """A code span: its fence is longer than any run of backticks in it; in a table a pipe is escaped even here."""
    if not text.strip():
        return ""
    fence = "`" * (1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text.replace('|', chr(92) + '|') if in_table else text}{pad}{fence}"
