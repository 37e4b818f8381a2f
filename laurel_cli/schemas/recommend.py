"""laurel.recommend/2: which arm to try first, as `laurel recommend` prints it."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import ControlsJSON, Metric, Spec, Trend
from laurel_cli.schemas.marks import Count
from laurel_cli.schemas.report import ReportedCost, ReportedGain, ReportedModel


class Advice(TypedDict):
    """An arm, and the options that build it."""

    arm: str
    options: str


class Untested(Advice):
    """What one might try, and why."""

    why: str


class AdvisingStudy(TypedDict):
    """A study: parameters of its model, complete trials, whether it can tell; verdicts in words by arm."""

    name: str
    task: str
    metric: Metric
    parameters: Count | None
    trials: Count
    tells: bool
    controls: ControlsJSON
    answer: str
    verdicts: dict[str, str]


class SaidOfArm(TypedDict):
    """What one study says of an arm; `late_fall` is the baseline's over the last part, in the metric's unit.

    `starts_from` names the trained weights that its trials start from, `taught_by` the teacher beside which they learn.
    """

    study: str
    verdict: str
    words: str
    gain: ReportedGain | None
    metric: Metric
    worth: str | None
    late_fall: float | None
    trend: Trend | None
    starts_from: NotRequired[str | None]
    taught_by: NotRequired[str | None]


class CandidateJSON(TypedDict):
    """An arm: whether it fits the budgets, what it costs, what is said of it."""

    arm: str
    formula: str
    rank: int | None
    spec: Spec
    fits: Literal["yes", "perhaps", "not measured", "no"]
    costs: dict[str, ReportedCost]
    verdicts: list[SaidOfArm]
    established: bool
    worth: bool
    verdict: str


class Recommend(TypedDict):
    """The advice, null where nothing is established; budgets by cost, in percent beyond the baseline."""

    schema: Literal["laurel.recommend/2"]
    command: str
    model: ReportedModel
    budgets: dict[str, float]
    advice: Advice | None
    untested: Untested | None
    why: list[str]
    disagreements: list[str]
    studies: list[AdvisingStudy]
    rests_on: list[str]
    candidates: list[CandidateJSON]
    next: list[str]
    warnings: list[str]
