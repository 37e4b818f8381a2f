"""How a run spends `--max-time`: what fits into it, and what is said beforehand where the least does not."""

from __future__ import annotations

from dataclasses import dataclass

from laurel_cli.latency.job import FEWEST_ROUNDS


def placement_seconds(round_seconds: float) -> float:
    """The least that a placement takes; its first round, which finds cold caches, is not counted."""
    return (FEWEST_ROUNDS + 1) * round_seconds


def fitted(placements: int, seconds: float, left: float, round_seconds: float) -> tuple[int, float]:
    """Fit a process into the time that is left to it.

    Args:
        placements: wanted.
        seconds: wanted for each.
        left: for all of them, in seconds.
        round_seconds: of all arms once, with the calls that are not timed.

    Returns:
        Placements, at least one, and seconds for each. Fewer placements rather than fewer processes: an interval comes
        from the spread between processes.
    """
    least = placement_seconds(round_seconds)
    fit = placements if left >= placements * least else max(1, int(left / least))
    return fit, min(seconds, left / fit)


@dataclass(frozen=True)
class Forecast:
    """What is known once the first process has built and warmed up its arms, before anything is measured.

    Attributes:
        max_time: seconds that the user gives, `spent` those that are gone.
        start: seconds that a process needs before it measures.
        round_seconds: of all arms once.
        placements: wanted in a process, `fit` those that the first one will make.
        processes: before the first look; `demanded` those that the user wants in any case.
    """

    max_time: float
    spent: float
    start: float
    round_seconds: float
    placements: int
    fit: int
    processes: int
    demanded: int

    @property
    def least(self) -> float:
        """Seconds of the whole run, if it is to be as the protocol says."""
        return self.spent - self.start + self.processes * self._process(self.placements)

    @property
    def affordable(self) -> int:
        """Processes that will be run before the first look."""
        once = self._process(self.fit)
        others = int(max(0.0, self.max_time - (self.spent - self.start) - once) / once)
        return max(self.demanded, min(1 + others, self.processes))

    def said(self) -> str | None:
        """A sentence for the user; None where all is well."""
        if self.least <= self.max_time:
            return None
        takes = self.spent - self.start + self.affordable * self._process(self.fit)
        return (
            f"`max_time={self.max_time:g}` s is short: the least, {_made(self.processes, self.placements)} of "
            f"{FEWEST_ROUNDS} rounds, takes about {self.least:.0f} s here; "
            f"{_made(self.affordable, self.fit)} will be run, about {takes:.0f} s"
        )

    def _process(self, placements: int) -> float:
        return self.start + placements * placement_seconds(self.round_seconds)


def _made(processes: int, placements: int) -> str:
    counted = (("process", "processes", processes), ("placement", "placements", placements))
    return " of ".join(f"{number} {one if number == 1 else more}" for one, more, number in counted)
