"""Learning curves: one line an arm, its name at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.figures import style
from laurel_cli.reports.figures.place import spread
from laurel_cli.reports.words import scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Item = Mapping[str, Any]
LEFT, BOTTOM, TOP, WIDTH = 0.75, 0.6, 0.2, 4.6  # inches
LINE = 0.17  # of a name in the column beside the panel
BANDS = 8  # above so many arms the bands cover each other: they are drawn fainter


def curves(body: Item) -> Figure:
    """The evaluations of every arm on the way; the end of the run decides the axis, so that the arms come apart."""
    lines, metric = body["curves"], body["study"]["shown"]
    probe = style.new(1, 1)
    names = [style.short(line["arm"]) for line in lines]
    fan = 0.22 if len(lines) <= BANDS else 0.9  # inches between the panel and the names
    column = max(style.text_size(probe, name, 8)[0] for name in names) / 100 + fan + 0.23
    tall = max(3.2, LINE * len(lines) + 0.2)
    width, height = LEFT + WIDTH + column, BOTTOM + tall + TOP
    figure = style.new(width, height)
    axes = figure.add_axes((LEFT / width, BOTTOM / height, WIDTH / width, tall / height))
    colours = style.colours([line["family"] for line in lines])
    for line, colour in zip(lines, colours, strict=True):
        _draw(axes, line, metric, colour, alpha=0.12 if len(lines) <= BANDS else 0.05)
    _limits(axes, lines, metric)
    task = body["study"]["task"]
    unit = "sequences" if task.get("kind") == "text" else task.get("unit") or "samples"
    axes.set_xlabel(f"{style.short(str(unit))} seen in training")
    axes.set_ylabel("accuracy, %" if metric == "accuracy" else f"{metric}, nats")
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    _names(figure, axes, lines, names, metric, (LEFT + WIDTH + fan) / width)
    return figure


def _draw(axes: Axes, line: Item, metric: str, colour: str, alpha: float) -> None:
    shape, _ = style.marker(line["family"])
    points = line["points"]
    xs = [point["samples"] for point in points]
    ys = [scaled(point["mean"], metric) for point in points]
    dashes = (0, (4, 2)) if line["family"] == "control" else "solid"
    look: dict[str, Any] = {"color": colour, "linewidth": 1.2, "linestyle": dashes}
    axes.plot(xs, ys, marker=shape, markersize=3.2, markevery=max(1, len(xs) // 12), **look)
    low, high = (
        [math.nan if point[key] is None else scaled(point[key], metric) for point in points] for key in ("low", "high")
    )
    axes.fill_between(xs, low, high, color=colour, alpha=alpha, linewidth=0)


def _known(line: Item) -> bool:
    """Whether the end has an interval."""
    return line["points"][-1]["low"] is not None


def _limits(axes: Axes, lines: Sequence[Item], metric: str) -> None:
    """From the best end to what the arms were at early in the run: the very start would flatten everything.

    Bands at the end belong to it too; those of two seeds may be so wide that they get half of the axis and no more.
    """
    last = max(point["samples"] for line in lines for point in line["points"])
    early = 0.2 if len(lines) <= BANDS else 0.5
    shown = [p for line in lines for p in line["points"] if p["samples"] >= early * last] or lines[0]["points"]
    ends = [scaled(point["mean"], metric) for point in shown]
    least, most = min(ends), max(ends)
    reach = 0.5 * (most - least)
    bands = [scaled(line["points"][-1][key], metric) for line in lines for key in ("low", "high") if _known(line)]
    least, most = max(least - reach, min([least, *bands])), min(most + reach, max([most, *bands]))
    margin = 0.06 * (most - least) or 0.05 * abs(ends[0]) or 1.0
    axes.set_ylim(least - margin, most + margin)
    axes.set_xlim(0, last * 1.02)


def _names(figure: Figure, axes: Axes, lines: Sequence[Item], names: Sequence[str], metric: str, edge: float) -> None:
    """A column of names beside the panel, each as near to its line's end as the others let it, joined to it."""
    height, width = figure.bbox.height, figure.bbox.width
    ends = [(line["points"][-1]["samples"], scaled(line["points"][-1]["mean"], metric)) for line in lines]
    pixels = [tuple(map(float, axes.transData.transform(end))) for end in ends]
    frame = axes.get_window_extent()
    centres = spread([y for _, y in pixels], LINE * 100, frame.y0, frame.y1)
    colours = style.colours([line["family"] for line in lines])
    for line, name, colour, (x, y), centre in zip(lines, names, colours, pixels, centres, strict=True):
        shape, _ = style.marker(line["family"])
        axes.plot(
            [x / width, edge],
            [y / height, centre / height],
            transform=figure.transFigure,
            color=colour,
            linewidth=0.6 if len(lines) <= BANDS else 0.4,
            clip_on=False,
            scalex=False,
            scaley=False,
        )
        axes.plot(
            [edge],
            [centre / height],
            transform=figure.transFigure,
            marker=shape,
            color=colour,
            markersize=4.5,
            clip_on=False,
            scalex=False,
            scaley=False,
        )
        figure.text(edge + 8 / width, centre / height, name, fontsize=8, va="center", ha="left")
