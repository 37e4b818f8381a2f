"""Labels: none on another, none beyond the panel, each near to its point."""

import math
import random
from itertools import combinations, pairwise

import pytest

from laurel_cli.reports.figures.place import Box, place, spread

PANEL = Box(0, 0, 400, 300)


def overlap(a, b):
    """By areas, another way than the code's."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.top, b.top) - max(a.bottom, b.bottom)
    return width > 0 and height > 0


@pytest.mark.parametrize("count", [1, 2, 6, 40])
@pytest.mark.parametrize("seed", range(5))
def test_random_points(count, seed):
    rng = random.Random(seed)
    points = [(rng.uniform(0, 400), rng.uniform(0, 300)) for _ in range(count)]
    sizes = [(rng.uniform(8, 40), 9.0) for _ in points]
    markers = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    labels = place(PANEL, points, sizes, markers)
    assert all(label is not None for label in labels)
    for label, (width, height) in zip(labels, sizes, strict=True):
        box = label.box
        assert (box.right - box.left, box.top - box.bottom) == pytest.approx((width, height))
        assert box.left >= 0
        assert box.right <= 400
        assert box.bottom >= 0
        assert box.top <= 300
        assert not any(overlap(box, marker) for marker in markers)
    assert not any(overlap(a.box, b.box) for a, b in combinations(labels, 2))


def test_all_in_one_place_get_leaders_as_long_as_there_is_a_way_out():
    points = [(200.0, 150.0)] * 40
    labels = [label for label in place(PANEL, points, [(14.0, 9.0)] * 40, [Box(195, 145, 205, 155)]) if label]
    assert len(labels) >= 10  # around them no leader gets through without crossing a label
    assert not any(overlap(a.box, b.box) for a, b in combinations(labels, 2))
    for label in labels:
        centre = ((label.box.left + label.box.right) / 2, (label.box.bottom + label.box.top) / 2)
        assert label.leader is not None or math.dist(centre, points[0]) < 45


def test_a_label_that_fits_nowhere_is_left_out():
    assert place(PANEL, [(200.0, 150.0)], [(500.0, 9.0)]) == [None]


def test_a_line_through_a_box():
    box = Box(0, 0, 10, 10)
    assert box.meets(((-5, 5), (15, 5)))
    assert box.meets(((2, 2), (3, 3)))
    assert not box.meets(((-5, 5), (-1, 5)))
    assert not box.meets(((-5, 8), (8, 21)))


@pytest.mark.parametrize("seed", range(20))
def test_a_column_of_names(seed):
    rng = random.Random(seed)
    wanted = [rng.choice([10.0, 50.0, rng.uniform(0, 100)]) for _ in range(rng.randrange(1, 12))]
    found = spread(wanted, 6.0, 0.0, 100.0)
    ordered = sorted(found)
    assert all(b - a >= 6 - 1e-9 for a, b in pairwise(ordered))
    assert ordered[0] >= 3 - 1e-9
    assert ordered[-1] <= 97 + 1e-9
    # The order stays: no two leaders cross.
    pairs = combinations(zip(wanted, found, strict=True), 2)
    assert all((w1 - w2) * (f1 - f2) >= 0 for (w1, f1), (w2, f2) in pairs)


def test_a_column_that_has_room_moves_nothing():
    assert spread([80.0, 20.0, 50.0], 6.0, 0.0, 100.0) == pytest.approx([80, 20, 50])


def test_two_at_one_place_part_evenly():
    assert spread([50.0, 50.0], 6.0, 0.0, 100.0) == pytest.approx([47, 53])


def test_a_column_that_is_too_short_is_filled_evenly():
    found = sorted(spread([50.0] * 30, 6.0, 0.0, 100.0))
    assert found == pytest.approx([100 * (i + 0.5) / 30 for i in range(30)])
