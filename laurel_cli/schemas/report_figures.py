"""What the figures of laurel.report/2 show: curves, sweeps, times, places, learned weights."""

from __future__ import annotations

from typing import TypedDict

from laurel_cli.schemas.common import Level
from laurel_cli.schemas.marks import Count


class Mean(TypedDict):
    """A mean over n trials with its 95 % interval, in the unit of the metric that is shown."""

    mean: float
    low: float | None
    high: float | None
    n: Count


class CurvePoint(Mean):
    """At an evaluation, after so many samples."""

    step: Count
    samples: Count


class Curve(TypedDict):
    """An arm's evaluations."""

    arm: str
    family: str
    points: list[CurvePoint]


class SweepPoint(Mean):
    """Of one rank."""

    arm: str
    rank: int


class Sweep(TypedDict):
    """Arms that differ in their rank alone."""

    name: str
    family: str
    points: list[SweepPoint]


class TimeRatio(TypedDict):
    """A ratio of times with its interval."""

    median: float
    low: float | None
    high: float | None
    verdict: str | None
    p_holm: float | None
    level: Level


class TimedArm(TimeRatio):
    """An arm's time over the baseline's, of each placement too."""

    arm: str
    family: str
    to_naive: TimeRatio | None
    placements: list[float]
    source: str


class Latencies(TypedDict):
    """The arms that were timed in one setting."""

    setting: str
    mode: str
    arms: list[TimedArm]


class ReportedPlace(TypedDict):
    """How many parameters stand at a connection, and of which stream it is."""

    connection: str
    parameters: int
    stream: int | None


class Where(TypedDict):
    """Where an arm's parameters stand."""

    arm: str
    family: str
    places: list[ReportedPlace]
    source: str


class Learned(TypedDict):
    """The residual weights at a connection, means over the complete trials."""

    connection: str
    a: float | None
    b: float | None


class LearnedOfArm(TypedDict):
    """What an arm's residual weights became."""

    arm: str
    family: str
    places: list[Learned]
