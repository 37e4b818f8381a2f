"""The residual weights that were learned, along the depth of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.figures import style
from laurel_cli.reports.figures.place import spread
from laurel_cli.reports.figures.where import place_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Item = Mapping[str, Any]
LEFT, GAP, BOTTOM, TOP, WIDTH = 0.8, 0.35, 1.0, 0.35, 3.0  # inches
LINE = 0.17
WEIGHTS = (("a", "a, of the branch f(x)"), ("b", "b, of the skip"))


def coefficients(body: Item) -> Figure:
    """Two panels, a and b, one line an arm, its name at the right."""
    arms = body["coefficients"]
    probe = style.new(1, 1)
    names = [style.short(arm["arm"]) for arm in arms]
    column = max(style.text_size(probe, name, 8)[0] for name in names) / 100 + 0.45
    tall = max(2.6, LINE * len(arms) + 0.2)
    width, height = LEFT + 2 * WIDTH + GAP + column, BOTTOM + tall + TOP
    figure = style.new(width, height)
    places = max((arm["places"] for arm in arms), key=len)
    panels: list[Axes] = []
    colours = style.colours([arm["family"] for arm in arms])
    for i, (key, title) in enumerate(WEIGHTS):
        left = LEFT + i * (WIDTH + GAP)
        place = (left / width, BOTTOM / height, WIDTH / width, tall / height)
        axes = figure.add_axes(place, sharey=panels[0] if panels else None)
        panels.append(axes)
        axes.axhline(1.0, color=style.FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        for arm, colour in zip(arms, colours, strict=True):
            shape, _ = style.marker(arm["family"])
            points = [(x, place[key]) for x, place in enumerate(arm["places"]) if place[key] is not None]
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(xs, ys, color=colour, marker=shape, markersize=3.5, linewidth=1, markevery=max(1, len(xs) // 16))
        axes.set_title(title, fontsize=9, loc="left", pad=4)
        axes.tick_params(labelsize=7.5, labelleft=i == 0)
        axes.set_xlim(-0.5, len(places) - 0.5)
        place_names(axes, [str(place["connection"]) for place in places], shown=True)
    panels[0].set_ylabel("weight that was learned", fontsize=8)
    axes = panels[1]
    found = [next((p["b"] for p in reversed(arm["places"]) if p["b"] is not None), 1.0) for arm in arms]
    pixels = [float(axes.transData.transform((0, value))[1]) for value in found]
    frame = axes.get_window_extent()
    centres = spread(pixels, LINE * 100, frame.y0, frame.y1)
    for arm, name, colour, centre in zip(arms, names, colours, centres, strict=True):
        shape, _ = style.marker(arm["family"])
        x, y = (frame.x1 + 18) / figure.bbox.width, centre / figure.bbox.height
        axes.plot(
            [x],
            [y],
            marker=shape,
            color=colour,
            markersize=4.5,
            transform=figure.transFigure,
            clip_on=False,
            scalex=False,
            scaley=False,
        )
        figure.text(x + 8 / figure.bbox.width, y, name, fontsize=8, va="center", ha="left")
    return figure
