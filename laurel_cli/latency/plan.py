"""What a profile is to measure, and when it may end."""

from __future__ import annotations

from dataclasses import dataclass

from laurel_cli.latency.estimate import first_look
from laurel_cli.latency.job import Job

BASELINE, COPY, NAIVE = "baseline", "copy", "naive+1"  # the arms that have a part of their own in a profile
FOLDED = " folded"  # ends the name of an arm as it would be deployed; no other arm's name holds a space


@dataclass(frozen=True)
class ProfilePlan:
    """What to profile; `job` holds the models, the workload and the device.

    Attributes:
        precision: relative width of every ratio's interval at which the run may end.
        max_time: seconds. No process is started that would end later, but for the first and those demanded.
        processes: demanded, whatever time they take.
    """

    job: Job
    precision: float = 0.01
    max_time: float = 600.0
    processes: int = 0

    @property
    def first_look(self) -> int:
        """After how many processes the run may first end by precision."""
        arms = {name for name in self.job.arms.split(",") if name not in (BASELINE, COPY)} | set(self.job.against)
        folded = len(arms - set(self.job.against)) if self.job.folded else 0
        return max(self.processes, first_look(max(len(arms), folded)))
