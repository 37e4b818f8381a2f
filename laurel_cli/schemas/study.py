"""laurel.study/2 and laurel.study/1: `study.json`, which says what a study is."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import ControlsJSON, Metric, SpecOptions
from laurel_cli.schemas.marks import Blocks, Needed, Unread


class ModelChoiceJSON(TypedDict):
    """Which model, and how it is made smaller: layers, width D, stride of the stem. Null for the model's own.

    `weights` are trained ones that it starts from, where it does. `mup_base` is a smaller width, whose learning rates
    serve `width` because rates and starts follow muP from there; absent where they are the model's own.
    """

    reference: str
    args: list[tuple[str, Any]]
    layers: list[int]
    width: int | None
    stem: int | None
    unwidened: NotRequired[int | None]
    weights: NotRequired[str]
    weights_sha256: NotRequired[str]
    mup_base: NotRequired[int]


class DistillationJSON(TypedDict):
    """What every arm learns from a teacher: a model with trained weights, the temperature of both models' answers, the
    share of the loss that the teacher's term has."""

    teacher: ModelChoiceJSON
    temperature: float
    share: float


class TaskChoiceJSON(TypedDict):
    """Which data: image size in pixels, windows and limits in tokens or images. Null for the task's own."""

    reference: str
    image_size: int | None
    seq_len: int | None
    tokenizer: str
    tokens: int | None
    train_limit: int | None
    evaluation_limit: int | None


class RecipePlain(TypedDict):
    """All that a trial's outcome depends on but arm and seed.

    `steps` are updates, `batch` examples an update, `warmup` a share of the steps, `laurel_lr` a factor on the rate of
    LAuReL's parameters, `clip` the largest norm of the gradient, `evaluations` how many there are, `world` the
    processes that train a trial together, `parallel` "fsdp" where each of them holds a part of every parameter.
    """

    model: ModelChoiceJSON
    task: TaskChoiceJSON
    steps: int
    batch: int
    accumulate: int
    optimizer: str
    lr: float
    warmup: float
    weight_decay: float
    momentum: float
    laurel_lr: float
    clip: float
    dtype: str
    evaluations: int
    evaluation_batch: int
    flip: bool | None
    channels_last: NotRequired[bool]
    compile: bool
    device: str
    threads: int | None
    spec: SpecOptions
    world: NotRequired[int]
    parallel: NotRequired[Literal["ddp", "fsdp"]]
    distillation: NotRequired[DistillationJSON]


class DeclaredJSON(TypedDict):
    """What was said beforehand: families of arms in the order of declaration, the blocks (seeds) at the first look and
    at most, the metric, the gain worth having in its unit, the controls and their blocks."""

    arms: Needed[list[list[str]]]
    first: Needed[Blocks]
    most: Blocks
    metric: Metric
    worth: float | None
    controls: ControlsJSON
    control_seeds: Blocks


class _Study(TypedDict):
    """What both versions hold: `sha256` of all that fixes a trial but arm and seed, `data` of the task, `code` what
    else the outcome depends on by name, `rates` factors on the learning rate by arm."""

    name: str
    sha256: str
    task: str
    model: str
    steps: int
    arms: list[str]
    against: list[str]
    seeds: list[int]
    data: str
    code: dict[str, str | None]
    rates: dict[str, float]
    recipe: RecipePlain


class StudyOne(_Study):
    """A study of before declarations were written down."""

    schema: Literal["laurel.study/1"]


class StudyTwo(_Study):
    """A study."""

    schema: Literal["laurel.study/2"]
    declared: DeclaredJSON


class Definition(TypedDict):
    """A study as its trials hold it: `study.json` of when the trial ran, of which readers ask less."""

    schema: Literal["laurel.study/1", "laurel.study/2"]
    name: Unread[str]
    sha256: str
    task: Unread[str]
    model: Unread[str]
    steps: int
    arms: list[str]
    against: Unread[list[str]]
    seeds: list[int] | Blocks
    data: Unread[str]
    code: Unread[dict[str, str | None]]
    rates: Unread[dict[str, float]]
    recipe: RecipePlain
    declared: NotRequired[DeclaredJSON]
