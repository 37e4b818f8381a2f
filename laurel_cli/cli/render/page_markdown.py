"""A page as markdown that a code host renders; pictures are files beside it."""

from __future__ import annotations

import re
from urllib.parse import quote

from laurel_cli.cli.render.markdown import code, prose, table_markdown
from laurel_cli.cli.render.page import Bullets, Code, Heading, Page, Picture, Prose
from laurel_cli.cli.render.sheet import Table
from laurel_cli.text import visible


def page_markdown(page: Page) -> str:
    """The page; a picture without a path is left out."""
    parts = [f"# {prose(visible(page.title))}\n"]
    for block in page.blocks:
        match block:
            case Heading():
                parts.append(f"{'#' * block.level} {prose(visible(block.text))}\n")
            case Prose():
                said = prose(visible(block.text))
                parts.append(f"**{said}**\n" if block.strong else f"{said}\n")
            case Bullets():
                parts.append("".join(f"- {prose(visible(item))}\n" for item in block.items))
            case Code():
                parts.append("".join(f"- {code(visible(line), in_table=False)}\n" for line in block.lines))
            case Picture() if block.name in page.pictures:
                caption = prose(visible(block.caption))
                first = prose(visible(re.split("[.:;] ", block.caption)[0]))
                parts.append(f"![{first}]({quote(page.pictures[block.name])})\n\n*{caption}*\n")
            case Table():
                parts.append(table_markdown(block))
    return "\n".join(parts)
