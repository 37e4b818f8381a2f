"""laurel.train-proxy/2: what a study establishes, as `laurel train-proxy` prints it."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import (
    DeclarationJSON,
    Ends,
    Gained,
    LateFall,
    Level,
    LookJSON,
    Metric,
    SavedJSON,
    Starts,
    Trend,
    Visible,
)
from laurel_cli.schemas.marks import Count
from laurel_cli.schemas.trial import GivenJSON, TrialParameters


class ProxyStudy(TypedDict):
    """Its name, updates of a trial, and its blocks."""

    name: str | None
    steps: int | None
    seeds: list[int]


class ProxyTask(TypedDict):
    """The data as trials describe it; of a study without any its name alone."""

    name: str | None
    kind: NotRequired[str]
    sha256: NotRequired[str]
    classes: NotRequired[Count]
    train_examples: NotRequired[Count]
    evaluation_examples: NotRequired[Count]
    unit: NotRequired[str]
    provenance: NotRequired[dict[str, Any]]


class ProxyModelJSON(TypedDict):
    """The model as trials describe it; of a study without any its reference alone."""

    reference: str | None
    source: NotRequired[str]
    architecture: NotRequired[str]
    input: NotRequired[str]


class DifferenceJSON(TypedDict):
    """The arm's loss minus the other's, in nats (of accuracy: turned, as a share of 1); p is corrected after Holm.

    `n` blocks, or trials where none are shared; `confidence` is the interval's level; null where an end is infinite.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    n: Count
    confidence: Level
    verdict: NotRequired[str]


class ProxyControl(TypedDict):
    """The arm against a control of its recipe; `beaten` is null where that is not known."""

    control: str
    beaten: bool | None
    difference: DifferenceJSON | None


class ProxyPositive(TypedDict):
    """The positive control against the baseline; `separated` is null where that is not known."""

    arm: str
    separated: bool | None
    difference: DifferenceJSON | None


class NoiseFloor(TypedDict):
    """How far apart two runs of one and the same model end, in the metric's unit: standard deviation over n blocks."""

    arm: str | None
    what: str
    sd: float | None
    n: Count
    mean: float | None
    low: float | None
    high: float | None
    p: float | None


class ProxyTrial(TypedDict):
    """One trial: its figure in the metric's unit, null where it has none."""

    seed: int
    status: Literal["complete", "diverged", "failed", "missing"]
    loss: float | None
    reason: str | None


class BitsPerByte(TypedDict):
    """The mean loss in bits per byte of text, with its 95 % interval; null ends where one trial has none."""

    mean: float
    low: float | None
    high: float | None


class ProxyArm(TypedDict):
    """One arm: mean loss in nats and accuracy as a share of 1, with 95 % intervals, and what is established of it."""

    name: str
    kind: str
    role: Literal["baseline", "copy", "arm", "positive", "recipe", "budget"]
    mean: float | None
    low: float | None
    high: float | None
    n: Count
    accuracy: float | None
    accuracy_low: NotRequired[float | None]
    accuracy_high: NotRequired[float | None]
    bits_per_byte: NotRequired[BitsPerByte | None]
    difference: DifferenceJSON | None
    to_naive: DifferenceJSON | None
    controls: list[ProxyControl]
    correlation: float | None
    excluded: Ends | None
    smallest_visible: Visible | None
    gains: list[Gained]
    trend: Trend
    worth: str | None
    steps_saved: SavedJSON | None
    parameters_saved: SavedJSON | None
    parameters: TrialParameters | None
    trials: list[ProxyTrial]
    failed: Count
    verdict: str | None
    reason: str
    words: str
    repair: NotRequired[str]


class TrainProxy(TypedDict):
    """A study, judged. `blocks` are complete ones, `n` the baseline's trials, `chance_loss` in nats what a guess loses;
    `learned` is null where it cannot be told. `folder` is the study's."""

    schema: Literal["laurel.train-proxy/2"]
    command: str
    status: Literal["complete", "partial"]
    study: ProxyStudy
    task: ProxyTask
    model: ProxyModelJSON
    starts_from: NotRequired[str | None]
    taught_by: NotRequired[str | None]
    given: NotRequired[GivenJSON]
    metric: Metric
    declared: DeclarationJSON
    learned: bool | None
    learned_reason: str
    chance_loss: float | None
    n: Count
    blocks: Count
    look: LookJSON | None
    withheld: str
    positive_control: ProxyPositive | None
    late_fall: LateFall | None
    start: Starts | None
    noise_floor: NoiseFloor | None
    arms: list[ProxyArm]
    warnings: list[str]
    notes: list[str]
    folder: NotRequired[str]  # of what a command prints
