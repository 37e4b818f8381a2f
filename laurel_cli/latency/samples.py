"""Everything that the processes of a profile have said, and what follows from it for each arm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from laurel_cli.latency import estimate
from laurel_cli.latency.allocator import Usage
from laurel_cli.latency.estimate import Estimate, Interval, Ratio
from laurel_cli.latency.job import FEWEST_ROUNDS
from laurel_cli.latency.plan import BASELINE, COPY, FOLDED, NAIVE

Key = tuple[int, int]  # process, placement


@dataclass
class Samples:
    """Everything that was measured.

    Attributes:
        first_look: after how many processes the run may first end by precision (`estimate.estimate`).
        seconds: for each placement and arm, one figure a round.
        peaks: bytes of every arm: at most, of what lives as long as it (weights, optimizer), and what counting says
            a training step holds at most.
        first: seconds of the first call of every arm in every process.
        usage: what every arm asked of the system in each process, see `allocator.Usage`.
        facts: of the device before and after each process.
        builds: the order in which each process built the arms, placed them and warmed them up.
        orders: of the arms in each round.
        folded: what became of every arm that is measured folded, the fields of `folded.Folded`.
        ready: the message with which a process says what it runs; `plan` how it spends its time.
    """

    first_look: int = estimate.FEWEST_PROCESSES
    seconds: dict[Key, dict[str, list[float]]] = field(default_factory=dict)
    peaks: dict[str, tuple[int | None, int, int | None]] = field(default_factory=dict)
    first: dict[str, list[float]] = field(default_factory=dict)
    usage: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    builds: list[list[str]] = field(default_factory=list)
    orders: list[list[str]] = field(default_factory=list)
    folded: dict[str, dict[str, Any]] = field(default_factory=dict)
    ready: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def take(self, message: dict[str, Any], process: int) -> None:
        """Keep what a message of a process says."""
        match message["kind"]:
            case "ready":
                self.ready = message
            case "warning":
                self.warnings.append(message["text"])
            case "folded":
                self.folded[message["arm"]] = message["became"]
            case "peak":
                self.peaks[message["arm"]] = (message["bytes"], message["static_bytes"], message["predicted_bytes"])
            case "built":
                self.builds.append(message["order"])
            case "warm":
                self.first.setdefault(message["arm"], []).append(message["first"])
            case "plan":
                self.plan = self.plan or message
            case "usage":
                self.usage.append(message["arms"])
            case "facts":
                self.facts.append(message["facts"])
                self.warnings.extend(message["disturbances"])
            case "sample":
                self.orders.append(message["order"])
                arms = self.seconds.setdefault((process, message["placement"]), {})
                for arm, seconds in message["seconds"].items():
                    arms.setdefault(arm, []).append(seconds)

    @property
    def arms(self) -> list[str]:
        """Names in the order in which they were asked for, the baseline first."""
        return [name for name in self._measured if not self._is_folded(name)]

    @property
    def folded_arms(self) -> list[str]:
        """Names of those that are folded, the baseline first."""
        return [name for name in self._measured if self._is_folded(name)]

    @property
    def _measured(self) -> list[str]:
        return [name for name in self.ready.get("arms", ()) if name in self.first]

    def _is_folded(self, name: str) -> bool:
        """Whether it names one of the arms, folded: a model of the user's may be called anything."""
        return name.endswith(FOLDED) and name.removesuffix(FOLDED) in self.ready["arms"]

    @property
    def judged(self) -> list[str]:
        """The family that is compared with the baseline; the copy is a control and stands apart."""
        return [arm for arm in self.arms if arm not in (BASELINE, COPY)]

    @property
    def processes(self) -> int:
        """That count."""
        return len({process for process, _ in self.whole()})

    def whole(self) -> dict[Key, dict[str, list[float]]]:
        """The placements with at least the fewest rounds, each arm with as many samples as the others."""
        found = {}
        for key, arms in self.seconds.items():
            rounds = min(map(len, arms.values()))
            if rounds >= FEWEST_ROUNDS:
                found[key] = {arm: values[:rounds] for arm, values in arms.items()}
        return found

    def compared(self, arm: str, base: str = BASELINE) -> Estimate:
        """The logarithm of an arm's time over that of `base`."""
        return self._estimate(
            {
                key: [math.log(a / b) for a, b in zip(arms[arm], arms[base], strict=True)]
                for key, arms in self.whole().items()
            }
        )

    def to_baseline(self) -> dict[str, Ratio]:
        """Every arm against the baseline: one family. The copy's comparison stands alone."""
        family = estimate.judged({arm: self.compared(arm) for arm in self.judged})
        return family | ({COPY: estimate.alone(self.compared(COPY))} if COPY in self.arms else {})

    def to_naive(self) -> dict[str, Ratio]:
        """Every other arm against naive+1, a second family; empty where it was not timed."""
        if NAIVE not in self.arms:
            return {}
        return estimate.judged({arm: self.compared(arm, NAIVE) for arm in self.judged if arm != NAIVE})

    def to_folded_baseline(self) -> dict[str, Ratio]:
        """Every other folded arm against the folded baseline, a family of its own."""
        return estimate.judged(self._folded())

    def _folded(self) -> dict[str, Estimate]:
        base = BASELINE + FOLDED
        return {arm: self.compared(arm, base) for arm in self.folded_arms if arm != base}

    def milliseconds(self, arm: str) -> Interval:
        """Of one call of an arm."""
        whole = {key: [math.log(1000 * second) for second in arms[arm]] for key, arms in self.whole().items()}
        return Interval.of(self._estimate(whole))

    def used(self, arm: str) -> Usage:
        """What all timed calls of an arm asked of the system."""
        return sum((Usage(**arms[arm]) for arms in self.usage if arm in arms), Usage())

    def processes_needed(self, precision: float) -> int | None:
        """How many make every ratio to the baseline as narrow; None before the first look."""
        if self.processes < self.first_look:
            return None
        families = [[self.compared(arm) for arm in self.judged], list(self._folded().values())]
        needed = [estimate.processes_needed(family, precision) for family in families if family]
        return max((count for count in needed if count is not None), default=None)

    def _estimate(self, samples: estimate.Samples) -> Estimate:
        return estimate.estimate(estimate.figures(samples), self.first_look)
