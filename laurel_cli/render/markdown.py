"""Markdown (GitHub's): every row has its header's columns, and a name is shown as it is, whatever it holds."""

from __future__ import annotations

import re
from urllib.parse import quote

from laurel_cli.render.page import (
    Block,
    Bullets,
    Code,
    Column,
    Facts,
    Heading,
    Look,
    Notes,
    Page,
    Picture,
    Prose,
    Table,
)
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


def text(page: Page, _look: Look) -> str:
    """The page as headings, tables and bullets; a picture without a path is left out."""
    parts = [f"# {prose(visible(page.title))}\n"] if page.is_titled else []
    parts += [f"{code(visible(page.command), in_table=False)}\n"] if page.command else []
    parts += [drawn for block in page.blocks if (drawn := _block(block, page))]
    return "\n".join(parts)


def _block(block: Block, page: Page) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {prose(visible(block.text))}\n"
        case Prose():
            said = prose(visible(block.text))
            return f"**{said}**\n" if block.strong else f"{said}\n"
        case Bullets():
            return _bullets(block.items)
        case Code():
            return "".join(f"- {code(visible(line), in_table=False)}\n" for line in block.lines)
        case Picture():
            return _picture(block, page)
        case Facts():
            return _table(Table("Model", (Column("fact"), Column("value", code=True)), block.items))
        case Table():
            return _table(block)
        case Notes():
            return f"### {prose(visible(block.title))}\n\n{_bullets(block.items)}"


def _bullets(items: tuple[str, ...]) -> str:
    return "".join(f"- {prose(visible(item))}\n" for item in items)


def _picture(picture: Picture, page: Page) -> str:
    if picture.name not in page.pictures:
        return ""
    first = prose(visible(re.split("[.:;] ", picture.caption)[0]))
    return f"![{first}]({quote(page.pictures[picture.name])})\n\n*{prose(visible(picture.caption))}*\n"


def _table(table: Table) -> str:
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
