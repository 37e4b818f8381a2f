"""What a worker process of a profile is asked to do. Pure data: it crosses a pipe as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FEWEST_ROUNDS, MOST_ROUNDS = 5, 60  # in a placement


@dataclass(frozen=True)
class Job:
    """What a worker is to do; the fields of the JSON document that it gets.

    Attributes:
        task: "memory" (the peak of every arm), or "time".
        model: reference of the baseline, `options` those of `models.load`, `arms` as `--arms`, `spec_options` of it.
        against: references of further models.
        work: the fields of `Workload`.
        allocator: of `allocator.NAMES`.
        process: its number; `placements` how many to make at most, `seconds` how long one should take.
        until: by the system's monotonic clock, when to make no further placement; the first is always made.
        seed: of orders, ballast and everything else that is drawn.
        folded: whether every arm is measured as it would be deployed too, see `folded.py`.
        given: a folder that holds the model or its inputs, see `given.py`; "" where the reference is all.
    """

    task: str
    model: str
    options: dict[str, Any]
    arms: str
    spec_options: dict[str, Any]
    against: list[str]
    work: dict[str, Any]
    device: str
    threads: int | None
    seed: int
    allocator: str = "keep"
    process: int = 0
    placements: int = 4
    seconds: float = 3.0
    until: float | None = None
    given: str = ""
    folded: bool = False
