"""laurel.report/2: all that was recorded, as `laurel report` prints it."""

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
    Spec,
    Starts,
    Trend,
    Visible,
)
from laurel_cli.schemas.marks import Count
from laurel_cli.schemas.report_figures import Curve, Latencies, LearnedOfArm, Sweep, Where


class ReportedModel(TypedDict):
    """The model, the newest record's words for it, and every input that it was measured with."""

    reference: str
    source: str
    architecture: str | None
    parameters: Count | None
    inputs: list[str]


class ReportedTask(TypedDict):
    """The data: examples are images or tokens, as `unit` says."""

    title: str
    name: str | None
    kind: str | None
    classes: Count | None
    train_examples: Count | None
    evaluation_examples: Count | None
    unit: str | None


class ReportedGain(TypedDict):
    """A gain in the metric's unit, positive is better; p, and p corrected after Holm; n blocks (unpaired: trials).

    `level` is that of the interval, of which an end is null where it is infinite.
    """

    gain: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    n: Count
    paired: bool
    level: Level


class GainToNaive(ReportedGain):
    """The gain over `naive+1`."""

    verdict: str | None


class ReportedPositive(TypedDict):
    """The positive control against the baseline."""

    arm: str
    separated: bool | None
    gain: ReportedGain | None


class States(TypedDict):
    """Numbers of trials."""

    complete: Count
    diverged: Count
    failed: Count


class Floor(TypedDict):
    """How far apart two runs of one and the same model end: a standard deviation in the metric's unit."""

    what: str
    sd: float | None
    gain: ReportedGain | None


class VisibleOverall(TypedDict):
    """The smallest gains that the study finds four times in five, over its arms, in the metric's unit."""

    smallest: float
    largest: float
    low: float
    high: float


class EqualQuality(TypedDict):
    """Whether one may ask what as much quality would cost by naive scaling, and why."""

    known: bool
    why: str


class ReportedStudy(TypedDict):
    """A study: what was declared, whether it can tell, what there is of it.

    `metric` decides, `shown` is what figures are of; `blocks` are complete ones, `missing` trials have left no record;
    `chance_loss` in nats. `starts_from` names the trained weights that its trials start from, `taught_by` the teacher
    beside which they learn. `definition` is the study.json that was found last, as it was found.
    """

    name: str
    sha256: str | None
    definition: dict[str, Any]
    task: ReportedTask
    device: str
    metric: Metric
    shown: Metric
    better: Literal["higher", "lower"]
    declared: DeclarationJSON
    learned: bool | None
    learned_reason: str
    chance_loss: float | None
    blocks: Count
    look: LookJSON | None
    withheld: str
    late_fall: LateFall | None
    start: Starts | None
    starts_from: NotRequired[str | None]
    taught_by: NotRequired[str | None]
    cannot_tell: bool
    positive_control: ReportedPositive | None
    missing: Count
    trials: States
    paired: bool | None
    correlation: float | None
    noise_floor: Floor | None
    smallest_visible: VisibleOverall | None
    equal_quality: EqualQuality
    warnings: list[str]


class ReportedQuality(TypedDict):
    """The mean over n complete trials with its interval, and the figure of each by its seed, in the metric's unit."""

    mean: float
    low: float | None
    high: float | None
    level: Level
    n: Count
    values: dict[str, float]


class ReportedControl(TypedDict):
    """The arm against a control of its recipe."""

    control: str
    beaten: bool | None
    gain: ReportedGain | None


class ShareOfNaive(TypedDict):
    """The share of naive scaling's gain that the arm has, 1 for all of it."""

    of: str
    value: float
    low: float | None
    high: float | None
    level: Level


class ReportedCost(TypedDict):
    """What an arm costs beyond the baseline in percent, with its interval where it was measured (`level`, else null).

    `total` and `added` in the unit of the cost: parameters, FLOPs, milliseconds or bytes. `elementwise_added`: further
    operations element by element. With `lower_bound` an operator was not counted: `total` is at least that, and the
    ends are null where the baseline does not have that operator as often.
    """

    percent: float | None
    low: float | None
    high: float | None
    level: Level | None
    total: float | None
    added: float | None
    elementwise_added: NotRequired[int | None]
    lower_bound: NotRequired[bool]


class ReportedArmJSON(TypedDict):
    """An arm; `role` and what follows from a study are null where it was not trained."""

    name: str
    kind: str
    role: Literal["baseline", "copy", "arm", "positive", "recipe", "budget"] | None
    family: str
    blocks: Count
    spec: Spec
    trials: States
    reasons: list[str]
    quality: ReportedQuality | None
    gain: ReportedGain | None
    controls: list[ReportedControl]
    to_naive: GainToNaive | None
    excluded: Ends | None
    smallest_visible: Visible | None
    gains: list[Gained]
    trend: Trend | None
    worth: str | None
    steps_saved: SavedJSON | None
    share_of_naive: ShareOfNaive | None
    verdict: str
    words: str
    repair: NotRequired[str]
    reason: str
    within: str
    costs: dict[str, ReportedCost]


class Times(TypedDict):
    """How many times less the arm costs than naive scaling to the same quality; null where an end is infinite."""

    times: float | None
    low: float | None
    high: float | None
    level: Level
    at_least: bool


class PanelArm(TypedDict):
    """An arm in a panel: its cost beyond the baseline in percent, and whether it is on the frontier."""

    name: str
    cost_percent: float
    cost_low: float | None
    cost_high: float | None
    level: Level | None
    elementwise_added: int | None
    lower_bound: NotRequired[bool]
    status: str
    times_fewer: Times | None


class ReportedPanel(TypedDict):
    """One cost against quality; `sources` are the names of the records that its figures are from."""

    name: str
    cost: str
    title: str
    setting: str
    sources: list[str]
    arms: list[PanelArm]
    missing: list[str]


class Order(ReportedGain):
    """Two arms, the one ahead first, and whether their order is established."""

    better: str
    worse: str
    established: bool


class SettingJSON(TypedDict):
    """A cost, under what it was measured, and the records that it is from."""

    name: str
    title: str
    setting: str
    sources: list[str]


class PaperRow(TypedDict):
    """An arm beside the paper's: points of accuracy, shares of naive scaling's gain, times fewer parameters."""

    arm: str
    paper_gain_points: float
    paper_share_of_naive_gain: float
    paper_times_fewer: float
    share_of_naive: ShareOfNaive | None
    times_fewer: Times | None


class Paper(TypedDict):
    """The paper's Table 1 beside this study."""

    source: str
    remark: str
    rows: list[PaperRow]


class ReportedPrinted(TypedDict):
    """Parameters added as the paper prints them and as they were counted, in percent of the baseline's."""

    arm: str
    paper_percent: float
    percent: float | None
    remark: str


class Comparison(TypedDict):
    """One model, with one study of it or none. `partial` where not all that was planned is there."""

    model: ReportedModel
    study: ReportedStudy | None
    partial: bool
    arms: list[ReportedArmJSON]
    panels: list[ReportedPanel]
    orders: list[Order]
    curves: list[Curve]
    sweeps: list[Sweep]
    latencies: list[Latencies]
    where: list[Where]
    coefficients: list[LearnedOfArm]
    settings: list[SettingJSON]
    notes: list[str]
    answer: list[str]
    paper: Paper | None
    printed: list[ReportedPrinted]
    caveats: list[str]


class FormulaText(TypedDict):
    """How a figure comes about."""

    name: str
    text: str
    source: str


class Environment(TypedDict):
    """With what records of a kind were made."""

    kind: str
    device: str
    versions: str


class ReportJSON(TypedDict):
    """Every comparison; numbers of records by kind, and of files that could not be read."""

    schema: Literal["laurel.report/2"]
    command: str
    records: dict[str, Count]
    unreadable: Count
    comparisons: list[Comparison]
    formulas: list[FormulaText]
    environment: list[Environment]
    commands: list[str]
    warnings: list[str]
