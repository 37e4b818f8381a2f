"""What fixes a trial but for its arm and its seed: model, task, optimiser, budget. Plain data, no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import PurePath
from typing import Any

from laurel_cli.arms import Arm, parse_arms
from laurel_cli.errors import UsageError
from laurel_cli.records.store import sha256_of

OPTIMIZERS = ("adamw", "sgd", "muon")
SEARCH_SEED = 2_000_000  # of the learning-rate search: no block of a study has it
_FACTOR = re.compile(r"(lr|width)=(\d+(?:\.\d*)?|\.\d+)")


@dataclass(frozen=True)
class ModelChoice:
    """Which model, and how it is made smaller.

    Attributes:
        reference: as `laurel analyze` takes it.
        args: keyword arguments of its constructor, as (name, value).
        layers: repeated blocks, one number or one for each stage; empty for the model's own.
        width: D (of a ResNet, the channels of its first stage); None for the model's own.
        stem: total stride of a ResNet's stem, 1, 2 or 4; None goes by the image size.
    """

    reference: str
    args: tuple[tuple[str, Any], ...] = ()
    layers: tuple[int, ...] = ()
    width: int | None = None
    stem: int | None = None


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

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "evaluations", "evaluation_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{_option(name)} {getattr(self, name)} is not a positive number.")
        if self.batch % self.accumulate:
            raise UsageError(
                f"--batch {self.batch} cannot be parted into {self.accumulate} equal parts.",
                hint="Let --accumulate divide --batch.",
            )
        if not 0 < self.lr < float("inf") or not 0 <= self.warmup < 1 or self.clip < 0 or self.laurel_lr < 0:
            raise UsageError("--lr, --warmup, --clip or --laurel-lr is out of range.", hint="Try --lr 0.003.")
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(
                f"--optimizer {self.optimizer!r} is unknown.", hint=f"It is one of {', '.join(OPTIMIZERS)}."
            )

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Recipe:
        """The recipe that `plain` gave."""
        model, task = dict(plain["model"]), dict(plain["task"])
        model["args"] = tuple((str(key), _tuples(value)) for key, value in model["args"])
        model["layers"] = tuple(model["layers"])
        known = {item.name for item in fields(cls)}
        rest = {key: value for key, value in plain.items() if key in known - {"model", "task"}}
        return cls(model=ModelChoice(**model), task=TaskChoice(**task), **rest)

    @property
    def sha256(self) -> str:
        """Of its plain form."""
        return sha256_of(self.plain())


@dataclass(frozen=True)
class Contender:
    """An arm of a study: what is built, and how its recipe differs from that of the others.

    Attributes:
        name: "rw+lr@16", "baseline:lr=0.5", "against:wide.py:build".
        arm: what is built.
        lr: factor on the learning rate.
        width: factor on the model's width.
        reference: another model in the baseline's place, else "".
    """

    name: str
    arm: Arm
    lr: float = 1.0
    width: float = 1.0
    reference: str = ""

    @property
    def kind(self) -> str:
        """The arm's; a baseline of which a rate was typed, and whatever is wider, is as any other model."""
        typed = self.name != self.arm.name  # not by the rate, which a search may have found
        other = self.width != 1 or (typed and self.arm.kind in ("baseline", "copy"))
        return "against" if other else self.arm.kind

    def recipe(self, shared: Recipe) -> Recipe:
        """The recipe of this arm."""
        model = shared.model
        if self.reference:
            model = replace(model, reference=self.reference, args=(), layers=(), width=None, stem=None)
        if self.width != 1:
            if model.width is None:
                raise UsageError(f"Arm {self.name!r} needs --width.", "It multiplies it.", "Name the baseline's width.")
            model = replace(model, width=round(model.width * self.width))
        return replace(shared, model=model, lr=shared.lr * self.lr)


def parse_contenders(text: str, against: tuple[str, ...] = (), **spec: Any) -> list[Contender]:
    """Read "baseline,naive+1,rw+lr@16,baseline:lr=0.5"; the baseline comes first, named or not.

    Args:
        text: arms, separated by commas; ":lr=FACTOR" and ":width=FACTOR" after a name change that arm's recipe.
        against: references of other models.
        spec: fields of every `Spec`.

    Raises:
        UsageError: an unknown name or factor.
    """
    found: dict[str, Contender] = {}
    for part in ["baseline", *text.split(",")]:
        base, *settings = part.strip().lower().split(":")
        if not base:
            continue
        factors: dict[str, float] = {}
        for setting in settings:
            match = _FACTOR.fullmatch(setting)
            if match is None or not float(match[2]):
                raise UsageError(
                    f"Arm {part.strip()!r} cannot be read.",
                    f"{setting!r} is neither lr=FACTOR nor width=FACTOR.",
                    f"Try {base}:lr=0.5.",
                )
            factors[match[1]] = float(match[2])
        arm = parse_arms(base, **spec)[-1]
        name = ":".join([arm.name, *(f"{key}={value:g}" for key, value in factors.items())])
        found.setdefault(name, Contender(name, arm, factors.get("lr", 1.0), factors.get("width", 1.0)))
    for reference in against:
        name = f"against:{PurePath(reference).name}"  # where it lies is no part of its name
        if name in found:
            raise UsageError(f"Two arms are called {name!r}.", hint="Name --against once, or rename a factory.")
        found[name] = Contender(name, Arm(name, "against"), reference=reference)
    return list(found.values())


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
