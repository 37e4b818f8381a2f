"""Parts that several documents share. Counts, percentages and names have no unit; everything else says its own."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from laurel_cli.schemas.marks import Count, Needed, Positive

Versions = dict[str, str | None]
"""By the name of a package, "python" and "laurel" among them; null where it is not installed."""
Metric = Literal["loss", "accuracy"]
"""A loss is in nats, an accuracy a share of 1."""
Trend = Literal["lasting", "fading", "growing", "no trend seen"]
Level = float
"""Of an interval: 0.95 for 95 %."""


class LaurelSpec(TypedDict):
    """LAuReL's formula at every connection: its parts, and their settings."""

    rw: Needed[bool]
    lr: bool
    pa: bool
    rank: int
    lags: int | None
    history: str
    normalize: str
    vector_weights: bool
    init: str
    per: str


class DescribedSpec(TypedDict):
    """The same as `laurel analyze` says it; null for what does not matter to the variant. Lags may be "all"."""

    variant: Needed[str]
    rank: int | None
    lags: int | Literal["all"] | None
    history: str
    normalize: str | None
    vector_weights: bool
    init: str | None
    per: str


class RivalSpec(TypedDict):
    """The formula of a rival by its name and the settings of its own class; a rival of another package has others."""

    rival: Needed[str]
    per: NotRequired[str]
    rank: NotRequired[int]
    streams: NotRequired[int]
    blocks: NotRequired[int]
    size: NotRequired[int]
    last: NotRequired[bool]
    mixes: NotRequired[bool]


class IntervalJSON(TypedDict):
    """A figure with the ends of its interval, null where an end is infinite; `confidence` is the interval's level."""

    median: Needed[Positive]
    low: float | None
    high: float | None
    confidence: NotRequired[Level]


class Options(TypedDict):
    """How the model was built and what it ran on, as it was asked for; null or empty for the model's own.

    `weights` are trained ones that a study started from, where it did.
    """

    reference: NotRequired[str]
    args: NotRequired[list[Any]]
    layers: NotRequired[list[int]]
    width: NotRequired[int | None]
    stem: NotRequired[int | None]
    unwidened: NotRequired[int | None]
    mup_base: NotRequired[int | None]
    weights: NotRequired[str]
    weights_sha256: NotRequired[str]
    batch: NotRequired[int | None]
    seq_len: NotRequired[int | None]
    image_size: NotRequired[int | None]
    input_shape: NotRequired[Any]
    inputs: NotRequired[list[Any]]
    model_args: NotRequired[dict[str, Any]]


class SpecOptions(TypedDict):
    """Fields of every spec, as they were asked for."""

    rank: NotRequired[int]
    lags: NotRequired[int | None]
    history: NotRequired[str]
    normalize: NotRequired[str]
    vector_weights: NotRequired[bool]
    init: NotRequired[str]
    per: NotRequired[str]


class LookJSON(TypedDict):
    """A look at a study: after `n` blocks (seeds), with `alpha` of the 5 % to spend."""

    n: Count
    alpha: float


class ControlsJSON(TypedDict):
    """Names of the arms that the others are held against; the ratio is the positive one's FLOPs over the baseline's."""

    positive: str | None
    recipe: list[str]
    budget: str | None
    positive_flops_ratio: NotRequired[float | None]


class DeclarationJSON(TypedDict):
    """What was declared: families of arms, blocks at the first look and at most, the gain worth having in the metric's
    unit, and the first looks."""

    families: list[list[str]]
    first: Count
    most: Count
    metric: Metric
    worth: float | None
    controls: ControlsJSON
    looks: list[LookJSON]


class LateFall(TypedDict):
    """By how much the baseline's metric still got better over the last share of its run, in its own unit."""

    mean: float
    low: float | None
    high: float | None
    n: Count
    share_of_run: float


class Branch(TypedDict):
    """|f| / |x| at a connection before the first step, null where x is zero."""

    connection: Needed[str]
    ratio: Needed[float | None]


class Starts(TypedDict):
    """How branches start: the number of connections, those whose branch is zero, |f| / |x| of the others."""

    connections: Count
    zero: list[str]
    smallest: float | None
    largest: float | None
    ratios: list[Branch]


class Gained(TypedDict):
    """The gain over the baseline at one evaluation, in the metric's unit, with its 95 % interval over n blocks."""

    step: Count
    gain: float
    low: float | None
    high: float | None
    n: Count


class Ends(TypedDict):
    """Between what a difference lies, in the metric's unit; `level` of that interval."""

    low: float | None
    high: float | None
    level: NotRequired[Level]


class Visible(TypedDict):
    """The smallest gain that such a study finds four times in five, in the metric's unit, with its 95 % interval."""

    value: float
    low: float | None
    high: float | None


class SavedJSON(TypedDict):
    """What an arm saves, steps or a multiple of a cost; null where an end is beyond what was measured.

    `at_least` where the mean is a lower bound; `level` of the interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    at_least: bool
    level: NotRequired[Level]


Spec = LaurelSpec | RivalSpec | None
