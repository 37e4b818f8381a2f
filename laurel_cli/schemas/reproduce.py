"""laurel.reproduce/1 and laurel.experiments/1: a paper's figures beside those of a run, by `laurel reproduce`."""

from __future__ import annotations

from typing import Literal, TypedDict

from laurel_cli.schemas.common import Level, Metric
from laurel_cli.schemas.marks import Count
from laurel_cli.schemas.profile import RatioJSON


class PrintedJSON(TypedDict):
    """A paper's figures of an arm, and those over its own baseline; a gain is positive where the arm is better."""

    parameters: float | None
    added_percent: float | None
    quality: float | None
    gain: float | None
    step_ratio: float | None
    memory_ratio: float | None


class ReproducedArm(TypedDict):
    """One arm: what was counted, trained and timed here, null for what was not.

    `beside` is the paper's arm that it stands beside. `gain` is over the baseline within blocks, positive is better, in
    the metric's unit; `with_unwritten` the count with what the paper seems to count and does not mention.
    """

    arm: str
    role: str | None
    beside: str | None
    paper: PrintedJSON | None
    parameters: Count | None
    added_parameters: int | None
    added_percent: float | None
    with_unwritten: int | None
    quality: float | None
    n: Count | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    gain_level: Level | None
    words: str
    ratio: RatioJSON | None
    memory_ratio: float | None


class Reproduce(TypedDict):
    """An experiment that was made again. `commands` made it; `cluster` would make its study on other machines."""

    schema: Literal["laurel.reproduce/1"]
    command: str
    experiment: str
    title: str
    source: str
    scale: str
    note: str
    folder: str
    commands: list[str]
    cluster: list[str]
    printed_quality: Metric
    metric: Metric | None
    learned_reason: str
    withheld: str
    mode: str | None
    unwritten: str | None
    arms: list[ReproducedArm]
    notes: list[str]
    warnings: list[str]


class ListedExperiment(TypedDict):
    """One experiment that comes with laurel."""

    name: str
    title: str
    source: str
    scales: list[str]


class Experiments(TypedDict):
    """`laurel reproduce --list`."""

    schema: Literal["laurel.experiments/1"]
    experiments: list[ListedExperiment]
