"""A page in a terminal or a pipe; pictures are left out, what they show stands in the tables."""

from __future__ import annotations

from laurel_cli.cli.render.page import Bullets, Code, Heading, Page, Prose
from laurel_cli.cli.render.sheet import Look, Table
from laurel_cli.cli.render.table import drawn, wrapped
from laurel_cli.text import ascii_only, visible


def page_table(page: Page, look: Look) -> str:
    """The page as text."""
    parts = [_title(page.title, "=")]
    for block in page.blocks:
        match block:
            case Heading():
                parts.append(_title(block.text, "=" if block.level == 1 else "-"))
            case Prose():
                parts.append(_bold(wrapped(visible(block.text), look), look if block.strong else Look()) + "\n")
            case Bullets():
                parts.append("".join(wrapped(visible(item), look, "- ") + "\n" for item in block.items))
            case Code():
                parts.append("".join(f"    {visible(line)}\n" for line in block.lines))
            case Table():
                parts.append(drawn(block, look))
    text = "\n".join(parts)
    return ascii_only(text) if look.ascii_only else text


def _title(text: str, rule: str) -> str:
    said = visible(text)
    return f"{said}\n{rule * min(len(said), 72)}\n"


def _bold(text: str, look: Look) -> str:
    return f"\x1b[1m{text}\x1b[0m" if look.color else text
