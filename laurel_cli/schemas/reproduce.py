"""laurel.reproduce/1 and laurel.experiments/1: a paper's figures beside those of a run, by `laurel reproduce`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import Level, Metric, Versions
from laurel_cli.schemas.marks import Count, Moment, Name, Needed, Sha256
from laurel_cli.schemas.profile import RatioJSON


class PrintedJSON(TypedDict):
    """A paper's figures of an arm, and those over its own baseline; a gain is positive where the arm is better.

    `percent_of_counts`: it prints no percentage; `added_percent` follows from its counts, as exact as these are.
    """

    parameters: float | None
    added_percent: float | None
    percent_of_counts: NotRequired[bool]
    quality: float | None
    gain: float | None
    step_ratio: float | None
    memory_ratio: float | None


class ReproducedArm(TypedDict):
    """One arm: what was counted, trained and timed here, null for what was not.

    `beside` is the paper's arm that it stands beside. `parameters` are of the model that was counted,
    `trained_parameters` of the one that was trained; `with_unwritten` is the count with what the paper seems to count
    and does not mention. `quality` is the mean loss in nats, `accuracy` a share of 1, `trials` how many there are by
    their state. `gain` is over the baseline within blocks, positive is better, in the metric's unit: of controls and of
    arms that are judged. `ratio` and `memory_ratio` are of the model that was timed.
    """

    arm: str
    role: str | None
    beside: str | None
    paper: PrintedJSON | None
    parameters: Count | None
    added_parameters: int | None
    added_percent: float | None
    with_unwritten: int | None
    trained_parameters: NotRequired[Count | None]
    trained_added_parameters: NotRequired[int | None]
    quality: float | None
    accuracy: NotRequired[float | None]
    n: Count | None
    trials: NotRequired[dict[str, Count] | None]
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    gain_level: Level | None
    words: str
    ratio: RatioJSON | None
    memory_ratio: float | None


class MeasuredModel(TypedDict):
    """A model that a command was given: its reference, what was asked of it, the baseline's parameters, its input."""

    reference: str | None
    options: str
    parameters: Count | None
    input: str | None


class Reproduce(TypedDict):
    """An experiment that was made again. `commands` made it; `cluster` would make its study on other machines.

    `models` are those that were counted, timed and trained, by command. `timed_before` is when the times were taken
    that were taken over from an earlier run, "" for times of this one. `papers_model`: what was counted is
    the model whose parameters the paper prints.
    """

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
    models: NotRequired[dict[str, MeasuredModel]]
    printed_quality: Metric
    metric: Metric | None
    learned_reason: str
    withheld: str
    mode: str | None
    timed_before: NotRequired[str]
    papers_model: NotRequired[bool]
    unwritten: str | None
    arms: list[ReproducedArm]
    notes: list[str]
    warnings: list[str]


class TimedJSON(TypedDict):
    """When a folder's arms were timed, and all that their times follow from: the command as it is typed, versions,
    hashes of laurel's sources and of the user's files that models are made of, the device, and of the answer itself.
    """

    at: Needed[Moment]
    command: Needed[str]
    versions: Needed[Versions]
    code: Needed[Sha256]
    files: Needed[Sha256]
    device: Needed[str]
    answer: Needed[Sha256]


class ReproduceFolder(TypedDict):
    """reproduce.json: whose a folder is, an experiment by its name, or by its file's path from there, at a scale."""

    schema: Needed[Literal["laurel.reproduce-folder/1"]]
    experiment: Needed[Name]
    scale: Needed[Name]
    timed: NotRequired[TimedJSON]


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
