"""From a command's document to text. Every format is made from one page of the one document, so that all say the same.

`pages/` turns a command's document into its page (`page.py`), a file a command. Every other file is a format, which
draws any page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from laurel_cli.render.page import Look, Page

__all__ = ["FORMATS", "Format", "Look", "page_of", "render"]


@dataclass(frozen=True)
class Format:
    """A format: a file of this folder whose `text(page, look)` draws any page.

    Attributes:
        module: the file's name.
        pictures: the suffix of the files that it names for a report's figures ("svg", "pdf"), "" for none.
        is_inline: whether it holds the figures themselves, as SVG.
    """

    module: str
    pictures: str = ""
    is_inline: bool = False

    def text(self, page: Page, look: Look) -> str:
        """The page in this format, with a newline at its end. Imports the format only now."""
        drawn: str = import_module(f"laurel_cli.render.{self.module}").text(page, look)
        return drawn


FORMATS: dict[str, Format] = {
    "table": Format("table"),
    "markdown": Format("markdown", pictures="svg"),
    "html": Format("html", is_inline=True),
    "latex": Format("latex", pictures="pdf"),
    "csv": Format("csv"),
    "json": Format("json"),
}


def render(
    document: Mapping[str, Any],
    format: str,  # noqa: A002
    *,
    look: Look | None = None,
    pictures: Mapping[str, str] | None = None,
    **options: Any,
) -> str:
    """The text of `document`, with a newline at its end.

    Args:
        document: what a command answers; its `schema` names the command.
        format: one of `FORMATS`.
        look: what the place that shows it can do; used by "table" alone.
        pictures: of a report, by name: paths of files, or SVG where the format holds them.
        options: of the document's page, as `connections` of `pages/analyze.py`.
    """
    page = page_of(document, **options)
    return FORMATS[format].text(replace(page, pictures=pictures or {}), look or Look())


def page_of(document: Mapping[str, Any], **options: Any) -> Page:
    """The page of a document: `laurel.train-proxy/2` is made by `pages/train_proxy.py`."""
    command = str(document["schema"]).partition("/")[0].removeprefix("laurel.").replace("-", "_")
    page: Page = import_module(f"laurel_cli.render.pages.{command}").page(document, **options)
    return page
