"""Pictures of a report's document: PNG, SVG and PDF, the same bytes for the same document.

`style.py` says how all of them look, `place.py` finds places for labels, `scale.py` draws the cost axis; the other
files hold one kind of figure each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.figures.captions import DATA

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def names(document: Mapping[str, Any]) -> list[str]:
    """Of all figures of a document: `1-frontier`, `1-curves`, `2-latency`; of a ladder `ladder`."""
    if "comparisons" not in document:  # of a ladder
        return ["ladder"] if document["curve"] else []
    compared = enumerate(document["comparisons"], start=1)
    return [f"{number}-{kind}" for number, body in compared for kind in DATA if body[DATA[kind]]]


def draw(document: Mapping[str, Any], name: str) -> Figure:
    """The figure called `name`, one of `names`; to be saved by `style.saved`."""
    from laurel_cli.reports.figures import style

    number, dash, kind = name.rpartition("-")
    module = import_module(f"laurel_cli.reports.figures.{kind}")
    with style.settings():
        figure: Figure = getattr(module, kind)(document["comparisons"][int(number) - 1] if dash else document)
    return figure


def pictures(document: Mapping[str, Any], formats: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of every figure in every one of `formats`."""
    from laurel_cli.reports.figures import style

    for name in names(document):
        figure = draw(document, name)
        for format in formats:  # noqa: A001 - as everywhere
            yield f"{name}.{format}", style.saved(figure, name, format)


def inline(document: Mapping[str, Any]) -> dict[str, str]:
    """Every figure as SVG for a page's body: no prolog, ink and paper in the colours of the page."""
    from laurel_cli.reports.figures import style

    found = {}
    for name in names(document):
        svg = style.saved(draw(document, name), name, "svg").decode("utf-8")
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        svg = svg.replace(style.PAPER, "none", 1)  # the ground of the figure, which is drawn first
        svg = svg.replace(style.INK, "currentColor").replace(style.PAPER, "var(--paper)")
        # Identifiers are unique in a page, not in a figure.
        svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>f{name}-", svg)
        found[name] = _fitted(svg)
    return found


def _fitted(svg: str) -> str:
    """The picture as wide as the page, between 9/10 and 5/4 of its own size: a narrow page scrolls it."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width = float(found[1]) if found else 400.0
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    size = f'style="max-width:{1.25 * width * 4 / 3:.0f}px;min-width:{0.9 * width * 4 / 3:.0f}px"'
    return svg.replace("<svg", f"<svg {size}", 1).strip()
