"""Quality against every cost: a panel each, side by side on one quality axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laurel_cli.reports.figures import style
from laurel_cli.reports.figures.captions import has_bar
from laurel_cli.reports.figures.place import Box, Label, Segment, place
from laurel_cli.reports.figures.scale import cost_axis
from laurel_cli.reports.frontier import CONTROL, FRONTIER, ON, TIED, UNCONTROLLED
from laurel_cli.reports.words import scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Item = Mapping[str, Any]
COLUMNS = 3
PANEL = (3.5, 3.1)  # inches
LEFT, RIGHT, BOTTOM, TOP, GAP = 0.75, 0.15, 0.95, 0.45, 0.28
ROW_GAP = 1.0
LABEL = 8.0
NAMED, NUMBERED = (1.0, 1.35), (1.0, 1.4, 1.9, 2.6)  # sizes that are tried for labels of either kind
MANY, CROWDED = 14, 24  # arms: above these names, and small panels, are not even tried
WIDE = 5.5  # inches: room for four words in the legend's row
FAR = 60.0  # pixels from a point to its name above which a larger panel is tried
FILLED = {FRONTIER: "full", UNCONTROLLED: "full", CONTROL: "full", TIED: "left"}


@dataclass(frozen=True)
class Dot:
    """An arm in a panel: cost x with its ends, quality y with its ends, both as shown.

    `stepped` where the frontier is a line of what is shown: by the metric that decides, at one price and not two.
    """

    name: str
    family: str
    status: str
    stepped: bool
    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float


def frontier(body: Item) -> Figure:
    """The figure of one comparison.

    Points are labelled with their names where all find a place, else with numbers, which a key beside the panels
    explains. With many arms the panels grow until every number has its place.
    """
    dots = [_dots(panel, body) for panel in body["panels"]]
    if sum(map(len, dots)) == 0:
        raise ValueError("no arm has both a quality and a cost")
    titles = [(panel["title"], panel["setting"]) for panel in body["panels"] if panel["arms"]]
    dots = [points for points in dots if points]
    metric, higher = body["study"]["shown"], body["study"]["better"] == "higher"
    numbers = {name: i for i, name in enumerate(dict.fromkeys(dot.name for points in dots for dot in points), start=1)}
    named: Figure | None = None
    figure: Figure | None = None
    for grow in NAMED if len(numbers) <= MANY else ():
        figure, longest = _drawn(dots, titles, metric, higher, grow, None)
        named = figure if math.isfinite(longest) else named
        if longest < FAR:
            return figure
    if named is not None:
        return named
    for grow in NUMBERED[len(numbers) > CROWDED :]:
        figure, longest = _drawn(dots, titles, metric, higher, grow, numbers)
        if math.isfinite(longest):
            return figure
    assert figure is not None
    return figure  # the largest one: a number without a place is left out, its arm stands in the key


def _dots(panel: Item, body: Item) -> list[Dot]:
    metric = body["study"]["shown"]
    judged = metric == body["study"]["metric"]
    sign = 1 if body["study"]["better"] == "higher" else -1
    arms = {arm["name"]: arm for arm in body["arms"]}
    base = next((a["quality"]["mean"] for a in body["arms"] if a["kind"] == "baseline" and a["quality"]), None)
    found = []
    for point in panel["arms"]:
        arm = arms[point["name"]]
        y = arm["quality"]["mean"]
        ends = [y, y]
        if judged and has_bar(arm) and arm["gain"] and base is not None and arm["gain"]["low"] is not None:
            ends = sorted(base + sign * arm["gain"][key] for key in ("low", "high"))
        x = point["cost_percent"]
        low, high = (x if point[key] is None else point[key] for key in ("cost_low", "cost_high"))
        shown = [scaled(value, metric) for value in (y, *ends)]
        stepped = judged and panel["cost"] != "flops"
        found.append(Dot(point["name"], arm["family"], point["status"], stepped, x, low, high, *shown))
    return found


def _drawn(
    panels: Sequence[Sequence[Dot]],
    titles: Sequence[tuple[str, str]],
    metric: str,
    higher: bool,
    grow: float,
    numbers: Mapping[str, int] | None,
) -> tuple[Figure, float]:
    """The figure, and the longest way from a label to its point in pixels: infinite where one found no place."""
    # Three panels and a key side by side would be shrunk on any page until nobody can read them.
    columns = min(2 if len(panels) == 4 or numbers is not None else COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    wide, tall = PANEL[0] * grow, PANEL[1] * grow
    key, key_width = _key(panels, numbers)
    width = LEFT + columns * wide + (columns - 1) * GAP + RIGHT + key_width
    height = BOTTOM + rows * tall + (rows - 1) * ROW_GAP + TOP
    figure = style.new(max(width, 4.6), height)
    width = figure.get_figwidth()
    limits = _limits(panels, higher)
    longest = 0.0
    for i, dots in enumerate(panels):
        row, column = divmod(i, columns)
        left = LEFT + column * (wide + GAP)
        bottom = BOTTOM + (rows - 1 - row) * (tall + ROW_GAP)
        axes = figure.add_axes((left / width, bottom / height, wide / width, tall / height))
        cost_axis(axes, [d.x for d in dots], [d.x_low for d in dots], [d.x_high for d in dots])
        axes.set_ylim(*limits)
        _axis_words(axes, titles[i], metric, first=column == 0, wide=wide)
        line = _frontier_line(axes, dots, higher)
        for dot in dots:
            _draw(axes, dot)
        longest = max(longest, _labels(figure, axes, dots, line, numbers))
    _legend(figure, height, any(dot.status == CONTROL for dots in panels for dot in dots))
    if numbers is not None:
        _draw_key(figure, key, (width - key_width) / width, height)
    return figure, longest


def _limits(panels: Sequence[Sequence[Dot]], higher: bool) -> tuple[float, float]:
    ends = [end for dots in panels for dot in dots for end in (dot.y, dot.y_low, dot.y_high)]
    low, high = min(ends), max(ends)
    margin = 0.09 * (high - low) or 0.05 * abs(high) or 1.0
    return (low - margin, high + margin) if higher else (high + margin, low - margin)


def _axis_words(axes: Axes, title: tuple[str, str], metric: str, first: bool, wide: float) -> None:
    import textwrap

    what, setting = (style.short(part, 200) for part in title)
    axes.set_xlabel(f"{what}, %")
    if setting:
        lines = textwrap.wrap(setting, int(14.5 * wide), break_long_words=True)
        shown = lines[:2] if len(lines) < 3 else [lines[0], lines[1][:-1] + "…"]
        axes.set_title("\n".join(shown), fontsize=7, color=style.FAINT, loc="left", pad=4)
    axes.tick_params(labelsize=8, labelleft=first)
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    if first:
        unit = "accuracy, %" if metric == "accuracy" else f"{metric}, axis reversed"
        axes.set_ylabel(f"{unit} (up is better)")


def _frontier_line(axes: Axes, dots: Sequence[Dot], higher: bool) -> list[tuple[float, float]]:
    """The staircase through the arms that are established to be on the frontier, and the shade of what is below it."""
    better = (lambda a, b: a > b) if higher else (lambda a, b: a < b)
    steps: list[tuple[float, float]] = []
    established = [dot for dot in dots if dot.status in ON and dot.stepped]
    for dot in sorted(established, key=lambda d: (d.x, -d.y if higher else d.y)):
        if not steps or better(dot.y, steps[-1][1]):
            steps.append((dot.x, dot.y))
    if not steps:
        return []
    edge = axes.get_xlim()[1]
    xs, ys = [x for x, _ in steps] + [edge], [y for _, y in steps] + [steps[-1][1]]
    axes.fill_between(xs, ys, axes.get_ylim()[0], step="post", color="#888888", alpha=0.13, linewidth=0, zorder=0)
    axes.step(xs, ys, where="post", color=style.FAINT, linewidth=1, zorder=1)
    corners = [(xs[0], ys[0])]
    for i in range(1, len(xs)):
        corners += [(xs[i], ys[i - 1]), (xs[i], ys[i])]
    return corners


def _draw(axes: Axes, dot: Dot) -> None:
    shape, colour = style.marker(dot.family)
    bars: dict[str, Any] = {"color": colour, "linewidth": 1, "zorder": 2}
    if dot.y_low < dot.y_high:
        axes.plot([dot.x, dot.x], [dot.y_low, dot.y_high], **bars)
    if dot.x_low < dot.x_high:
        left, right = axes.get_xlim()
        axes.plot([max(dot.x_low, left), min(dot.x_high, right)], [dot.y, dot.y], **bars)
    axes.plot(
        [dot.x],
        [dot.y],
        marker=shape,
        markersize=9 if shape == "*" else 7,
        color=colour,
        fillstyle=FILLED.get(dot.status, "full"),
        markerfacecolor=colour if dot.status in FILLED else style.PAPER,
        markerfacecoloralt=style.PAPER,
        markeredgewidth=1.2,
        linestyle="none",
        zorder=3,
        clip_on=False,
    )


def _labels(
    figure: Figure,
    axes: Axes,
    dots: Sequence[Dot],
    line: Sequence[tuple[float, float]],
    numbers: Mapping[str, int] | None,
) -> float:
    """Label every point; the longest leader, infinite where a label found no place."""
    said = [style.short(dot.name) if numbers is None else str(numbers[dot.name]) for dot in dots]
    to_pixels = axes.transData.transform
    points = [_segment(to_pixels, (dot.x, dot.y), (dot.x, dot.y))[0] for dot in dots]
    sizes = [style.text_size(figure, text, LABEL) for text in said]
    frame = axes.get_window_extent()
    panel = Box(frame.x0 + 1, frame.y0 + 1, frame.x1 - 1, frame.y1 - 1)
    taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    bars = [_segment(to_pixels, (d.x, d.y_low), (d.x, d.y_high)) for d in dots]
    bars += [_segment(to_pixels, (d.x_low, d.y), (d.x_high, d.y)) for d in dots]
    steps = [_segment(to_pixels, a, b) for a, b in itertools.pairwise(line)]
    found = place(panel, points, sizes, taken, [*bars, *steps])
    for text, label in zip(said, found, strict=True):
        if label is not None:
            _write(axes, text, label)
    if any(label is None for label in found):
        return math.inf
    return max((math.dist(*label.leader) for label in found if label is not None and label.leader), default=0.0)


def _segment(to_pixels: Any, a: tuple[float, float], b: tuple[float, float]) -> Segment:
    (x0, y0), (x1, y1) = (tuple(map(float, to_pixels(end))) for end in (a, b))
    return (x0, y0), (x1, y1)


def _write(axes: Axes, text: str, label: Label) -> None:
    from matplotlib.patheffects import withStroke

    figure = axes.figure
    width, height = figure.bbox.width, figure.bbox.height  # in fractions, so that every resolution agrees
    if label.leader is not None:
        (x0, y0), (x1, y1) = label.leader
        axes.plot(
            [x0 / width, x1 / width],
            [y0 / height, y1 / height],
            transform=figure.transFigure,
            color=style.FAINT,
            linewidth=0.6,
            zorder=1.5,
            scalex=False,
            scaley=False,
        )
    halo = withStroke(linewidth=2, foreground=style.PAPER)  # a line below it does not strike it out
    left, bottom = label.box.left / width, label.box.bottom / height
    figure.text(left, bottom, text, fontsize=LABEL, va="bottom", ha="left", path_effects=[halo])


def _key(panels: Sequence[Sequence[Dot]], numbers: Mapping[str, int] | None) -> tuple[list[tuple[str, Dot]], float]:
    """The lines of the key and its width in inches."""
    if numbers is None:
        return [], 0.0
    first = {dot.name: dot for dots in panels for dot in reversed(dots)}
    lines = [(f"{number}  {style.short(name)}", first[name]) for name, number in numbers.items()]
    probe = style.new(1, 1)
    widest = max(style.text_size(probe, line, LABEL)[0] for line, _ in lines)
    return lines, widest / 100 + 0.5


def _draw_key(figure: Figure, lines: Sequence[tuple[str, Dot]], left: float, height: float) -> None:
    from matplotlib.lines import Line2D

    width = figure.get_figwidth()
    step = min(0.19, (height - 0.4) / len(lines))
    for i, (line, dot) in enumerate(lines):
        y = 1 - (0.35 + i * step) / height
        shape, colour = style.marker(dot.family)
        mark = Line2D([left + 0.16 / width], [y], marker=shape, color=colour, markersize=5.5, linestyle="none")
        mark.set_transform(figure.transFigure)
        figure.add_artist(mark)
        figure.text(left + 0.3 / width, y, line, fontsize=min(LABEL, 60 * step), va="center", ha="left")


def _legend(figure: Figure, height: float, control: bool) -> None:
    from matplotlib.lines import Line2D

    marks = []
    for words, status in (("on the frontier", FRONTIER), ("tied", TIED), ("dominated or not known", "")):
        marks.append(
            Line2D(
                [],
                [],
                marker="o",
                linestyle="none",
                color=style.INK,
                fillstyle=FILLED.get(status, "full"),
                markerfacecolor=style.INK if status else style.PAPER,
                markerfacecoloralt=style.PAPER,
                label=words,
            )
        )
    if control:
        shape, colour = style.marker("control")
        marks.append(Line2D([], [], marker=shape, linestyle="none", color=colour, label="control"))
    place_at = (LEFT / figure.get_figwidth() - 0.02, 0.02 / height)
    columns = 3 if figure.get_figwidth() < WIDE or not control else 4
    figure.legend(
        handles=marks, loc="lower left", bbox_to_anchor=place_at, ncols=columns, fontsize=8, handletextpad=0.1
    )
