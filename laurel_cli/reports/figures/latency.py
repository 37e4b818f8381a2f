"""How long every arm takes beside the baseline: each placement a dot, the estimate a bar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Item = Mapping[str, Any]
WIDTH, LINE, TOP, BOTTOM = 4.6, 0.27, 0.5, 0.6  # inches


def latency(body: Item) -> Figure:
    """One panel for each setting, one line for each arm, slower to the right."""
    panels = body["latencies"]
    probe = style.new(1, 1)
    names = [style.short(arm["arm"]) for panel in panels for arm in panel["arms"]]
    left = max(style.text_size(probe, name, 8)[0] for name in names) / 100 + 0.3
    tall = [LINE * len(panel["arms"]) + 0.25 for panel in panels]
    width, height = left + WIDTH + 0.2, sum(tall) + (TOP + BOTTOM) * len(panels)
    figure = style.new(width, height)
    top = height
    for panel, size in zip(panels, tall, strict=True):
        top -= TOP + size
        axes = figure.add_axes((left / width, top / height, WIDTH / width, size / height))
        top -= BOTTOM
        _draw(axes, panel)
    return figure


def _draw(axes: Axes, panel: Item) -> None:
    import textwrap

    rows = len(panel["arms"])
    for i, arm in enumerate(panel["arms"]):
        y = rows - 1 - i
        shape, colour = style.marker(arm["family"])
        dots = arm["placements"]
        # Not at random: the same records give the same picture.
        offsets = [0.24 * math.sin(2.4 * k) for k in range(len(dots))]
        axes.plot(dots, [y + offset for offset in offsets], ".", color=colour, markersize=4, alpha=0.45, zorder=1)
        if arm["low"] is not None and arm["high"] is not None:
            axes.plot([arm["low"], arm["high"]], [y, y], color=colour, linewidth=2.2, zorder=2, solid_capstyle="butt")
        axes.plot([arm["median"]], [y], marker=shape, color=colour, markeredgecolor=style.PAPER, markersize=7, zorder=3)
    axes.axvline(1.0, color=style.INK, linewidth=0.8, zorder=0)
    axes.set_yticks(range(rows), [style.short(arm["arm"]) for arm in reversed(panel["arms"])])
    axes.set_ylim(-0.6, rows - 0.4)
    axes.tick_params(labelsize=8, left=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(
        "time of a call over the baseline's" if panel["mode"] != "train" else "time of a step over the baseline's"
    )
    title = textwrap.wrap(style.short(panel["setting"], 200), 72)
    axes.set_title("\n".join(title[:3]), fontsize=7, color=style.FAINT, loc="left", pad=5)
    axes.ticklabel_format(axis="x", useOffset=False, style="plain")
    axes.margins(x=0.06)
