"""How often does a ladder say something wrong of a gain at larger sizes? By simulation with the functions themselves.

    python -m tests.bench.ladder_statistics --output reports/ladder-statistics.md

Ladders whose truth is known are made up (`tests.bench.simulated_ladders`) and judged by `laurel_cli.verdict.ladder`, as
`train-proxy --ladder` and `report` do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from laurel_cli.verdict import ladder, trend
from laurel_cli.verdict.ladder import FLIPS, HOLDS, LOSES, SHRINKS, Trend
from tests.bench.simulated_ladders import (
    CONTROLS,
    Truth,
    World,
    constant,
    families,
    line,
    rungs,
    usual_controls,
)
from tests.bench.statistics import Answer, Question, ask, table

ARMS = ("naive+1", "rw", "rw+lr@4")
NOTHING = constant(1.0)
PLANTED = {HOLDS: constant(1.4), SHRINKS: line(1.45, 1.08), FLIPS: line(1.35, 0.78)}
"""By the word that is right: x1.4 at all sizes; from x1.45 to x1.08; from x1.35 to x0.78."""


def same(truth: Truth, **more: object) -> World:
    """All arms alike."""
    return World(dict.fromkeys(ARMS, truth), controls=usual_controls(), **more)  # type: ignore[arg-type]


def judged(world: World, draw: np.random.Generator, look: int = 0) -> ladder.LadderJudgement:
    """One ladder, judged."""
    controls = CONTROLS if world.controls else ladder.Controls()
    return ladder.judge(rungs(world, draw), families(world), controls, look=look)


def says(draw: np.random.Generator, *, world: World, wrong: tuple[str, ...]) -> bool:
    """Whether one of these words is said of any arm."""
    return any(one.verdict in wrong for one in judged(world, draw).trends)


def grows(draw: np.random.Generator, *, world: World) -> bool:
    """Whether a line is said to rise."""
    return any(one.grows for one in judged(world, draw).trends)


def extended(draw: np.random.Generator, *, truth: Truth, wrong: tuple[str, ...]) -> bool:
    """A ladder of three sizes to which three are added, one after the other: whether any look says something wrong."""
    full = rungs(same(truth, sizes=6), draw)
    return any(
        one.verdict in wrong
        for look, count in enumerate(range(3, 7))
        for one in ladder.judge(full[:count], [list(ARMS)], CONTROLS, look=look).trends
    )


def misses(draw: np.random.Generator, *, world: World, what: Callable[[Trend, World], bool]) -> bool:
    """Whether an interval of an arm that stands alone, and so has nearly 95 %, leaves out the truth."""
    alone = replace(world, arms={"rw": world.arms["rw"]})
    found = rungs(alone, draw)
    curve = trend.baseline_curve(found)
    assert curve is not None
    return what(ladder._trend(found, "rw", curve, 0.95), alone)


def slope_missed(one: Trend, world: World) -> bool:
    """Of the slope."""
    truth = world.arms["rw"]
    true = (truth(1) - truth(0)) / math.log10(world.computes[-1])
    return one.slope is not None and not one.slope.low <= true <= one.slope.high


def last_missed(one: Trend, world: World) -> bool:
    """Of the line at the largest size."""
    return one.last is not None and not one.last.low <= world.arms["rw"](1) <= one.last.high


def first_missed(one: Trend, world: World) -> bool:
    """Of the line at the smallest size."""
    return one.first is not None and not one.first.low <= world.arms["rw"](0) <= one.first.high


def ahead_missed(one: Trend, world: World) -> bool:
    """Of the line a tenfold compute beyond the largest size."""
    true = world.arms["rw"](1 + ladder.BEYOND / math.log10(world.computes[-1]))
    return one.ahead is not None and not one.ahead.low <= true <= one.ahead.high


def measured_missed(one: Trend, world: World) -> bool:
    """Of what was measured at the largest size."""
    return not one.saved[-1].low <= world.arms["rw"](1) <= one.saved[-1].high


def blind(draw: np.random.Generator) -> bool:
    """A positive control without effect: something is said of arms that have none."""
    world = replace(same(NOTHING), controls=usual_controls(wider=0.0))
    return any(one.verdict in ladder.CLAIMS for one in judged(world, draw).trends)


def repaired(draw: np.random.Generator) -> bool:
    """Arms that gain what the baseline gains at twice the rate, 0.02 nats, are said to hold or shrink."""
    world = same(NOTHING)
    found = []
    for rung in rungs(replace(world, controls=usual_controls(twice=0.02)), draw):
        losses = dict(rung.losses)
        for arm in ARMS:
            losses[arm] = {seed: loss - 0.02 for seed, loss in losses[arm].items()}
        found.append(replace(rung, losses=losses))
    said = ladder.judge(found, families(world), CONTROLS)
    return any(one.verdict in (HOLDS, SHRINKS) for one in said.trends)


def accuracy_missed(draw: np.random.Generator, *, arms: int) -> bool:
    """The interval of a ladder's decision accuracy leaves out that of all ladders of such arms."""
    found = _decided(draw, arms)
    return found is None or not found.low <= _true_accuracy(arms) <= found.high


def _decided(draw: np.random.Generator, arms: int) -> ladder.Decisions | None:
    """Arms that save between 0.9 and 1.1 times or so at one end of the ladder and something else at the other."""
    ends = np.exp(0.06 * draw.standard_normal((arms, 2)))
    world = World({f"arm{i}": line(first, first * change) for i, (first, change) in enumerate(ends)})
    return ladder.decisions(rungs(world, draw), list(world.arms))


_KNOWN: dict[int, float] = {}


def _true_accuracy(arms: int) -> float:
    if arms not in _KNOWN:
        found = [_decided(np.random.default_rng([99, run]), arms) for run in range(2000)]
        _KNOWN[arms] = float(np.mean([one.right / one.pairs for one in found if one is not None]))
    return _KNOWN[arms]


def questions() -> list[Question]:
    """All rows."""
    gains = (HOLDS, SHRINKS, FLIPS)
    return [
        Question(
            'no arm saves anything: "holds", "shrinks" or "flips"', partial(says, world=same(NOTHING), wrong=gains)
        ),
        Question("the same without controls", partial(says, world=replace(same(NOTHING), controls={}), wrong=gains)),
        Question("the same with heavy tails (t, 4 degrees)", partial(says, world=same(NOTHING, tails=4), wrong=gains)),
        Question(
            "no arm gains anything, and each costs 5 % more",
            partial(says, world=same(constant(1 / 1.05), ratios=dict.fromkeys(ARMS, 1.05)), wrong=gains),
        ),
        Question(
            'a saving of x1.25 that holds: "shrinks", "flips" or "worse"',
            partial(says, world=same(constant(1.25)), wrong=(SHRINKS, FLIPS, LOSES)),
        ),
        Question("the same: said to grow", partial(grows, world=same(constant(1.25)))),
        Question(
            'from x1.45 to x1.08: "holds", "flips" or "worse"',
            partial(says, world=same(PLANTED[SHRINKS]), wrong=(HOLDS, FLIPS, LOSES)),
        ),
        Question(
            'just half is left, from x1.44 to x1.2: "holds"',
            partial(says, world=same(line(1.44, 1.2)), wrong=(HOLDS,)),
        ),
        Question(
            'nothing is left, from x1.3 to x1: "holds" or "flips"',
            partial(says, world=same(line(1.3, 1.0)), wrong=(HOLDS, FLIPS)),
        ),
        Question(
            'from x1.35 to x0.78: "holds", "shrinks" or "worse"',
            partial(says, world=same(PLANTED[FLIPS]), wrong=(HOLDS, LOSES)),
        ),
        Question(
            "no arm saves anything, three sizes, then a fourth, fifth and sixth, looked at each time",
            partial(extended, truth=NOTHING, wrong=gains),
        ),
        Question(
            'a saving of x1.25 that holds, extended so: "shrinks", "flips" or "worse"',
            partial(extended, truth=constant(1.25), wrong=(SHRINKS, FLIPS, LOSES)),
        ),
        Question("no arm differs and the positive control is blind: any word", blind),
        Question('arms that gain what twice the rate gains: "holds" or "shrinks"', repaired),
        *_coverage(),
        *(
            Question(
                f"decision accuracy of {arms} arms and the baseline: its interval misses that of all such ladders",
                partial(accuracy_missed, arms=arms),
            )
            for arms in (2, 4, 6)
        ),
        *(
            Question(
                f'planted to say "{word}", and not judged so (power)',
                partial(_not_said, world=same(truth), word=word),
                most=0.10,
            )
            for word, truth in PLANTED.items()
        ),
        *(
            Question(
                f"a saving of x{times:g} that holds is not said to hold (power)",
                partial(_not_said, world=same(constant(times)), word=HOLDS),
                most=0.95,
            )
            for times in (1.1, 1.2, 1.3)
        ),
    ]


def _not_said(draw: np.random.Generator, *, world: World, word: str) -> bool:
    return judged(world, draw).of("rw").verdict != word


def _coverage() -> list[Question]:
    """95 % intervals of one arm."""
    shrinking = same(PLANTED[SHRINKS])
    worlds = {
        "4 sizes of 5 seeds": shrinking,
        "3 sizes of 5 seeds": replace(shrinking, sizes=3),
        "6 sizes of 5 seeds": replace(shrinking, sizes=6),
        "4 sizes of 3 seeds": replace(shrinking, seeds=3),
        "4 sizes of 5 seeds, heavy tails": replace(shrinking, tails=4),
        "4 sizes of 5 seeds, seeds as far apart as in a short study": replace(shrinking, block=0.01, pair=0.01),
        "4 sizes of 5 seeds, gains scatter from size to size as much as their means do": replace(
            shrinking, scatter=1.0
        ),
        "the same, twice as much": replace(shrinking, scatter=2.0),
    }
    scattered = {0.0: 0.06, 1.0: 0.10, 2.0: 0.20}  # of which four sizes tell little
    figures = {
        "slope": slope_missed,
        "saving at the smallest size": first_missed,
        "saving at the largest size": last_missed,
        "saving a tenfold beyond": ahead_missed,
    }
    return [
        Question(
            f"{where}: the 95 % interval of the {name} misses",
            partial(misses, world=world, what=what),
            most=scattered[world.scatter],
        )
        for where, world in worlds.items()
        for name, what in figures.items()
    ] + [
        Question(
            "4 sizes of 5 seeds: the 95 % interval of the saving measured at the largest size misses",
            partial(misses, world=shrinking, what=measured_missed),
            most=0.06,
        )
    ]


def page(answers: list[Answer]) -> str:
    """The page, in markdown."""
    lines = [
        "# How often does a ladder say something wrong?",
        "",
        "Made by `python -m tests.bench.ladder_statistics`: ladders whose truth is known, judged by",
        "`laurel_cli.verdict.ladder`, as `train-proxy --ladder` and `report` do. Four sizes over 81 times the compute,",
        "five seeds of each, three arms and the usual controls where nothing else is said. The baseline's loss is",
        "1.2 + C^-0.12 nats; a paired difference has a standard deviation of 0.003 nats. An arm that saves x1.25 needs",
        "1 / 1.25 of the compute for the loss of the baseline.",
        "",
        *table(answers),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    ask(__doc__, questions(), page, runs=1000)
