"""Quality against the rank, as the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laurel_cli.arms import kind_of
from laurel_cli.reports.figures import style
from laurel_cli.reports.figures.place import spread
from laurel_cli.reports.quality import RANKED
from laurel_cli.reports.words import scaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Item = Mapping[str, Any]
LEFT, BOTTOM, TOP, WIDTH = 0.75, 0.6, 0.2, 3.8  # inches
LINE = 0.18


def sweep(body: Item) -> Figure:
    """One line for each formula; arms without a rank (the baseline, naive scaling, RW, PA) as dashed lines."""
    sweeps, metric = body["sweeps"], body["study"]["shown"]
    flat = [arm for arm in body["arms"] if arm["quality"] and _has_no_rank(arm)]
    names = [style.short(s["name"]) for s in sweeps] + [style.short(arm["name"]) for arm in flat]
    probe = style.new(1, 1)
    column = max(style.text_size(probe, name, 8)[0] for name in names) / 100 + 0.45
    tall = max(3.2, LINE * len(names) + 0.2)
    width, height = LEFT + WIDTH + column, BOTTOM + tall + TOP
    figure = style.new(width, height)
    axes = figure.add_axes((LEFT / width, BOTTOM / height, WIDTH / width, tall / height))
    ranks = sorted({point["rank"] for found in sweeps for point in found["points"]})
    axes.set_xscale("log", base=2)
    axes.set_xlim(ranks[0] / 1.3, ranks[-1] * 1.3)
    axes.set_xticks(ranks, [str(rank) for rank in ranks] if len(ranks) <= 10 else [""] * len(ranks))
    if len(ranks) > 10:
        axes.set_xticks(ranks[:: -(-len(ranks) // 8)], [str(r) for r in ranks[:: -(-len(ranks) // 8)]])
    axes.minorticks_off()
    ends, families = [], []
    for i, found in enumerate(sweeps):
        shape, colour = style.marker(found["family"])
        nudge = 1.025 ** (i - (len(sweeps) - 1) / 2)  # bars of different formulas stand beside each other
        xs = [point["rank"] * nudge for point in found["points"]]
        ys = [scaled(point["mean"], metric) for point in found["points"]]
        axes.plot(xs, ys, color=colour, marker=shape, markersize=5, linewidth=1.2)
        for x, point in zip(xs, found["points"], strict=True):
            if point["low"] is not None:
                bar = [scaled(point[key], metric) for key in ("low", "high")]
                axes.plot([x, x], bar, color=colour, linewidth=0.9)
        ends.append((xs[-1], ys[-1]))
        families.append(found["family"])
    for arm in flat:
        y = scaled(arm["quality"]["mean"], metric)
        axes.axhline(y, color=style.marker(arm["family"])[1], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ends.append((ranks[-1] * 1.3, y))
        families.append(arm["family"])
    axes.set_xlabel("rank r of the low-rank maps")
    axes.set_ylabel("accuracy, %" if metric == "accuracy" else f"{metric}, axis reversed")
    if body["study"]["better"] == "lower":
        axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    pixels = [tuple(map(float, axes.transData.transform(end))) for end in ends]
    frame = axes.get_window_extent()
    centres = spread([y for _, y in pixels], LINE * 100, frame.y0, frame.y1)
    edge = (LEFT + WIDTH) * 100 + 20
    for name, family, (x, y), centre in zip(names, families, pixels, centres, strict=True):
        shape, colour = style.marker(family)
        xs, ys = (
            [x / figure.bbox.width, edge / figure.bbox.width],
            [y / figure.bbox.height, centre / figure.bbox.height],
        )
        common: dict[str, Any] = {
            "transform": figure.transFigure,
            "color": colour,
            "clip_on": False,
            "scalex": False,
            "scaley": False,
        }
        axes.plot(xs, ys, linewidth=0.6, **common)
        axes.plot(xs[1:], ys[1:], marker=shape, markersize=4.5, **common)
        figure.text(xs[1] + 8 / figure.bbox.width, ys[1], name, fontsize=8, va="center", ha="left")
    return figure


def _has_no_rank(arm: Item) -> bool:
    if arm["role"] not in RANKED:
        return False
    if arm["spec"] is None:
        return arm["role"] == "baseline" or kind_of(arm["kind"]).is_scaling
    return "@" not in arm["name"]
