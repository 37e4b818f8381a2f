"""How often `laurel profile` is wrong where nothing differs: simulated runs, judged by the functions of the command.

    python -m tests.bench.latency_statistics --repetitions 2000

Every arm takes exactly as long as the baseline. Its samples have what real ones have: an offset of the process, one of
the placement, noise from round to round; the baseline's are in every ratio. A run ends by precision, or after
`MOST` processes, as by `--max-time`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from laurel_cli.latency.estimate import (
    Estimate,
    Interval,
    estimate,
    figures,
    first_look,
    judged,
    processes_needed,
)
from laurel_cli.verdict.paired import difference

ARMS = (1, 3, 6)
PLACEMENTS, ROUNDS = 4, 5
MOST = 30  # processes that fit into the time
LOOSE, MIDDLE, TIGHT = 4.0, 2.0, 1.2  # precision, in standard deviations of the figure of a process


@dataclass(frozen=True)
class Noise:
    """Standard deviations, on the scale of the logarithm, of one arm's offsets and noise.

    Attributes:
        process, placement, round: of each of them.
        tails: degrees of freedom of the process's offset, a t-distribution's; None for the normal one.
    """

    name: str
    process: float
    placement: float
    round: float
    tails: int | None = None

    @property
    def figure(self) -> float:
        """Of the figure of a process for the ratio of two arms, about: medians are taken for means."""
        spread = 1.0 if self.tails is None else self.tails / (self.tails - 2)
        inside = (self.placement**2 + self.round**2 / ROUNDS) / PLACEMENTS
        return math.sqrt(2 * (self.process**2 * spread + inside))


NOISES = (
    Noise("placements differ", 0.0, 0.004, 0.01),
    Noise("processes and placements differ", 0.003, 0.004, 0.01),
    Noise("processes differ most", 0.01, 0.002, 0.005),
    Noise("some processes are far off", 0.005, 0.002, 0.01, tails=3),
)


@dataclass(frozen=True)
class Run:
    """One simulated run: what each comparison came to, with the baseline and with naive+1."""

    to_baseline: dict[str, Estimate]
    to_naive: dict[str, Estimate]
    uncorrected: bool

    @property
    def processes(self) -> int:
        """That were run."""
        return next(iter(self.to_baseline.values())).processes


def run(random: np.random.Generator, arms: int, noise: Noise, precision: float) -> Run:
    """Run until every ratio's interval is narrower than `precision`, or for `MOST` processes.

    Args:
        arms: equal to the baseline, the first of them naive+1.
        precision: in standard deviations, see `LOOSE`.
    """
    names = ["naive+1", *(f"arm {i}" for i in range(1, arms))]
    first, narrow = first_look(arms), math.expm1(precision * noise.figure)
    to_baseline: dict[str, list[float]] = {name: [] for name in names}
    to_naive: dict[str, list[float]] = {name: [] for name in names[1:]}
    for process in range(MOST):
        if process >= first:
            needed = processes_needed([estimate(values, first) for values in to_baseline.values()], narrow)
            if needed is not None and process >= needed:
                break
        times = _process(random, arms + 1, noise)
        for i, name in enumerate(names):
            to_baseline[name].append(_figure(times[i + 1] - times[0]))
            if i:
                to_naive[name].append(_figure(times[i + 1] - times[1]))
    # What t-intervals of single comparisons, from all processes, would say.
    uncorrected = any(difference(values, [0.0] * len(values)).separated for values in to_baseline.values())
    return Run(
        {name: estimate(values, first) for name, values in to_baseline.items()},
        {name: estimate(values, first) for name, values in to_naive.items()},
        uncorrected,
    )


def rows(repetitions: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rates over `repetitions` runs, one row for each number of equal arms, noise and precision.

    Returns:
        Of each: `arms`, `noise`, `precision` (of a process's standard deviation), mean `processes`; `coverage` of the
        interval that is printed and `coverage_95` of each arm's own 95 % interval, over arms; `wrong` and
        `wrong_naive`, the share of runs with any wrong verdict against the baseline and against naive+1 (None for one
        arm); `uncorrected`, the same without Holm and with the spread of all processes; `error`, the standard error
        of a share of 5 %.
    """
    return list(_rows(repetitions, seed))


def _rows(repetitions: int, seed: int) -> Iterator[dict[str, Any]]:
    for arms in ARMS:
        for noise in NOISES:
            for precision in (LOOSE, MIDDLE, TIGHT):
                random = np.random.default_rng([seed, arms, NOISES.index(noise), round(10 * precision)])
                runs = [run(random, arms, noise, precision) for _ in range(repetitions)]
                printed = [list(judged(found.to_baseline).values()) for found in runs]
                naive = [list(judged(found.to_naive).values()) for found in runs]
                own = [Interval.of(one) for found in runs for one in found.to_baseline.values()]
                yield {
                    "arms": arms,
                    "noise": noise.name,
                    "precision": precision,
                    "processes": fmean(found.processes for found in runs),
                    "coverage": fmean(one.low <= 1 <= one.high for ratios in printed for one in ratios),
                    "coverage_95": fmean(one.low <= 1 <= one.high for one in own),
                    "wrong": fmean(any(one.verdict != "not separated" for one in ratios) for ratios in printed),
                    "wrong_naive": None
                    if arms == 1
                    else fmean(any(one.verdict != "not separated" for one in ratios) for ratios in naive),
                    "uncorrected": fmean(found.uncorrected for found in runs),
                    "error": math.sqrt(0.05 * 0.95 / repetitions),
                }


def _process(random: np.random.Generator, arms: int, noise: Noise) -> Any:
    """Logarithms of times, of shape (arms, placements, rounds)."""
    drawn = random.standard_normal(arms) if noise.tails is None else random.standard_t(noise.tails, arms)
    offsets = noise.process * drawn[:, None] + noise.placement * random.standard_normal((arms, PLACEMENTS))
    return offsets[:, :, None] + noise.round * random.standard_normal((arms, PLACEMENTS, ROUNDS))


def _figure(log_ratios: Any) -> float:
    return figures({(0, placement): list(values) for placement, values in enumerate(log_ratios.tolist())})[0]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency_statistics", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=2000)
    chosen = parser.parse_args()
    for row in rows(chosen.repetitions):
        print("  ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))


if __name__ == "__main__":
    main()
