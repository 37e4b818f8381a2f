"""A ladder: the losses of all arms against compute, and what each saves from size to size, with its band."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.figures import style
from laurel_cli.reports.figures.place import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Item = Mapping[str, Any]
CAPTION = (
    "Above: loss against compute, a line an arm; the grey curve is the fit of the baseline's. Below: compute that each "
    "arm saves, as measured at each size and on its line, with the line's band; above x1 the arm is ahead. Beyond the "
    "dotted line nothing was measured: there the band goes on, as far as ten times the largest size."
)
WITHHELD = "Loss against compute of the baseline; the grey curve is its fit. Of arms nothing is said, so none is drawn."
LEFT, BOTTOM, TOP, WIDTH, UPPER, LOWER, GAP = 0.85, 0.6, 0.15, 4.8, 2.3, 2.6, 0.35  # inches
LINE = 0.17  # of a name in the column beside the panel


def ladder(document: Item) -> Figure:
    """The figure of a ladder's document; without its lower panel where what arms save is withheld."""
    bands = document["bands"]
    probe = style.new(1, 1)
    names = ["baseline", *(style.short(band["name"]) for band in bands)]
    column = max(style.text_size(probe, name, 8)[0] for name in names) / 100 + 0.5 if bands else TOP
    below = LOWER + GAP if bands else 0.0
    width, height = LEFT + WIDTH + column, BOTTOM + below + UPPER + TOP
    figure = style.new(width, height)
    upper = figure.add_axes((LEFT / width, (BOTTOM + below) / height, WIDTH / width, UPPER / height))
    lower = figure.add_axes((LEFT / width, BOTTOM / height, WIDTH / width, LOWER / height)) if bands else None
    colours = style.colours([band["family"] for band in bands])
    _losses(upper, document, colours)
    if lower is not None:
        _savings(lower, document, colours)
    sizes = document["sizes"]
    first, last = sizes[0]["flops"], 10 * sizes[-1]["flops"] if bands else sizes[-1]["flops"]
    for axes in (upper, lower) if lower is not None else (upper,):
        axes.set_xscale("log")
        axes.set_xlim(first / 1.3, last * 1.1)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_formatter(lambda value, _: f"1e{math.log10(value):.0f}" if value > 0 else "")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    (lower or upper).set_xlabel("FLOPs of training the baseline")
    upper.set_ylabel("loss, nats")
    low, high = upper.get_ylim()
    upper.set_ylim(low, high + 0.1 * (high - low))  # room for the sizes' names
    _sizes(upper, sizes)
    if lower is not None:
        upper.set_xticklabels([])
        lower.set_ylabel("compute saved, times")
        _names(figure, lower, bands, names[1:], colours, (LEFT + WIDTH + 0.22) / width)
    return figure


def _losses(axes: Axes, document: Item, colours: Sequence[str]) -> None:
    known = [size for size in document["sizes"] if size["loss"]]
    curve = document["curve"]
    axes.plot([p["flops"] for p in curve], [p["loss"] for p in curve], color=style.FAINT, linewidth=2.4, alpha=0.45)
    shape, ink = style.marker("baseline")
    xs, ys = [size["flops"] for size in known], [size["loss"]["value"] for size in known]
    axes.plot(xs, ys, color=ink, marker=shape, markersize=4, linewidth=0.9)
    base = {size["name"]: size["loss"]["value"] for size in known}
    arms = {arm["name"]: arm for arm in document["arms"]}
    for band, colour in zip(document["bands"], colours, strict=True):
        points = [
            (document_size["flops"] * (size["flops_ratio"] or 1.0), base[size["size"]] - size["gain"]["value"])
            for size in arms[band["name"]]["sizes"]
            for document_size in known
            if document_size["name"] == size["size"] and size["gain"]
        ]
        shape, _ = style.marker(band["family"])
        axes.plot(*zip(*points, strict=True), color=colour, marker=shape, markersize=4, linewidth=0.9)


def _savings(axes: Axes, document: Item, colours: Sequence[str]) -> None:
    largest = document["sizes"][-1]["flops"]
    flops = {size["name"]: size["flops"] for size in document["sizes"]}
    axes.axhline(1, color=style.INK, linewidth=0.9)
    axes.axvline(largest, color=style.FAINT, linewidth=0.9, linestyle=":")
    arms = {arm["name"]: arm for arm in document["arms"]}
    shown = []
    for band, colour in zip(document["bands"], colours, strict=True):
        points = band["points"]
        xs = [point["flops"] for point in points]
        low, high = ([_or_nan(point[key]) for point in points] for key in ("low", "high"))
        within = [point["flops"] <= largest * 1.0001 for point in points]
        shape, _ = style.marker(band["family"])
        axes.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
        line = [(point["flops"], point["value"]) for point in points]
        count = sum(within)
        axes.plot(*zip(*line[:count], strict=True), color=colour, linewidth=1.2)
        axes.plot(*zip(*line[count - 1 :], strict=True), color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        measured = [(flops[size["size"]], size["saved"]) for size in arms[band["name"]]["sizes"] if size["saved"]]
        axes.plot(
            [x for x, _ in measured],
            [s["value"] for _, s in measured],
            color=colour,
            marker=shape,
            linewidth=0,
            markersize=4.5,
        )
        shown += [s["value"] for _, s in measured] + [points[-1]["value"]]
        shown += [end for ends in (low, high) for end, inside in zip(ends, within, strict=True) if inside]
    ends = [value for value in shown if math.isfinite(value)] or [1.0]
    margin = 0.1 * (max(ends) - min(ends)) or 0.05
    # The bands between the sizes are whole; beyond them they may leave the panel.
    axes.set_ylim(max(0.0, min([*ends, 1.0]) - margin), max([*ends, 1.0]) + margin)
    axes.yaxis.set_major_formatter(lambda value, _: f"x{value:.4g}")


def _sizes(axes: Axes, sizes: Sequence[Item]) -> None:
    """Which size stands where, along the upper edge."""
    for size in sizes:
        axes.annotate(
            style.short(size["name"]),
            (size["flops"], 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -2),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=7,
            color=style.FAINT,
        )


def _names(
    figure: Figure, axes: Axes, bands: Sequence[Item], names: Sequence[str], colours: Sequence[str], edge: float
) -> None:
    """A column of names beside the panel, each as near to its line's end as the others let it, joined to it."""
    height, width = figure.bbox.height, figure.bbox.width
    frame = axes.get_window_extent()
    ends = [(band["points"][-1]["flops"], band["points"][-1]["value"]) for band in bands]
    pixels = [tuple(map(float, axes.transData.transform(end))) for end in ends]
    pixels = [(x, min(max(y, frame.y0), frame.y1)) for x, y in pixels]
    centres = spread([y for _, y in pixels], LINE * 100, frame.y0, frame.y1)
    for band, name, colour, (x, y), centre in zip(bands, names, colours, pixels, centres, strict=True):
        shape, _ = style.marker(band["family"])
        look: dict[str, Any] = {"transform": figure.transFigure, "color": colour, "clip_on": False}
        axes.plot([x / width, edge], [y / height, centre / height], linewidth=0.6, scalex=False, scaley=False, **look)
        axes.plot([edge], [centre / height], marker=shape, markersize=4.5, scalex=False, scaley=False, **look)
        figure.text(edge + 8 / width, centre / height, name, fontsize=8, va="center", ha="left")


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
