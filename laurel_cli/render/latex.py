"""A page as a LaTeX document: booktabs tables, numbers through siunitx; every name is text, whatever it holds."""

from __future__ import annotations

import re
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
\newcolumntype{P}[1]{>{\raggedright\arraybackslash}p{#1}}
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
_NUMBER = re.compile(r"[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w,]\d)")


def text(page: Page, _look: Look) -> str:
    """A document that pdflatex compiles; pictures are files, named relative to it without a suffix of their own."""
    blocks = [Code((page.command,))] if page.command else []
    body = "\n".join(filter(None, (_block(block, page) for block in (*blocks, *page.blocks))))
    return f"{PREAMBLE}{{\\LARGE\\bfseries {_said(page.title)}\\par}}\n\n{body}\n\\end{{document}}\n"


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
    return f"\\begin{{itemize}}\n{said}\\end{{itemize}}"


def _facts(facts: Facts) -> str:
    rows = "".join(f"{{{_said(label)}}} & {{{_said(said)}}} \\\\\n" for label, said in facts.items)
    return f"\\begin{{longtable}}[l]{{@{{}}lP{{0.7\\linewidth}}@{{}}}}\n{rows}\\end{{longtable}}"


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
    """A table over as many pages as it needs."""
    cells = table.cells()
    columns = "".join(_column(column, [row[j] for row in cells]) for j, column in enumerate(table.columns))
    head = " & ".join(f"\\textbf{{{_said(column.title)}}}" for column in table.columns)
    rows = []
    for i, row in enumerate(cells):
        said = [
            _cell(c, cell, (i, j) in table.strong) for j, (c, cell) in enumerate(zip(table.columns, row, strict=True))
        ]
        rows.append(" & ".join(said) + " \\\\\n")
    return (
        f"\\begin{{small}}\n\\setlength{{\\tabcolsep}}{{4pt}}\n\\textbf{{{_said(table.title)}}}\\nopagebreak\n"
        f"\\begin{{longtable}}[l]{{@{{}}{columns}@{{}}}}\n"
        f"\\toprule\n{head} \\\\\n\\midrule\n\\endhead\n{''.join(rows)}\\bottomrule\n\\end{{longtable}}\n\\end{{small}}"
    )


def _column(column: Column, cells: Sequence[str]) -> str:
    if column.prose:
        return "P{0.36\\linewidth}"
    if column.align == "left" and any(len(cell) > LONG for cell in cells):
        return "P{0.3\\linewidth}"
    return "r" if column.align == "right" else "l"


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
        plus = "$+$" if number.startswith("+") else ""  # siunitx leaves it out
        parts.append(_said(found[0]) if glued else f"{plus}\\num{{{number.lstrip('+')}}}")
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
    said = [SPECIAL.get(char) or (char if char.isascii() else _named(char)) for char in word]
    if len(word) <= LONG:
        return "".join(said)
    return "".join(
        piece if char.isalnum() else piece + "\\allowbreak{}" for char, piece in zip(word, said, strict=True)
    )


def _named(char: str) -> str:
    return char if "\u00a1" <= char <= "\u00ff" else f"\\texttt{{U+{ord(char):04X}}}"
