"""A page in a terminal or a pipe. Nothing is ever truncated: a table that is too wide is stacked."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

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
from laurel_cli.text import ascii_only, visible

GAP = 2
PROSE = 24  # columns that a column of sentences needs at least
LINE = 72  # columns that it gets at most where there is room for any number, as in a pipe
ANY_WIDTH = 1_000_000

Cells = list[list[str]]


def text(page: Page, look: Look) -> str:
    """The page as text; pictures are left out, what they show stands in the tables."""
    parts = [_title(page.title, "=")] if page.is_titled else []
    parts += [drawn for block in page.blocks if (drawn := _block(block, look))]
    said = "\n".join(parts)
    return ascii_only(said) if look.ascii_only else said


def _block(block: Block, look: Look) -> str:
    match block:
        case Heading():
            return _title(block.text, "=" if block.level == 1 else "-")
        case Prose():
            return _bold(_wrapped(block.text, look), look if block.strong else Look()) + "\n"
        case Bullets():
            return "".join(_wrapped(item, look, "- ") + "\n" for item in block.items)
        case Code():
            return "".join(f"    {visible(line)}\n" for line in block.lines)
        case Picture():
            return ""
        case Facts():
            return _facts(block.items, look)
        case Table():
            return _table(block, look)
        case Notes():
            return "" if block.on_stderr else "".join(_wrapped(item, look, "note: ") + "\n" for item in block.items)


def _title(said: str, rule: str) -> str:
    shown = visible(said)
    return f"{shown}\n{rule * min(len(shown), 72)}\n"


def _bold(said: str, look: Look) -> str:
    return f"\x1b[1m{said}\x1b[0m" if look.color else said


def _facts(facts: Sequence[tuple[str, str]], look: Look) -> str:
    """`label  value` lines, the values under each other; stacked where the longest does not fit."""
    indent = max(len(label) for label, _ in facts) + GAP
    lines = []
    for label, raw in facts:
        value = visible(raw)
        fits = look.width is None or indent + cell_len(value) <= look.width
        lines.append(f"{label:<{indent}}{value}" if fits else f"{label}\n  {value}")
    return "\n".join(lines) + "\n"


def _table(table: Table, look: Look) -> str:
    """One table with its title."""
    cells = _ascii(table.cells()) if look.ascii_only else table.cells()
    title = visible(table.title)
    if not cells:
        return f"{title}: none\n"
    if _width(table.columns, cells) > (look.width or ANY_WIDTH):
        return f"{title}\n" + _stacked(table.columns, cells, look)
    if not look.color and not any(column.prose for column in table.columns):
        return f"{title}\n" + _plain_grid(table.columns, cells, look)
    return f"{title}\n" + _grid(table.columns, cells, look, table.strong)


def _ascii(cells: Cells) -> Cells:
    return [[ascii_only(cell) for cell in row] for row in cells]


def _width(columns: Sequence[Column], cells: Cells) -> int:
    """Columns of the screen that the table needs, with sentences as narrow as they may become."""
    needs = []
    for i, column in enumerate(columns):
        longest = max(cell_len(row[i]) for row in cells)
        needs.append(max(len(column.title), min(longest, PROSE) if column.prose else longest))
    return sum(needs) + GAP * (len(needs) - 1)


def _grid(columns: Sequence[Column], cells: Cells, look: Look, strong: frozenset[tuple[int, int]] = frozenset()) -> str:
    frame = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
    lines = frame if look.ascii_only else box.SIMPLE_HEAD
    drawn = RichTable(
        box=lines, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1), header_style="bold", border_style="dim"
    )
    for column in columns:
        drawn.add_column(
            Text(column.title),
            justify="right" if column.align == "right" else "left",
            no_wrap=not column.prose,
            max_width=LINE if column.prose and look.width is None else None,
            overflow="fold",
            style="cyan" if column is columns[0] else "",
        )
    for i, row in enumerate(cells):
        drawn.add_row(*(Text(cell, style="bold" if (i, j) in strong else "") for j, cell in enumerate(row)))
    file = io.StringIO()
    console = Console(
        file=file,
        width=look.width or ANY_WIDTH,
        color_system="standard" if look.color else None,
        force_terminal=look.color,
        no_color=not look.color,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(drawn)
    return "".join(line.rstrip() + "\n" for line in file.getvalue().splitlines())


def _plain_grid(columns: Sequence[Column], cells: Cells, look: Look) -> str:
    """What `_grid` draws where nothing wraps and nothing is coloured, in a twentieth of the time."""
    rows = [[column.title for column in columns], *cells]
    widths = [max(cell_len(row[j]) for row in rows) for j in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = []
        for column, cell, width in zip(columns, row, widths, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if column.align == "right" else cell + space)
        return (" " * GAP).join(padded).rstrip() + "\n"

    rule = ("-" if look.ascii_only else "─") * (sum(widths) + GAP * (len(widths) - 1))
    return line(rows[0]) + rule + "\n" + "".join(map(line, cells))


def _stacked(columns: Sequence[Column], cells: Cells, look: Look) -> str:
    """Every row as a list: the first value, then `title: value`, on two lines where one is too short."""
    width = look.width or ANY_WIDTH
    lines = []
    for row in cells:
        lines.append(row[0])
        for column, cell in zip(columns[1:], row[1:], strict=True):
            line = f"  {column.title}: {cell}"
            lines += [line] if cell_len(line) <= width else [f"  {column.title}:", f"    {cell}"]
    return "\n".join(lines) + "\n"


def _wrapped(said: str, look: Look, lead: str = "") -> str:
    """A sentence under its lead, broken between words alone."""
    line = lead + visible(said)
    if look.width is None or look.width < 30:
        return line
    indent = " " * len(lead)
    return textwrap.fill(line, look.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
