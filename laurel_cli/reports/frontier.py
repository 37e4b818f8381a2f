"""Quality against cost: who is on the Pareto frontier, as far as that is established.

A point is worse than another where that one costs no more and is no worse, and one of the two is strict. Which of two
arms is better is what the judgement of the study says (`laurel_cli.verdict`); costs are compared by their intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

FRONTIER, TIED, DOMINATED, UNKNOWN = "on the frontier", "tied", "dominated", "not known"
UNCONTROLLED = "on the frontier, without controls"
CONTROL = "control"
ON = (FRONTIER, UNCONTROLLED)
"""What is said of an arm that is on the frontier."""


@dataclass(frozen=True)
class AddedCost:
    """What an arm costs beyond the baseline, in percent.

    Attributes:
        low, high: where it was measured; else both are the value.
        level: of that interval; None where the cost is exact.
        beside: a second price, which is paid with the first and not in its unit (elementwise operations beside FLOPs);
            None where nobody counted it.
    """

    value: float
    low: float
    high: float
    level: float | None = None
    beside: float | None = 0.0


def surely_no_more(a: AddedCost, b: AddedCost) -> bool | None:
    """Whether a costs no more than b, by both prices; None where the second one is not known."""
    return _and_beside(a.high <= b.low, a, b)


def perhaps_no_more(a: AddedCost, b: AddedCost) -> bool | None:
    """Whether a may cost no more than b; None where the second price decides it and is not known."""
    return _and_beside(a.low <= b.high, a, b)


def _and_beside(first: bool, a: AddedCost, b: AddedCost) -> bool | None:
    if not first:
        return False
    return None if a.beside is None or b.beside is None else a.beside <= b.beside


def status(i: int, costs: Sequence[AddedCost], better: Callable[[int, int], bool], known: Sequence[bool]) -> str:
    """What is established of arm `i`.

    Args:
        costs: of every arm.
        better: whether the first of two arms is established to be better than the second.
        known: whether anything may be said of an arm's quality.

    Returns:
        DOMINATED where an arm that surely costs no more is better; FRONTIER where it is better than every arm that may
        cost no more; UNKNOWN where its quality, or a price that decides, is not known; TIED otherwise.
    """
    if not known[i]:
        return UNKNOWN
    others = [j for j in range(len(costs)) if j != i]
    cheaper = {j: surely_no_more(costs[j], costs[i]) for j in others if better(j, i)}
    if any(cheaper.values()):
        return DOMINATED
    rivals = {j: perhaps_no_more(costs[j], costs[i]) for j in others if not better(i, j)}
    if None in (*cheaper.values(), *rivals.values()):
        return UNKNOWN
    return TIED if any(rivals.values()) else FRONTIER
