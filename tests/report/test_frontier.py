"""The frontier against its definition, tried out case by case."""

import itertools

import pytest

from laurel_cli.reports.frontier import DOMINATED, FRONTIER, TIED, UNKNOWN, AddedCost, status


def brute_force(points):
    """The definition: no other point is no worse in both and better in one."""
    return [not any(c2 <= c1 and g2 >= g1 and (c2 < c1 or g2 > g1) for c2, g2 in points) for c1, g1 in points]


def statuses(points, half=0.1, known=None, beside=None):
    """Points of (cost, gain) or (cost, gain, low, high); a gain is established where it is larger than `half`."""
    beside = beside or [0] * len(points)
    costs = [
        AddedCost(point[0], *(point[2:] or (point[0], point[0])), beside=more)
        for point, more in zip(points, beside, strict=True)
    ]

    def better(a, b):
        return points[a][1] - points[b][1] > half

    return [status(i, costs, better, known or [True] * len(points)) for i in range(len(points))]


def test_words():
    assert statuses([(0, 0), (1, 1), (2, 0.5), (3, 1.05)]) == [FRONTIER, FRONTIER, DOMINATED, TIED]
    # The same cost: the worse one is dominated; two alike are tied.
    assert statuses([(0, 0), (1, 1), (1, 0.5), (1, 1.05)]) == [FRONTIER, TIED, DOMINATED, TIED]
    # Cheaper only perhaps: nothing is dominated on the word of an interval that overlaps.
    assert statuses([(0, 0), (2, 1, 1.0, 3.0), (1, 0.5, 0.5, 2.0)]) == [FRONTIER, FRONTIER, TIED]
    # Nothing is separated.
    assert statuses([(0, 0), (1, 0.05), (2, 0.08)]) == [FRONTIER, TIED, TIED]


def test_without_uncertainty_the_words_are_the_definition():
    for points in itertools.islice(itertools.product(itertools.product(range(3), range(3)), repeat=4), 0, None, 7):
        if len(set(points)) < 4:
            continue
        said = statuses(points, half=1e-9)
        assert [word == FRONTIER for word in said] == brute_force(points)


def test_an_arm_of_which_nothing_may_be_said_is_not_known_and_is_in_the_way_of_others():
    known = [True, False, True]
    assert statuses([(0, 0), (1, 0), (2, 1)], known=known) == [FRONTIER, UNKNOWN, FRONTIER]
    assert statuses([(0, 0), (1, 1), (2, 1)], known=known) == [FRONTIER, UNKNOWN, TIED]


def test_no_products_are_not_no_cost_where_elementwise_work_is_counted():
    """RW multiplies nothing and adds elementwise: the baseline, which does neither, is cheaper by both prices."""
    points = [(0, 0), (0, -0.5), (5, 1)]
    assert statuses(points, beside=[0, 100, 10]) == [FRONTIER, DOMINATED, FRONTIER]
    # Fewer products and more elementwise work is not less.
    assert statuses([(0, 0), (0, 1), (5, 0.5)], beside=[0, 100, 10]) == [FRONTIER, FRONTIER, FRONTIER]
    assert statuses([(0, 0), (0, 1), (5, 0.5)], beside=[0, 10, 100]) == [FRONTIER, FRONTIER, DOMINATED]
    # Better at the same products is not free: the baseline is not dominated.
    assert statuses([(0, 0), (0, 1)], beside=[0, 100]) == [FRONTIER, FRONTIER]


def test_where_elementwise_work_was_not_counted_it_is_not_known():
    points = [(0, 0), (0, 1), (5, 0.5), (7, 2)]
    # The last one is better than all others, whatever they cost beside.
    assert statuses(points, beside=[0, None, None, None]) == [UNKNOWN, FRONTIER, UNKNOWN, FRONTIER]


@pytest.mark.parametrize("beside", [(0, 1), (1, 0), (0, 0)])
def test_without_uncertainty_both_prices_are_the_definition(beside):
    """Pareto dominance in three dimensions, tried out."""
    points, more = [(0, 1), (0, 2)], beside
    said = statuses(points, half=1e-9, beside=more)
    for i in (0, 1):
        j = 1 - i
        worse = points[j][0] <= points[i][0] and more[j] <= more[i] and points[j][1] > points[i][1]
        assert (said[i] == DOMINATED) == worse
