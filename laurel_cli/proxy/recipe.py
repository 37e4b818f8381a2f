"""What fixes a trial but for its arm and its seed: model, task, optimiser, budget. Plain data, no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.proxy.defaults import TEACHER_SHARE, TEMPERATURE
from laurel_cli.records.canonical import sha256_of

OPTIMIZERS = ("adamw", "sgd", "muon")
PARALLEL = ("ddp", "fsdp")
SEARCH_SEED = 2_000_000  # of the learning-rate search: no block of a study has it


@dataclass(frozen=True)
class ModelChoice:
    """Which model, and how it is made smaller.

    Attributes:
        reference: as `laurel analyze` takes it.
        args: keyword arguments of its constructor, as (name, value).
        layers: repeated blocks, one number or one for each stage; empty for the model's own.
        width: D (of a ResNet, the channels of its first stage); None for the model's own.
        stem: total stride of a ResNet's stem, 1, 2 or 4; None goes by the image size.
        unwidened: of a wider arm, the width whose number of attention heads it keeps; None for `width` itself.
        weights: trained ones to start from, a file or a folder of safetensors, and their checksum; "" for weights that
            each seed draws.
        mup_base: a smaller width whose learning rates serve `width`, by `laurel_cli.proxy.mup`; None where rates and
            starts are the model's own.
    """

    reference: str
    args: tuple[tuple[str, Any], ...] = ()
    layers: tuple[int, ...] = ()
    width: int | None = None
    stem: int | None = None
    unwidened: int | None = None
    weights: str = ""
    weights_sha256: str = ""
    mup_base: int | None = None

    @property
    def base(self) -> ModelChoice:
        """The model of the width `mup_base`, as it is by itself."""
        return replace(self, width=self.mup_base, unwidened=None, mup_base=None)


@dataclass(frozen=True)
class Distillation:
    """What a model learns from a teacher beside the targets; the formula is that of `distil.loss`.

    Attributes:
        teacher: a model with trained weights.
        temperature: T, by which both models' logits are divided.
        share: s, of the teacher's term; the targets have the rest.

    Raises:
        UsageError: a number that means nothing.
    """

    teacher: ModelChoice
    temperature: float = TEMPERATURE
    share: float = TEACHER_SHARE

    def __post_init__(self) -> None:
        for name, value, most, range_, usual in (
            ("temperature", self.temperature, math.inf, "above 0", TEMPERATURE),
            ("teacher_share", self.share, 1.0, "above 0, at most 1", TEACHER_SHARE),
        ):
            if not (0 < value <= most and value < math.inf):  # nor nan
                raise UsageError(f"`{name}={value:g}` is out of range.", f"It is {range_}.", f"Try `{name}={usual:g}`.")


@dataclass(frozen=True)
class TaskChoice:
    """Which data; the fields are the arguments of `open_task`."""

    reference: str
    image_size: int | None = None
    seq_len: int | None = None
    tokenizer: str = "bytes"
    tokens: int | None = None
    train_limit: int | None = None
    evaluation_limit: int | None = None


@dataclass(frozen=True)
class Recipe:
    """All that a trial's outcome depends on but arm and seed.

    Attributes:
        steps: updates of the weights.
        batch: examples an update, over all devices; `accumulate` parts it.
        optimizer: "adamw", "sgd" (Nesterov's momentum) or "muon" (matrices; the rest by AdamW).
        lr: at its peak, after `warmup` (a share of the steps); then it falls in a straight line to zero.
        weight_decay: of matrices and kernels; none for biases, norms, embeddings and LAuReL's own.
        laurel_lr: factor on the rate of LAuReL's parameters.
        clip: largest norm of the gradient, 0 for any.
        dtype: float32, or what autocast uses.
        evaluations: how often the model is evaluated, at even distances, the last time at the end.
        evaluation_batch: examples at once.
        flip: mirror half of the images; None where the task's images are natural.
        channels_last: images and kernels with their channels innermost in memory, where convolutions are fastest.
        compile: through `torch.compile`.
        device: where it trains; `threads` of a process on the CPU.
        spec: fields of every LAuReL spec.
        world: processes that train a trial together.
        parallel: what each of them holds: "ddp" the whole model, "fsdp" a part of every parameter.
        distillation: what every arm, the baseline too, learns from a teacher; None where there is none.
    """

    model: ModelChoice
    task: TaskChoice
    steps: int = 400
    batch: int = 64
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 3e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    momentum: float = 0.9
    laurel_lr: float = 1.0
    clip: float = 1.0
    dtype: str = "float32"
    evaluations: int = 8
    evaluation_batch: int = 250
    flip: bool | None = None
    channels_last: bool = True
    compile: bool = False
    device: str = "cpu"
    threads: int | None = 1
    spec: Mapping[str, Any] = field(default_factory=dict)
    world: int = 1
    parallel: str = "ddp"
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "evaluations", "evaluation_batch", "world"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}={getattr(self, name)}` is not a positive number.")
        if self.batch % self.accumulate:
            raise UsageError(
                f"`batch={self.batch}` cannot be parted into {self.accumulate} equal parts.",
                hint="Let `accumulate` divide `batch`.",
            )
        infinity = float("inf")
        for name, fits, range_, usual in (
            ("lr", 0 < self.lr < infinity, "above 0", 0.003),
            ("warmup", 0 <= self.warmup < 1, "a share of the steps, from 0 to below 1", 0.1),
            ("clip", 0 <= self.clip <= infinity, "0 or above", 1.0),
            ("laurel_lr", 0 <= self.laurel_lr < infinity, "0 or above", 1.0),
        ):
            if not fits:  # nor does nan
                shown = f"`{name}={getattr(self, name):g}`"
                raise UsageError(f"{shown} is out of range.", f"It is {range_}.", f"Try `{name}={usual:g}`.")
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(
                f"`optimizer={self.optimizer!r}` is unknown.", hint=f"It is one of {', '.join(OPTIMIZERS)}."
            )
        self._check_parallel()

    def _check_parallel(self) -> None:
        if self.parallel not in PARALLEL:
            raise UsageError(f"`parallel={self.parallel!r}` is unknown.", hint=f"It is one of {', '.join(PARALLEL)}.")
        if self.parallel == "ddp":
            return
        if self.world == 1:
            why = "It parts the parameters among the processes that train one trial."
            raise UsageError("`parallel='fsdp'` needs several processes.", why, "Add `world=2`.")
        if self.optimizer == "muon":
            what = "`optimizer='muon'` and `parallel='fsdp'` contradict each other."
            why = "It works in bfloat16, and updates of parted matrices were seen to differ from those of whole ones."
            raise UsageError(what, why, "Try `optimizer='adamw'`.")
        if self.compile:
            why = "Models whose parameters are parted were compiled in no test."
            raise UsageError(
                "`compile=True` and `parallel='fsdp'` contradict each other.", why, "Leave one of them out."
            )

    def plain(self) -> dict[str, Any]:
        """As JSON values; what was so before there was anything else goes without saying: one process, each with the
        whole model, drawn weights, rates of the model's own width, no teacher."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for model in (plain["model"], *([plain["distillation"]["teacher"]] if self.distillation else [])):
            if model["mup_base"] is None:
                del model["mup_base"]
        if self.world == 1:
            del plain["world"]
        if self.parallel == "ddp":
            del plain["parallel"]
        if not self.model.weights:
            del plain["model"]["weights"], plain["model"]["weights_sha256"]
        if self.distillation is None:
            del plain["distillation"]
        return plain

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Recipe:
        """The recipe that `plain` gave."""
        known = {item.name for item in fields(cls)}
        rest = {key: value for key, value in plain.items() if key in known - {"model", "task"}}
        if rest.get("distillation"):
            taught = dict(rest["distillation"])
            rest["distillation"] = Distillation(**taught | {"teacher": _model_of(taught["teacher"])})
        return cls(model=_model_of(plain["model"]), task=TaskChoice(**plain["task"]), **rest)

    @property
    def references(self) -> tuple[str, ...]:
        """Of the models that are built for a trial: its own, and its teacher's."""
        taught = self.distillation
        return (self.model.reference, *((taught.teacher.reference,) if taught else ()))

    @property
    def sha256(self) -> str:
        """Of its plain form."""
        return sha256_of(self.plain())


def kept_under_mup() -> UsageError:
    """Weights alone are not what was trained: logits are scaled beside them."""
    what = "Weights that muP's rules trained are not kept."
    return UsageError(what, "They scale the logits, where no weight says so.", "Leave `keep_weights` out.")


def _model_of(plain: Mapping[str, Any]) -> ModelChoice:
    args = tuple((str(key), _tuples(value)) for key, value in plain["args"])
    return ModelChoice(**{**plain, "args": args, "layers": tuple(plain["layers"])})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
