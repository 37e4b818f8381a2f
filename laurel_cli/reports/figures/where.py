"""Where in the model the added parameters sit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

Item = Mapping[str, Any]
PANEL, COLUMNS = (3.3, 1.25), 2  # inches
LEFT, GAP, ROW_GAP, TOP, BOTTOM = 0.95, 0.75, 0.42, 0.35, 1.0
TICKS = 8


def where(body: Item) -> Figure:
    """A panel for each formula, of its arm with the largest rank: parameters added at each connection, in order."""
    arms = _one_of_each(body)
    columns = min(COLUMNS, len(arms))
    rows = -(-len(arms) // columns)
    width = LEFT + columns * PANEL[0] + (columns - 1) * GAP + 0.15
    height = TOP + rows * PANEL[1] + (rows - 1) * ROW_GAP + BOTTOM
    figure = style.new(width, height)
    for i, arm in enumerate(arms):
        row, column = divmod(i, columns)
        left = LEFT + column * (PANEL[0] + GAP)
        bottom = BOTTOM + (rows - 1 - row) * (PANEL[1] + ROW_GAP)
        axes = figure.add_axes((left / width, bottom / height, PANEL[0] / width, PANEL[1] / height))
        lowest = i + columns >= len(arms)
        _draw(axes, arm, named=lowest)
        if column == 0:
            axes.set_ylabel("parameters added", fontsize=8)
    return figure


def _one_of_each(body: Item) -> list[Item]:
    """Arms that differ in their rank alone differ by a factor: the one with the largest rank stands for them."""
    specs = {arm["name"]: arm["spec"] for arm in body["arms"]}
    largest: dict[str, Item] = {}
    ranks: dict[str, int] = {}
    for item in body["where"]:
        spec = specs.get(item["arm"]) or {}
        formula = (
            str(sorted((key, str(value)) for key, value in spec.items() if key != "rank")) if spec else item["arm"]
        )
        rank = int(spec.get("rank", 0))
        if formula not in largest or rank > ranks[formula]:
            largest[formula], ranks[formula] = item, rank
    return list(largest.values())


def _draw(axes: Axes, arm: Item, named: bool) -> None:
    places = arm["places"]
    _, colour = style.marker(arm["family"])
    shade(axes, [place.get("stream") for place in places])
    axes.bar(range(len(places)), [place["parameters"] for place in places], color=colour, width=0.8)
    axes.set_title(style.short(arm["arm"]), fontsize=8.5, loc="left", pad=3)
    axes.set_xlim(-0.7, len(places) - 0.3)
    axes.tick_params(labelsize=7)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value == int(value) else "")
    axes.yaxis.set_major_locator(_few())
    place_names(axes, [str(place["connection"]) for place in places], named)


def shade(axes: Axes, streams: Sequence[Any]) -> None:
    """A grey ground behind every other stream."""
    start, dark = 0, False
    for i in range(1, len(streams) + 1):
        if i == len(streams) or streams[i] != streams[start]:
            if dark:
                axes.axvspan(start - 0.5, i - 0.5, color="#888888", alpha=0.25, linewidth=0, zorder=0)
            start, dark = i, not dark


def place_names(axes: Axes, names: Sequence[str], shown: bool) -> None:
    """Names of connections under the axis, at most `TICKS` of them, the first and the last among them."""
    if shown:
        axes.set_xlabel("residual connection, in the order of execution", fontsize=8)
    count = len(names)
    ends = {re.sub(r"^.*?([.:]\w+)?$", r"\1", name) for name in names}
    if len(ends) == 1:  # what all of them end in tells nothing
        names = [name.removesuffix(*ends) or name for name in names]
    step = max(1, -(-(count - 1) // (TICKS - 1))) if count > 1 else 1
    ticks = list(range(0, count, step))
    axes.set_xticks(ticks, [style.short(names[i], 16) for i in ticks] if shown else [""] * len(ticks))
    for label in axes.get_xticklabels():
        label.set(rotation=35, ha="right", rotation_mode="anchor")


def _few() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4, integer=True)
