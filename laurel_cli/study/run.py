"""What all executors share: what they are asked, and what is told of the trials that they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 30.0  # seconds for the step that a stopped trial is at, and its checkpoint
Key = tuple[str, int]
"""A trial: arm and seed."""
Event = Callable[["Happening"], None]


@dataclass(frozen=True)
class Happening:
    """Something that a trial said: kind is "begun", "point", "evaluation", "done" or "failed"."""

    arm: str
    seed: int
    kind: str
    message: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Resources:
    """What each trial may use, and what else every executor is told.

    Attributes:
        kind: of the device that the study trains on, "cuda"; `threads` of the processor that a trial computes with.
        processes: trials at once on one machine; None for as many as there is room for.
        gpus: of each trial, less than 1 for a share of one; None for what the device needs.
        cpus: cores of each trial; None for its threads.
        trials_per_job: how many one job of an engine runs, one after the other; None for one, or all that share a GPU.
        max_retries: how often a trial that failed is tried again; a machine that is lost or taken away does not count.
        detach: hand the trials over and leave.
        options: of the chosen executor alone, by the names of the settings.
        command: for the records.
        allowed: packages whose versions may be others than the study's.
        keep: whether the trained weights of each trial are kept.
        device: on which the trials run, of the study's kind; None for any.
        lock: file descriptor of the study's lock, which the trials' processes hold as well; None where nobody locks it.
    """

    kind: str = "cpu"
    threads: int | None = 1
    processes: int | None = None
    gpus: float | None = None
    cpus: int | None = None
    trials_per_job: int | None = None
    max_retries: int = 0
    detach: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    allowed: tuple[str, ...] = ()
    keep: bool = False
    device: str | None = None
    lock: int | None = None

    @property
    def cores(self) -> int:
        """Cores of each trial."""
        return self.cpus or self.threads or 1


def ordered(keys: Sequence[Key], arms: Sequence[str], *, by_arm: bool) -> list[Key]:
    """Block by block, so that pairs are whole early; or arm by arm, so that each is compiled once."""
    return sorted(keys, key=lambda key: (arms.index(key[0]), key[1]) if by_arm else (key[1], arms.index(key[0])))
