"""Ladders made up from a known truth: losses of every arm at every size, by seed, without training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from laurel_cli.verdict.declared import Controls
from laurel_cli.verdict.trend import Rung

Truth = Callable[[float], float]
"""ln of the compute that an arm saves, by how far up the ladder a size is: from 0, the smallest, to 1, the largest."""
CONTROLS = Controls(positive="baseline:width=1.125", recipe=("baseline:lr=0.5", "baseline:lr=2"))
WIDTHS = {3: (64, 96, 192), 4: (64, 96, 128, 192), 5: (64, 96, 128, 192, 256), 6: (64, 96, 128, 192, 256, 384)}


@dataclass(frozen=True)
class World:
    """How losses come about.

    The baseline's loss is E + A C^-a nats, C from 1 at the smallest size to (192 / 64)^4 = 81 at the fourth: parameters
    and tokens both grow with the square of the width. It falls from 2.2 by about 0.1 for each factor e of compute.
    The noise is about that of reports/studies/books-wide, where seeds of the baseline end 0.0036 nats apart (standard
    deviation) and paired differences 0.001 to 0.005, most of them 0.003.

    Attributes:
        arms: what each saves; `ratios` its FLOPs over the baseline's.
        sizes: how many of `WIDTHS`; `seeds` of each.
        block: standard deviation of what all arms of a block share, in nats.
        pair: of a paired difference.
        scatter: of what every arm's gain has at a size beyond its blocks, in units of the error of a mean difference.
        tails: degrees of freedom of a t distribution for the noise; 0 for normal noise.
        controls: gains of the controls in nats, by name; {} for none.
    """

    arms: Mapping[str, Truth]
    ratios: Mapping[str, float] = field(default_factory=dict)
    sizes: int = 4
    seeds: int = 5
    block: float = 0.004
    pair: float = 0.003
    scatter: float = 0.0
    tails: int = 0
    controls: Mapping[str, float] = field(default_factory=dict)
    floor: float = 1.2
    above: float = 1.0
    exponent: float = 0.12

    @property
    def computes(self) -> tuple[float, ...]:
        """Of the sizes."""
        return tuple((width / 64) ** 4 for width in WIDTHS[self.sizes])

    def loss(self, log_compute: float) -> float:
        """Of the baseline, in nats."""
        return self.floor + self.above * math.exp(-self.exponent * log_compute)


def usual_controls(wider: float = 0.02, half: float = -0.012, twice: float = -0.012) -> dict[str, float]:
    """A wider baseline that helps, and two rates that do not."""
    return dict(zip((CONTROLS.positive or "", *CONTROLS.recipe), (wider, half, twice), strict=True))


def constant(times: float) -> Truth:
    """A gain that holds."""
    return lambda height: math.log(times)


def line(first: float, last: float) -> Truth:
    """From `first` times at the smallest size to `last` times at the largest, evenly in the logarithm."""
    return lambda height: math.log(first) + height * math.log(last / first)


def rungs(world: World, draw: np.random.Generator) -> list[Rung]:
    """One ladder. A paired difference has the standard deviation `pair`: each run has noise of pair / sqrt(2)."""
    computes, found = world.computes, []
    top = math.log(computes[-1])
    for number, compute in enumerate(computes):
        x = math.log(compute)
        shared = world.loss(x) + world.block * draw.standard_normal(world.seeds)
        seeds = [1000 * number + seed for seed in range(world.seeds)]
        means = {"baseline": 0.0} | {name: -gain for name, gain in world.controls.items()}
        for name, truth in world.arms.items():
            jitter = world.scatter * world.pair / math.sqrt(world.seeds) * draw.standard_normal()
            saved = truth(x / top) + math.log(world.ratios.get(name, 1.0))
            means[name] = world.loss(x + saved) - world.loss(x) + jitter
        losses = {}
        for name, mean in means.items():
            count = min(3, world.seeds) if name in CONTROLS.recipe else world.seeds
            noise = world.pair / math.sqrt(2) * _noise(world.tails, count, draw)
            losses[name] = {seeds[i]: float(shared[i] + mean + noise[i]) for i in range(count)}
        found.append(Rung(str(WIDTHS[world.sizes][number]), compute * 1e12, losses, world.ratios))
    return found


def _noise(tails: int, count: int, draw: np.random.Generator) -> np.ndarray:
    if not tails:
        return draw.standard_normal(count)
    return draw.standard_t(tails, count) * math.sqrt((tails - 2) / tails)


def families(world: World) -> Sequence[Sequence[str]]:
    """All arms, declared together."""
    return [list(world.arms)]
