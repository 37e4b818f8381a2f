"""Where labels go: each beside its point, none on another, on a point or beyond the panel. Pure geometry, in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Segment = tuple[Point, Point]
RADII = (7.0, 12.0, 19.0, 28.0, 40.0, 55.0, 74.0, 97.0, 125.0, 160.0)
ANGLES = (0, 90, 270, 180, 45, 315, 135, 225, 22, 338, 158, 202, 68, 292, 112, 248)
LEADER_FROM = 15.0  # a label farther from its point than this is joined to it by a line
GAP = 3.0


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        """Whether the two have more than an edge in common, when one grows by `gap`."""
        return (
            self.left - gap < other.right
            and other.left < self.right + gap
            and self.bottom - gap < other.top
            and other.bottom < self.top + gap
        )

    def holds(self, other: Box) -> bool:
        """Whether `other` lies within."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )

    def meets(self, segment: Segment) -> bool:
        """Whether a straight line touches it (Liang and Barsky's clipping)."""
        (x0, y0), (x1, y1) = segment
        if max(x0, x1) < self.left or min(x0, x1) > self.right or max(y0, y1) < self.bottom or min(y0, y1) > self.top:
            return False
        start, end = 0.0, 1.0
        for delta, near, far in (
            (x1 - x0, self.left - x0, self.right - x0),
            (y1 - y0, self.bottom - y0, self.top - y0),
        ):
            if delta == 0:
                if near > 0 or far < 0:
                    return False
                continue
            first, last = sorted((near / delta, far / delta))
            start, end = max(start, first), min(end, last)
            if start > end:
                return False
        return True


@dataclass(frozen=True)
class Label:
    """A placed label: its box, and the line to its point where it stands apart."""

    box: Box
    leader: Segment | None


def place(
    panel: Box,
    points: Sequence[Point],
    sizes: Sequence[tuple[float, float]],
    taken: Iterable[Box] = (),
    lines: Sequence[Segment] = (),
) -> list[Label | None]:
    """A place for the label of each point, None where there is none left.

    Args:
        panel: no label leaves it.
        points: what is labelled; `sizes` (width, height) of each label.
        taken: markers and whatever else no label may cover.
        lines: what labels should not cover where it can be helped.
    """
    blocked = list(taken)
    leaders: list[Segment] = []
    found: list[Label | None] = [None] * len(points)
    for i in sorted(range(len(points)), key=lambda i: (-_crowd(points, i), points[i], i)):
        for avoid in ([*leaders, *lines], leaders, ()):
            label = _first(panel, points[i], sizes[i], blocked, avoid)
            if label is not None:
                break
        if label is not None:
            found[i] = label
            blocked.append(label.box)
            leaders += [] if label.leader is None else [label.leader]
    return found


def spread(wanted: Sequence[float], height: float, low: float, high: float) -> list[float]:
    """Centres for labels in a column, as near to `wanted` as may be: at least `height` apart, within [low, high].

    Where the column is too short for all of them, they are spaced evenly, closer than `height`.
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    step = min(height, (high - low) / max(1, len(wanted)))
    # Take `step` off for each one below: what is left must only not fall. Neighbours that do fall share their mean
    # (pool adjacent violators), which is the nearest that can be had in least squares.
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        pool = (min(max(wanted[i], low + step / 2), high - step / 2) - rank * step, 1)
        while pools and pools[-1][0] > pool[0]:
            (mean, number), (other, more) = pools.pop(), pool
            pool = ((mean * number + other * more) / (number + more), number + more)
        pools.append(pool)
    found = [0.0] * len(wanted)
    shifts = [mean for mean, number in pools for _ in range(number)]
    top = high - step / 2 - (len(wanted) - 1) * step
    for rank, i in enumerate(order):
        found[i] = min(max(shifts[rank], low + step / 2), top) + rank * step
    return found


def _first(
    panel: Box, point: Point, size: tuple[float, float], blocked: Sequence[Box], lines: Sequence[Segment]
) -> Label | None:
    for radius in RADII:
        for angle in ANGLES:
            box = _beside(point, size, radius, angle)
            if not panel.holds(box) or any(box.overlaps(other, GAP) for other in blocked):
                continue
            if any(box.meets(line) for line in lines):
                continue
            leader = _leader(point, box) if radius > LEADER_FROM else None
            if leader is not None and any(other.meets(leader) for other in blocked if not _around(other, point)):
                continue
            return Label(box, leader)
    return None


def _beside(point: Point, size: tuple[float, float], radius: float, angle: float) -> Box:
    """The box whose nearest edge or corner lies `radius` from the point in that direction."""
    (x, y), (width, height) = point, size
    dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = x + radius * dx, y + radius * dy
    left = x - width * (1 - dx) / 2 if abs(dx) < 0.9 else x if dx > 0 else x - width
    bottom = y - height * (1 - dy) / 2 if abs(dy) < 0.9 else y if dy > 0 else y - height
    return Box(left, bottom, left + width, bottom + height)


def _leader(point: Point, box: Box) -> Segment:
    """From the point to the nearest place on the box."""
    return point, (min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top))


def _around(box: Box, point: Point) -> bool:
    return box.left <= point[0] <= box.right and box.bottom <= point[1] <= box.top


def _crowd(points: Sequence[Point], i: int) -> int:
    """How many others are near: the crowded ones choose first."""
    return sum(math.dist(points[i], other) < 40 for other in points)
