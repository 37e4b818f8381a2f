"""A page as a LaTeX document: booktabs tables, numbers through siunitx; every name is text, whatever it holds."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

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

PREAMBLE = r"""\documentclass[a4paper,10pt]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage{longtable}
\usepackage{array}
\usepackage{siunitx}
\sisetup{group-separator={,},group-digits=integer,group-minimum-digits=4,detect-weight=true}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\setlength{\tabcolsep}{4pt}
\setlength{\LTpre}{3pt}
\setlength{\LTpost}{9pt}
\newcolumntype{P}[1]{>{\raggedright\arraybackslash}p{#1}}
% a title and the first rows of what follows stay on one page
\newcommand{\together}{\par\addvspace{9pt}\ifdim\pagegoal<\maxdimen\ifdim\dimexpr\pagegoal-\pagetotal<7\baselineskip\newpage\fi\fi}
\newenvironment{sentences}{\begin{itemize}\setlength{\itemsep}{0pt}\setlength{\parskip}{2pt}}{\end{itemize}}
\begin{document}
\sloppy
"""
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": r"{-}",  # no ligature, and no line that begins as an option
}
HEADINGS = {2: "section", 3: "subsection"}
LONG = 28  # a word of more characters may be broken, a column with one wraps
RUN = 12  # letters of such a word that stay together
# In points: a line of text, a character of a cell and of a heading at most, between columns, the least for sentences.
LINE, CHARACTER, BOLD, GAP, LEAST = 480.0, 4.8, 5.6, 8.0, 110.0
_NUMBER = re.compile(r"[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w,]\d)")


def text(page: Page, _look: Look) -> str:
    """A document that pdflatex compiles; pictures are files, named relative to it without a suffix of their own."""
    blocks = [Code((page.command,))] if page.command else []
    body = "\n".join(filter(None, (_block(block, page) for block in (*blocks, *page.blocks))))
    return f"{PREAMBLE}{{\\LARGE\\bfseries {_said(page.title)}\\par}}\\medskip\n\n{body}\n\\end{{document}}\n"


def _block(block: Block, page: Page) -> str:
    match block:
        case Heading():
            return f"\\{HEADINGS.get(block.level, 'section')}*{{{_said(block.text)}}}"
        case Prose():
            return f"\\textbf{{{_said(block.text)}}}\n" if block.strong else f"{_said(block.text)}\n"
        case Bullets():
            return _bullets(block.items)
        case Code():
            return "".join(f"{{\\ttfamily\\small {_said(line)}}}\\par\n" for line in block.lines)
        case Picture():
            return _picture(block, page)
        case Facts():
            return _facts(block)
        case Table():
            return _table(block)
        case Notes():
            return f"\\subsection*{{{_said(block.title)}}}\n{_bullets(block.items)}"


def _bullets(items: Sequence[str]) -> str:
    said = "".join(f"\\item {{}}{_said(item)}\n" for item in items)
    return f"\\begin{{sentences}}\n{said}\\end{{sentences}}"


def _facts(facts: Facts) -> str:
    columns = (Column("fact"), Column("value", prose=True))
    return _grid(Table("", columns, facts.items), (0, 1), head=False)


def _picture(picture: Picture, page: Page) -> str:
    if picture.name not in page.pictures:
        return ""
    path = page.pictures[picture.name]
    return (
        "\\begin{center}\n"
        f"\\includegraphics[width=\\linewidth,height=0.85\\textheight,keepaspectratio]{{\\detokenize{{{path}}}}}\n\n"
        f"\\parbox{{0.92\\linewidth}}{{\\small {_said(picture.caption)}}}\n\\end{{center}}"
    )


def _table(table: Table) -> str:
    """A table over as many pages as it needs; where it is wider than a page, as several that begin with its names."""
    if not table.rows:
        return f"\\textbf{{{_said(table.title)}}}: none\n"
    first, *further = _parts(table)
    if further and len({row[0] for row in table.cells()}) < len(table.rows):
        table = _numbered(table)
        first, *further = _parts(table)
    drawn = [_titled(table.title, table, first)]
    drawn += [_titled(f"{table.title}, continued", table, part) for part in further]
    return "\n".join(drawn)


def _numbered(table: Table) -> Table:
    """The rows with their numbers before them, for a table whose first column does not tell them apart."""
    rows = tuple((number, *row) for number, row in enumerate(table.rows, start=1))
    strong = frozenset((i, j + 1) for i, j in table.strong)
    return Table(table.title, (Column("row", align="right"), *table.columns), rows, strong)


def _titled(title: str, table: Table, chosen: Sequence[int]) -> str:
    return f"\\together\\textbf{{{_said(title)}}}\n{_grid(table, chosen)}"


def _grid(table: Table, chosen: Sequence[int], head: bool = True) -> str:
    """Some of the columns of a table, each as wide as it needs."""
    cells, widths = table.cells(), _widths(table, chosen)
    columns = "".join(
        f"P{{{widths[j]:.0f}pt}}" if _wraps(table, j) else "r" if table.columns[j].align == "right" else "l"
        for j in chosen
    )
    titles = " & ".join(_heading(table, j) for j in chosen)
    rows = [
        " & ".join(_cell(table.columns[j], row[j], (i, j) in table.strong) for j in chosen) + " \\\\\n"
        for i, row in enumerate(cells)
    ]
    lines = f"\\toprule\n{titles} \\\\\n\\midrule\n\\endhead\n" if head else ""
    end = "\\bottomrule\n" if head else ""
    return (
        f"\\begin{{small}}\n\\begin{{longtable}}[l]{{@{{}}{columns}@{{}}}}\n"
        f"{lines}{''.join(rows)}{end}\\end{{longtable}}\n\\end{{small}}"
    )


def _parts(table: Table) -> list[list[int]]:
    """The columns of each of the tables that it takes, all but the first one with the first column again."""
    parts, room = [[0]], LINE - _least(table, 0)
    for j in range(1, len(table.columns)):
        if GAP + _least(table, j) > room and len(parts[-1]) > 1:
            parts.append([0])
            room = LINE - _least(table, 0)
        parts[-1].append(j)
        room -= GAP + _least(table, j)
    return parts


def _widths(table: Table, chosen: Sequence[int]) -> dict[int, float]:
    """Points for the columns that wrap: what they would like where there is room for it, else equal shares."""
    open_ones = [j for j in chosen if _wraps(table, j)]
    room = LINE - GAP * (len(chosen) - 1) - sum(_least(table, j) for j in chosen if j not in open_ones)
    widths: dict[int, float] = {}
    for j in sorted(open_ones, key=lambda j: _natural(table, j)):
        widths[j] = min(_natural(table, j), room / (len(open_ones) - len(widths)))
        room -= widths[j]
    return widths


def _least(table: Table, j: int) -> float:
    return min(_natural(table, j), LEAST) if _wraps(table, j) else _natural(table, j)


def _natural(table: Table, j: int) -> float:
    """Points that a column takes without wrapping; what no font has takes six characters."""
    cells = (row[j] for row in table.cells())
    longest = max(sum(1 if char.isascii() else 6 for char in cell) for cell in cells)
    return max(CHARACTER * longest, BOLD * max(map(len, _title_lines(table, j))))


def _wraps(table: Table, j: int) -> bool:
    column = table.columns[j]
    return column.prose or (column.align == "left" and any(len(row[j]) > LONG for row in table.cells()))


def _title_lines(table: Table, j: int) -> list[str]:
    """A heading on as many lines as keep it about as narrow as its column."""
    longest = max(len(row[j]) for row in table.cells())
    return textwrap.wrap(visible(table.columns[j].title), max(longest, 12)) or [""]


def _heading(table: Table, j: int) -> str:
    lines = [f"\\textbf{{{_said(line)}}}" for line in _title_lines(table, j)]
    side = "r" if table.columns[j].align == "right" else "l"
    stacked = " \\\\ ".join(lines)
    return stacked if len(lines) == 1 else f"\\shortstack[{side}]{{{stacked}}}"


def _cell(column: Column, cell: str, strong: bool) -> str:
    said = _numbers(cell) if column.align == "right" else _said(cell)
    said = f"\\texttt{{{said}}}" if column.code else said
    # A group: a row that begins with [ would be read as the space after the row before.
    return f"{{\\bfseries {said}}}" if strong else f"{{{said}}}"


def _numbers(cell: str) -> str:
    """Text with every number through siunitx; `+-` and `>=` as signs, `x` as times."""
    parts, end = [], 0
    for found in _NUMBER.finditer(cell):
        before = cell[end : found.start()]
        glued = bool(before) and (before[-1].isalnum() or before[-1] in "_@.")
        parts.append(_signs(before))
        number = found[0].replace(",", "")
        # The sign apart: siunitx leaves out a plus, and the minus of a number that is rounded to zero.
        sign = f"${number[0]}$" if number[0] in "+-" else ""
        parts.append(_said(found[0]) if glued else f"{sign}\\num{{{number.lstrip('+-')}}}")
        end = found.end()
    return "".join([*parts, _signs(cell[end:])])


def _signs(raw: str) -> str:
    pieces = re.split(r"(\+-|>=)", raw)
    signs = {"+-": r"$\pm$", ">=": r"$\ge$"}
    return "".join(signs.get(piece) or _said(piece) for piece in pieces)


def _said(raw: str) -> str:
    """Every character as itself: what means something to TeX is escaped, what its fonts lack is named."""
    return " ".join(map(_word, visible(raw).split(" ")))


def _word(word: str) -> str:
    """A word; a long one may be broken after a sign, and within a hash."""
    said, run = [], 0
    for char in word:
        said.append(SPECIAL.get(char) or (char if char.isascii() else _named(char)))
        run = run + 1 if char.isalnum() else 0
        if len(word) > LONG and run % RUN == 0:
            said.append("\\allowbreak{}")
    return "".join(said)


def _named(char: str) -> str:
    return char if "\u00a1" <= char <= "\u00ff" else f"\\texttt{{U+{ord(char):04X}}}"
