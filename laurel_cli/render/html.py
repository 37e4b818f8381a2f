"""A page as one HTML file: no network, pictures inline, tables that sort, readable on a phone and in the dark."""

from __future__ import annotations

import base64
import hashlib
from html import escape

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

STYLE = """
:root { color-scheme: light dark; --paper: #fefefd; --ink: #1a1a1b; --rule: #d8d8d4; --soft: #f3f3f0; --link: #0b5cad;
  --shade: #0002; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #17181a; --ink: #e8e8e4; --rule: #3b3d40; --soft: #222427; --link: #7ab8f5; --shade: #fff2; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .6rem; text-wrap: balance; }
h1 { margin-top: .5rem; } h2 { border-bottom: 1px solid var(--rule); padding-bottom: .25rem; }
p, ul { max-width: 50rem; } ul { padding-left: 1.5rem; }
.answer { font-size: 1.15rem; font-weight: 600; }
.scroll { margin: .4rem 0 1.2rem; }
.scroll, figure > div { overflow-x: auto; /* a shade at an edge beyond which there is more */
  background: linear-gradient(to right, var(--paper) 1rem, transparent) left / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 1rem, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
caption span { display: inline-block; max-width: calc(100vw - 1.4rem); position: sticky; left: 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
thead th { vertical-align: bottom; } tbody th { font-weight: 600; }
td.right, th.right { text-align: right; } td.whole { white-space: nowrap; } td.prose { min-width: 16rem; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }
.named th:first-child, .named td:first-child { position: sticky; left: 0; background: var(--paper); }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--link); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
tbody tr:hover > * { background: var(--soft); }
figure { margin: 1rem 0 1.5rem; }
figure svg { display: block; width: 100%; height: auto; color: var(--ink); }
figcaption { font-size: .85rem; opacity: .8; max-width: 46rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .95em; }
pre { background: var(--soft); padding: .6rem; border-radius: 4px; white-space: pre-wrap; overflow-wrap: anywhere; }
pre span { white-space: nowrap; }
pre code { font-size: .85rem; }
@media (max-width: 40rem) { body { padding: .7rem; } th, td { padding: .25rem .45rem; } h1 { font-size: 1.6rem; }
  td.prose { min-width: 11rem; } td.whole:not(.right, .long) { white-space: normal; min-width: 6.5rem; }
  .named td.prose { min-width: 18rem; } .named td.whole:first-child { white-space: nowrap; min-width: 0; }
  .named td.long:first-child { white-space: normal; min-width: 9rem; } .facts td { overflow-wrap: anywhere; }
  .answer { font-size: 1.05rem; } }
@media print { body { max-width: none; } .scroll, figure > div { background: none; } }
"""
LONG = 28  # characters of a name or an option that stays whole
SCRIPT = """
document.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th"), table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "ascending";
  const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
  const rows = [...table.tBodies[0].rows].map((row, place) =>
    ({ row, place, value: value(row), number: Number(value(row)) }));
  const numeric = rows.every((item) => item.value === "" || !Number.isNaN(item.number));
  rows.sort((a, b) => {
    if ((a.value === "") !== (b.value === "")) return a.value === "" ? 1 : -1;
    const order = numeric ? a.number - b.number : a.value.localeCompare(b.value, "en");
    return (up ? order : -order) || a.place - b.place;
  });
  table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  table.tBodies[0].append(...rows.map((item) => item.row));
}));
"""


def text(page: Page, _look: Look) -> str:
    """The page as a document of its own. The browser is told to load nothing and to run nothing but what sorts."""
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_digest(SCRIPT)}'; base-uri 'none'"
    blocks = (Code((page.command,)), *page.blocks) if page.command else page.blocks
    body = "\n".join(filter(None, (_block(block, page) for block in blocks)))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_said(page.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_said(page.title)}</h1>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _block(block: Block, page: Page) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{_said(block.text)}</h{block.level}>"
        case Prose():
            return f'<p class="answer">{_said(block.text)}</p>' if block.strong else f"<p>{_said(block.text)}</p>"
        case Bullets():
            return _bullets(block.items)
        case Code():
            return "<pre><code>" + "\n".join(map(_command, block.lines)) + "</code></pre>"
        case Picture():
            return _figure(block, page)
        case Facts():
            return _facts(block)
        case Table():
            return _table(block)
        case Notes():
            return f"<h3>{_said(block.title)}</h3>\n{_bullets(block.items)}"


def _command(line: str) -> str:
    """A command in which no line ends between the dashes of an option."""
    words = (_said(word) for word in line.split(" "))
    return " ".join(f"<span>{word}</span>" if word.startswith("-") and len(word) <= LONG else word for word in words)


def _bullets(items: tuple[str, ...]) -> str:
    return "<ul>\n" + "".join(f"<li>{_said(item)}</li>\n" for item in items) + "</ul>"


def _facts(facts: Facts) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_said(label)}</th><td>{_said(said)}</td></tr>\n' for label, said in facts.items
    )
    return f'<div class="scroll"><table class="facts"><tbody>\n{rows}</tbody></table></div>'


def _figure(picture: Picture, page: Page) -> str:
    drawn = page.pictures.get(picture.name)
    if drawn is None:
        return ""
    said = _said(picture.caption)
    return f'<figure><div role="img" aria-label="{said}">\n{drawn}\n</div>\n<figcaption>{said}</figcaption></figure>'


def _table(table: Table) -> str:
    """A table of which the first column stays in sight where it is a name."""
    if not table.rows:
        return f"<p><strong>{_said(table.title)}</strong>: none</p>"
    kind = ' class="named"' if table.columns[0].code else ""
    head = "".join(_head(column) for column in table.columns)
    rows = []
    for i, (raw, cells) in enumerate(zip(table.rows, table.cells(), strict=True)):
        tds = "".join(
            _cell(column, value, cell, (i, j) in table.strong)
            for j, (column, value, cell) in enumerate(zip(table.columns, raw, cells, strict=True))
        )
        rows.append(f"<tr>{tds}</tr>\n")
    return (
        f'<div class="scroll"><table{kind}><caption><span>{_said(table.title)}</span></caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def _head(column: Column) -> str:
    side = ' class="right"' if column.align == "right" else ""
    return f'<th scope="col"{side}><button type="button">{_said(column.title)}</button></th>'


def _cell(column: Column, value: object, cell: str, strong: bool) -> str:
    """`data-value` is what the table is sorted by: the number that a cell begins with, nothing for a dash."""
    kind = "prose" if column.prose else "right whole" if column.align == "right" else "whole"
    kind += " long" if kind == "whole" and len(cell) > LONG else ""
    said = _said(cell)
    said = f"<code>{said}</code>" if column.code else said
    said = f"<strong>{said}</strong>" if strong else said
    key = ""
    if column.align == "right":
        key = f' data-value="{_number(value, cell)}"'
    return f'<td class="{kind}"{key}>{said}</td>'


def _number(value: object, cell: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    first = cell.replace(",", "").replace(">=", "").replace("<", "").strip().split(" ")[0].rstrip("x%+")
    try:
        return repr(float(first))
    except ValueError:
        return ""


def _said(raw: str) -> str:
    return escape(visible(raw), quote=True)


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
