"""Settings of `laurel train-proxy`: what is trained on, what of it, and how; what the study is stands in `study`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from laurel_cli.proxy import defaults
from laurel_cli.settings import read
from laurel_cli.settings.base import ARGUMENT, Settings, says
from laurel_cli.settings.executors import ExecutorSettings
from laurel_cli.settings.shared import (
    ARMS,
    DEVICE_HELP,
    MODEL,
    ArmFileSettings,
    FormulaSettings,
    ModelArgSettings,
    device_names,
)
from laurel_cli.settings.study import ProcessSettings, StudySettings, counted
from laurel_cli.settings.teacher import TeacherSettings

if TYPE_CHECKING:
    from laurel_cli.study.run import Happening

TASK, TRAINING = "Task", "Training"
IMAGE, TEXT = defaults.BUDGETS["image"], defaults.BUDGETS["text"]


@dataclass(frozen=True)
class ProxyModel(Settings):
    """Which model, the proxy of the task where none is named."""

    model: str | None = field(
        default=None,
        metadata=says(
            "As laurel analyze takes it.",
            name=ARGUMENT,
            metavar="[MODEL]",
            shown="paper-c4, 4 layers of 32, for text; timm:resnet18, stages of 2, 1, 1, 1 blocks, 16 channels "
            "wide, for images",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class TaskSettings(Settings):
    """What is trained on."""

    task: str | None = field(
        default=None,
        metadata=says(
            "stdlib, scenes, imagefolder:DIR, cifar10:DIR, cifar100:DIR, imagenet:DIR, text:FILE,..., "
            "hf:DATASET, c4 or fineweb. stdlib and scenes need no data.",
            TASK,
            metavar="TASK",
            shown="stdlib; with a MODEL scenes",
        ),
    )
    data_root: str | Path | None = field(
        default=None,
        metadata=says(
            "Folder that a task's relative paths begin at, on this machine: where data lies is no part of a study.",
            TASK,
            metavar="DIR",
            shown="LAUREL_DATA_ROOT, else the working folder",
            text=Path | None,
        ),
    )
    image_size: int | None = field(default=None, metadata=counted("Pixels along each side.", TASK, "the images' own"))
    seq_len: int | None = field(
        default=None, metadata=counted("Tokens that a model is given at once.", TASK, str(defaults.TEXT_LENGTH))
    )
    tokenizer: str = field(
        default="bytes", metadata=says("bytes, bpe, bpe:VOCABULARY or a FILE.json.", TASK, metavar="NAME")
    )
    tokens: int | None = field(
        default=None, metadata=counted("To take from a dataset that is streamed.", TASK, "10 million")
    )
    train_limit: int | None = field(
        default=None, metadata=counted("Use so many training images or tokens.", TASK, "all")
    )
    evaluation_limit: int | None = field(
        default=None,
        metadata=counted(
            "Evaluate on so many images or tokens.", TASK, f"all; of stdlib {defaults.EVALUATED['stdlib']}"
        ),
    )
    flip: bool | None = field(
        default=None,
        metadata=says("Mirror half of the images.", TASK, name="--flip/--no-flip", shown="photographs alone"),
    )


@dataclass(frozen=True, kw_only=True)
class SizeSettings(Settings):
    """How the model is made smaller, and what it starts from."""

    layers: int | Sequence[int] | None = field(
        default=None,
        metadata=says(
            "Layers of the model, or blocks of each stage: 4 or 2,2,2,2.",
            MODEL,
            metavar="LIST",
            text=str | None,
            read=read.depths,
        ),
    )
    width: int | None = field(
        default=None,
        metadata=counted("Width of the model; of a ResNet, channels of its first stage.", MODEL, "the model's own"),
    )
    stem: int | None = field(
        default=None,
        metadata=says(
            "Total stride of a ResNet's stem: 1, 2 or 4.",
            MODEL,
            metavar="N",
            shown="1 up to 32 pixels, 2 up to 64, else 4",
        ),
    )

    weights: str | Path | None = field(
        default=None,
        metadata=says(
            "Start from these trained weights, a file of safetensors or a folder of them.",
            MODEL,
            metavar="FILE",
            shown="weights that each seed draws",
            text=Path | None,
        ),
    )

    @property
    def depths(self) -> tuple[int, ...]:
        """`layers` as a tuple."""
        return (self.layers,) if isinstance(self.layers, int) else tuple(self.layers or ())


@dataclass(frozen=True)
class StudyArms(Settings):
    """What is compared."""

    arms: str | Sequence[str] | None = field(
        default=None,
        metadata=says(
            "baseline, copy, naive+N, VARIANT or VARIANT@RANK; NAME:lr=FACTOR, :width=FACTOR, :steps=FACTOR, "
            ":init=zero or :init=one (how the last map of every branch starts) changes one; :train=added trains "
            "nothing but what it adds, :train=lora@RANK that and LoRA beside the model's own maps; :grow=stack or "
            ":grow=subnets runs a part of its blocks at first, in more steps of equal FLOPs in all.",
            ARMS,
            metavar="LIST",
            shown=defaults.ARMS.replace(",", ", "),
            text=str | None,
        ),
    )
    rank: int = field(
        default=defaults.RANK,
        kw_only=True,
        metadata=counted("Of the low-rank maps of arms that name none.", ARMS),
    )
    against: Sequence[str] = field(
        default=(),
        kw_only=True,
        metadata=says(
            "Any other model as an arm; repeat it.", ARMS, metavar="MODEL", text=list[str] | None, read=read.once
        ),
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """How every arm is trained."""

    steps: int | None = field(
        default=None,
        metadata=counted("Updates of the weights.", TRAINING, f"{IMAGE['steps']}; of text {TEXT['steps']}"),
    )
    epochs: float | None = field(
        default=None,
        metadata=says("Passes over the training examples, in place of --steps.", TRAINING, metavar="N"),
    )
    batch: int | None = field(
        default=None, metadata=counted("Examples an update.", TRAINING, f"{IMAGE['batch']}; of text {TEXT['batch']}")
    )
    accumulate: int = field(default=1, metadata=counted("Parts that a batch is gone through in.", TRAINING))
    optimizer: str = field(default="adamw", metadata=says("adamw, sgd or muon.", TRAINING, metavar="NAME"))
    lr: float | None = field(
        default=None,
        metadata=says(
            "Learning rate at its peak.",
            TRAINING,
            metavar="RATE",
            shown=f"{defaults.MODELS_LR} with a MODEL; of the default ones {TEXT['lr']} for text, {IMAGE['lr']} for "
            f"images; of sgd {defaults.SGD['lr']}",
        ),
    )
    warmup: float = field(
        default=0.1, metadata=says("Of the steps; then the rate falls to zero.", TRAINING, metavar="SHARE")
    )
    weight_decay: float | None = field(
        default=None,
        metadata=says(
            "Of matrices and kernels.",
            TRAINING,
            metavar="RATE",
            shown=f"{defaults.WEIGHT_DECAY}; of sgd {defaults.SGD['weight_decay']}",
        ),
    )
    laurel_lr: float = field(
        default=1.0, metadata=says("On the rate of LAuReL's parameters.", TRAINING, metavar="FACTOR")
    )
    clip: float = field(
        default=1.0, metadata=says("Largest norm of the gradient; 0 for any.", TRAINING, metavar="NORM")
    )
    dtype: str = field(default="fp32", metadata=says("fp32, or bf16 or fp16 by autocast.", TRAINING, metavar="NAME"))
    compile: bool = field(
        default=False, metadata=says("Through torch.compile, once an arm.", TRAINING, name="--compile")
    )
    channels_last: bool = field(
        default=True,
        metadata=says(
            "Images in that memory format.",
            TRAINING,
            name="--channels-last/--no-channels-last",
        ),
    )
    evaluations: int = field(default=4, metadata=counted("How often to evaluate; the last time at the end.", TRAINING))
    world: int = field(
        default=1,
        metadata=counted(
            "Processes that train each trial together: with --prepare, for torchrun to start each --trial.", TRAINING
        ),
    )
    parallel: str = field(
        default="ddp",
        metadata=says(
            "What each of them holds: ddp, the whole model; fsdp, a part of every parameter (images then with their "
            "channels outermost).",
            TRAINING,
            metavar="NAME",
        ),
    )
    device: str = field(default="auto", metadata=says(DEVICE_HELP, TRAINING, metavar="NAME", known=device_names))


@dataclass(frozen=True)
class TrainSettings(  # the last one's fields come first
    ExecutorSettings,
    ProcessSettings,
    StudySettings,
    TrainingSettings,
    FormulaSettings,
    ModelArgSettings,
    TeacherSettings,
    SizeSettings,
    TaskSettings,
    ArmFileSettings,
    ProxyModel,
    StudyArms,
):
    """Everything that a study depends on.

    `on_progress` is told what is being done, `on_note` what to know of it, `on_event` what trials say.
    """

    on_progress: Callable[[str], None] = field(default=lambda _: None, kw_only=True)
    on_note: Callable[[str], None] = field(default=lambda _: None, kw_only=True)
    on_event: Callable[[Happening], None] = field(default=lambda _: None, kw_only=True)
