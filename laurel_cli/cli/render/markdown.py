"""Markdown (GitHub's): every row has its header's columns, and a name is shown as it is, whatever it holds."""

from __future__ import annotations

import re

from laurel_cli.cli.render.sheet import Column, Sheet, Table
from laurel_cli.text import visible

# What could begin markup, a link, an emoji or a mention, and only where it could: a report is read as plain text too.
_MARKUP = re.compile(
    r"""[\\`*\[\]|~$\#]
    | (?<![^\W_])_ | _(?![^\W_])  # no emphasis begins or ends within a word
    | :(?=//|[\w+-]+:)            # http://, :emoji:
    | (?<=www)\.                  # www.example.org
    | (?<!\w)@ | @(?=[\w-]+\.)   # a mention, an address
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LIST = re.compile(r"^(\d{0,9})([-+=.)])(?=\s|$|[-+=])")  # rules and underlined headings as well
_TICKS = re.compile(r"`+")


def markdown_text(sheet: Sheet) -> str:
    """The sheet as headings, tables and bullets."""
    facts = Table("Model", (Column("fact"), Column("value", code=True)), sheet.facts)
    tables = ([facts] if sheet.facts else []) + list(sheet.tables)
    parts = [f"{code(visible(sheet.command), in_table=False)}\n"] if sheet.command else []
    parts += [table_markdown(table) for table in tables]
    for title, lines in (("Notes", sheet.notes), ("Warnings", sheet.warnings)):
        if lines:
            parts.append(f"### {title}\n\n" + "\n".join(f"- {prose(visible(line))}" for line in lines) + "\n")
    return "\n".join(parts)


def table_markdown(table: Table) -> str:
    """One table under its title."""
    head = [prose(column.title) for column in table.columns]
    rule = ["---:" if column.align == "right" else "---" for column in table.columns]
    rows = [
        [
            _cell(column, cell, (i, j) in table.strong)
            for j, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        ]
        for i, row in enumerate(table.cells())
    ]
    lines = [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]
    return f"### {prose(visible(table.title))}\n\n" + "\n".join(lines) + "\n"


def _cell(column: Column, cell: str, strong: bool) -> str:
    said = code(cell) if column.code else _plain(column, cell)
    return f"**{said}**" if strong and said.strip() else said


def _plain(column: Column, cell: str) -> str:
    """Numbers hold nothing that could be markup, and stay readable in the source."""
    return cell if column.align == "right" else prose(cell)


def prose(text: str) -> str:
    """Text with everything escaped that could begin markup or HTML."""
    inert = _MARKUP.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return _LIST.sub(r"\1\\\2", inert)


def code(text: str, in_table: bool = True) -> str:
    """A code span: its fence is longer than any run of backticks in it; in a table a pipe is escaped even here."""
    if not text.strip():
        return ""
    fence = "`" * (1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text.replace('|', chr(92) + '|') if in_table else text}{pad}{fence}"
