"""laurel.ladder/1: `ladder.json`, which says what a ladder is; laurel.ladder-report/1: what it establishes."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import ControlsJSON, Level
from laurel_cli.schemas.marks import Blocks, Count, Positive


class LadderSizeJSON(TypedDict):
    """One size, a study of its own in the folder of its name.

    `parameters` of the baseline, shared ones once; it is trained for `steps`, on `tokens`, with `flops` in all: those
    of products, three times what a forward pass takes. Its blocks have the seeds from `first_seed` on.
    """

    name: str
    width: Count
    layers: Count | None
    heads: Count | None
    parameters: Count
    steps: Count
    tokens: Count
    flops: Positive
    first_seed: Count


class LadderLookJSON(TypedDict):
    """A look that was declared: at so many of the smallest sizes, with so many blocks of each."""

    sizes: Blocks
    seeds: Blocks


class LadderJSON(TypedDict):
    """A ladder: its sizes, ascending, families of arms and looks in the order of their declaration.

    `rates` is how many learning rates are tried for every arm: at every size, or with `mup` at the smallest one; 0
    where that of the recipe is carried by muP, untried.
    """

    schema: Literal["laurel.ladder/1"]
    dial: Literal["width", "width and layers"]
    tokens_per_parameter: Positive
    rates: Blocks
    mup: NotRequired[bool]
    families: list[list[str]]
    looks: list[LadderLookJSON]
    sizes: list[LadderSizeJSON]


class EstimateJSON(TypedDict):
    """A figure with its interval at the arm's level; null where an end is infinite."""

    value: float
    low: float | None
    high: float | None


class SavedAtSize(TypedDict):
    """What an arm gains at one size.

    `gain` in nats, `flops_ratio` the arm's FLOPs over the baseline's, `saved` the FLOPs that the baseline would need
    for the arm's loss, over the arm's own; `time_saved` the same in time, where a training step of both was profiled.
    `rate` is the factor on the learning rate that its search found.
    """

    size: str
    gain: EstimateJSON
    flops_ratio: float | None
    saved: EstimateJSON | None
    time_saved: EstimateJSON | None
    rate: float | None


class LadderArm(TypedDict):
    """What a ladder establishes of one arm, every interval at `level`.

    `first`, `last` and `ahead` are times of compute saved, on the line: at the smallest size, at the largest, and ten
    times as much compute beyond it; `slope` the factor on it for a tenfold compute; `kept` how far the logarithm of
    the saving at the largest size is above half of that at the smallest. `misfit` is the mean square of what the line
    leaves over that of the blocks.
    """

    name: str
    level: Level
    verdict: str
    reason: str
    words: str
    grows: bool
    sizes: list[SavedAtSize]
    first: EstimateJSON | None
    last: EstimateJSON | None
    slope: EstimateJSON | None
    kept: EstimateJSON | None
    ahead: EstimateJSON | None
    misfit: float | None
    misfit_p: float | None


class RateGain(TypedDict):
    """What a control of the rate gains over the baseline at one size, in nats; `gain` is null where it was not run."""

    name: str
    gain: EstimateJSON | None


class LadderRung(TypedDict):
    """One size: its declaration, the baseline's mean loss in nats with its 95 % interval, what the loss falls by for a
    tenfold compute there, and what its study says of its gates. `blocks` are those that were looked at."""

    name: str
    width: Count
    layers: Count | None
    heads: Count | None
    parameters: Count
    steps: Count
    tokens: Count
    flops: float
    blocks: Count
    missing: Count
    loss: EstimateJSON | None
    fall: float | None
    learned: bool | None
    positive: str | None
    positive_gain: EstimateJSON | None
    rate_gains: NotRequired[list[RateGain]]


class DecisionJSON(TypedDict):
    """An arm at the largest size, in times of compute saved: as the smaller sizes predict it, and as measured."""

    name: str
    predicted: float
    observed: float


class DecisionsJSON(TypedDict):
    """How often the smaller sizes decide as the largest does: `right` of `pairs`, the interval of that share."""

    right: Count
    pairs: Count
    low: float
    high: float
    arms: list[DecisionJSON]


class BandPoint(TypedDict):
    """The line at one compute, in times of compute saved."""

    flops: float
    value: float
    low: float | None
    high: float | None


class Band(TypedDict):
    """An arm's line with its band, from the smallest size to ten times the largest."""

    name: str
    family: str
    points: list[BandPoint]


class FittedLoss(TypedDict):
    """The baseline's loss in nats, as fitted."""

    flops: float
    loss: float


class LadderReport(TypedDict):
    """A ladder, judged. With `mup` the rates of the smallest size are carried to the others, of which `rate_gains` at
    `rate_level` say whether they fit there. `withheld` says why nothing is claimed; `curve` holds
    the fit of the baseline's loss against compute, `answer` sentences."""

    schema: Literal["laurel.ladder-report/1"]
    command: str
    name: str
    status: Literal["complete", "partial"]
    model: str
    task: str
    dial: str
    tokens_per_parameter: float
    rates: Count
    mup: NotRequired[bool]
    families: list[list[str]]
    looks: list[LadderLookJSON]
    look: Count | None
    controls: ControlsJSON
    withheld: str
    cannot_tell: bool
    positive: EstimateJSON | None
    sizes: list[LadderRung]
    arms: list[LadderArm]
    bands: list[Band]
    curve: list[FittedLoss]
    decisions: DecisionsJSON | None
    answer: list[str]
    commands: list[str]
    notes: list[str]
    warnings: list[str]
    folder: NotRequired[str]
    rate_level: NotRequired[Level]
