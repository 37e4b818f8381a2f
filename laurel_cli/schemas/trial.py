"""laurel.trial/1: one arm, trained with one seed."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import Branch, Metric, Spec, Versions
from laurel_cli.schemas.marks import Count, Name, Needed, Sha256, Share, Unread
from laurel_cli.schemas.study import Definition, ModelChoiceJSON


class TrialStudy(TypedDict):
    """The study it belongs to; `sha256` of all that fixes a trial but arm and seed."""

    name: Needed[Name]
    sha256: str
    definition: Definition


class TrialModel(TypedDict):
    """The study's own model, the baseline."""

    reference: str
    source: str
    architecture: str
    input: str


class TrialArm(TypedDict):
    """The arm: blocks that naive scaling adds, its formula, factors on rate, width, steps; how branches start; "added"
    where nothing else was trained, "lora@RANK" where adapters were beside it; "stack" or "subnets" where it grew;
    `starts` where that is not exactly as the baseline."""

    name: Needed[Name]
    kind: Needed[str]
    blocks: Count
    spec: Spec
    lr_factor: Unread[float]
    width_factor: NotRequired[Unread[float]]
    steps_factor: NotRequired[Unread[float]]
    init: NotRequired[Unread[str | None]]
    train: NotRequired[Unread[str | None]]
    grow: NotRequired[Unread[str | None]]
    starts: NotRequired[Literal["near", "to scale", "no"]]


class ArmModel(TypedDict):
    """The model that this arm was built from."""

    source: str
    recipe: ModelChoiceJSON


class TrialTask(TypedDict):
    """The data: examples are images or tokens, as `unit` says; `provenance` is where they are from."""

    name: str
    kind: str
    sha256: str
    classes: Count
    train_examples: Count
    evaluation_examples: Count
    unit: str
    provenance: dict[str, Any]


class Final(TypedDict):
    """Where it ended: step, loss in nats, accuracy as a share of 1."""

    step: Needed[Count]
    loss: float | None
    accuracy: float | None


class PointJSON(TypedDict):
    """The training loss in nats at a step, after so many samples."""

    step: Count
    samples: Count
    loss: float | None
    learning_rate: float


class Evaluation(TypedDict):
    """On the held data at a step, after so many samples: loss in nats, accuracy as a share of 1."""

    step: Needed[Count]
    samples: Count
    loss: float | None
    accuracy: float | None


class TrialParameters(TypedDict):
    """Of the arm in all, and beyond the baseline's."""

    total: Needed[Count]
    added: Needed[int]


class Coefficients(TypedDict):
    """What LAuReL learned at a connection; null for a part that the variant lacks."""

    connection: str
    a: float | None
    b: float | None
    c: list[float] | None


class TrialSeconds(TypedDict):
    """Seconds that training and evaluation took."""

    train: float
    evaluation: float


class TrialSeeds(TypedDict):
    """Of the model's start, the order of the data, the evaluation."""

    model: int
    data: int
    evaluation: int


class StageJSON(TypedDict):
    """Steps that ran so many blocks of each run, at so many FLOPs a step: three times those of its forward pass."""

    blocks: list[Count]
    steps: Count
    flops: Count


class GrowthJSON(TypedDict):
    """How a trial grew: runs of equal blocks, stages; the FLOPs of all of them, and those of the arm trained whole."""

    method: str
    runs: list[list[str]]
    stages: list[StageJSON]
    flops: Count
    budget: Count


class TrialHashes(TypedDict):
    """Of the data, of the code that trained, of the weights at the start."""

    data: str | None
    code: str | None
    start: str | None


class TrialDevice(TypedDict):
    """Where it ran, with so many threads a process and so many processes; `index` of several devices of one kind;
    `parallel` what each of several processes held, the whole model (ddp) or a part of every parameter (fsdp).

    `not_repeatable` names operations without a deterministic form: run again, the trial ends a little otherwise.
    """

    name: str
    gpu: NotRequired[str]
    index: NotRequired[int]
    threads: int | None
    processes: NotRequired[int]
    parallel: NotRequired[Literal["ddp", "fsdp"]]
    not_repeatable: NotRequired[list[str]]


class Changed(TypedDict):
    """What the study began with and what trained here; null where it was not there."""

    study: str | None
    here: str | None


class TrialPlace(TypedDict):
    """Which host, as digits that do not say its name, and the number of the attempt there."""

    host: str
    attempt: Count


class _Trial(TypedDict):
    """What every trial holds; `versions` is what the process that trained has measured, `versions_changed` what of it
    is not the study's and was allowed."""

    schema: Literal["laurel.trial/1"]
    command: str
    study: Needed[TrialStudy]
    arm: Needed[TrialArm]
    seed: Needed[int]
    versions: Versions
    place: NotRequired[TrialPlace]
    versions_changed: NotRequired[dict[str, Changed]]
    reason: str | None
    metric: Metric
    curve: Unread[list[PointJSON]]
    evaluations: list[Evaluation]


class GivenJSON(TypedDict):
    """What trained weights lose on the evaluation set before the first step, in nats: those that the trial starts from,
    and its teacher's; null for what is not finite. In trials of the baseline."""

    start: NotRequired[float | None]
    teacher: NotRequired[float | None]


class _Ran(_Trial):
    """What a trial holds that was not cut off; `warnings` say where its arm is not what its name says."""

    model: TrialModel
    arm_model: Unread[ArmModel]
    task: TrialTask
    chance_loss: Share | None
    parameters: TrialParameters
    coefficients: list[Coefficients]
    seconds: Unread[TrialSeconds]
    seeds: Unread[TrialSeeds]
    growth: NotRequired[GrowthJSON]
    warnings: NotRequired[list[str]]
    hashes: TrialHashes
    start: NotRequired[list[Branch] | None]
    given: NotRequired[GivenJSON]
    device: TrialDevice


class KeptWeights(TypedDict):
    """Where the trained weights were kept, within the study's folder, the SHA-256 of their files, and the mean and
    standard deviation of the channels that the model's images are normalised with, null for text."""

    folder: str
    sha256: Sha256
    mean: list[float] | None
    sd: list[float] | None


class CompleteTrial(_Ran):
    """A trial that came to its end.

    `chance_loss` is what a guess loses, in nats; `start` how branches start, in trials of the baseline; `weights` of
    one that was asked to keep them.
    """

    status: Needed[Literal["complete"]]
    final: Needed[Final]
    weights: NotRequired[Unread[KeptWeights]]


class DivergedTrial(_Ran):
    """A trial whose loss was no longer finite at some step."""

    status: Needed[Literal["diverged"]]
    final: Unread[None]


class FailedTrial(_Trial):
    """A trial that crashed, hung or was killed."""

    status: Needed[Literal["failed"]]
    final: Unread[None]


Trial = CompleteTrial | DivergedTrial | FailedTrial
