"""Settings of `laurel train-proxy`: what is trained on, what of it, how, and what the study is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from laurel_cli.settings.teacher import TeacherSettings

if TYPE_CHECKING:
    from laurel_cli.study.run import Happening

TASK, TRAINING, STUDY = "Task", "Training", "Study"
IMAGE, TEXT = defaults.BUDGETS["image"], defaults.BUDGETS["text"]


def _count(help: str, panel: str, shown: str | None = None) -> Any:  # noqa: A002 - typer's name
    return says(help, panel, metavar="N", shown=shown, low=1)


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
    image_size: int | None = field(default=None, metadata=_count("Pixels along each side.", TASK, "the images' own"))
    seq_len: int | None = field(
        default=None, metadata=_count("Tokens that a model is given at once.", TASK, str(defaults.TEXT_LENGTH))
    )
    tokenizer: str = field(
        default="bytes", metadata=says("bytes, bpe, bpe:VOCABULARY or a FILE.json.", TASK, metavar="NAME")
    )
    tokens: int | None = field(
        default=None, metadata=_count("To take from a dataset that is streamed.", TASK, "10 million")
    )
    train_limit: int | None = field(
        default=None, metadata=_count("Use so many training images or tokens.", TASK, "all")
    )
    evaluation_limit: int | None = field(
        default=None,
        metadata=_count(
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
        metadata=_count("Width of the model; of a ResNet, channels of its first stage.", MODEL, "the model's own"),
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
            "nothing but what it adds; :grow=stack or :grow=subnets runs a part of its blocks at first, in more steps "
            "of equal FLOPs in all.",
            ARMS,
            metavar="LIST",
            shown=defaults.ARMS.replace(",", ", "),
            text=str | None,
        ),
    )
    rank: int = field(
        default=defaults.RANK,
        kw_only=True,
        metadata=_count("Of the low-rank maps of arms that name none.", ARMS),
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
        default=None, metadata=_count("Updates of the weights.", TRAINING, f"{IMAGE['steps']}; of text {TEXT['steps']}")
    )
    epochs: float | None = field(
        default=None,
        metadata=says("Passes over the training examples, in place of --steps.", TRAINING, metavar="N"),
    )
    batch: int | None = field(
        default=None, metadata=_count("Examples an update.", TRAINING, f"{IMAGE['batch']}; of text {TEXT['batch']}")
    )
    accumulate: int = field(default=1, metadata=_count("Parts that a batch is gone through in.", TRAINING))
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
            "Images in that memory format, the faster one on CPUs and GPUs.",
            TRAINING,
            name="--channels-last/--no-channels-last",
        ),
    )
    evaluations: int = field(default=4, metadata=_count("How often to evaluate; the last time at the end.", TRAINING))
    world: int = field(
        default=1,
        metadata=_count(
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


@dataclass(frozen=True, kw_only=True)
class StudySettings(Settings):
    """Blocks, controls, what is declared beforehand, and where the study lies."""

    seeds: int | None = field(
        default=None,
        metadata=_count(
            "Blocks: every arm is trained once with each seed.",
            STUDY,
            f"{defaults.SEEDS}; with a MODEL {defaults.MODELS_SEEDS}",
        ),
    )
    controls: bool = field(
        default=True,
        metadata=says(
            "Train controls beside the arms: an arm that is known to help, the baseline at half and at twice the "
            "learning rate, the baseline with fewer steps. Without them no gain is told from a repaired recipe.",
            STUDY,
            name="--controls/--no-controls",
        ),
    )
    positive_control: str | None = field(
        default=None,
        metadata=says(
            "An arm that is known to help, such as baseline:width=1.5, naive+2 or one of --against: where it is "
            "not separated, the study cannot tell.",
            STUDY,
            metavar="ARM",
            shown="the baseline wider, a quarter more FLOPs",
        ),
    )
    control_seeds: int = field(
        default=defaults.CONTROL_SEEDS,
        metadata=_count("Blocks of the other controls, at most --seeds.", STUDY, str(defaults.CONTROL_SEEDS)),
    )
    steps_saved: bool = field(
        default=True,
        metadata=says(
            "Train the baseline for 0.7 of the steps as well, to measure what steps an arm saves.",
            STUDY,
            name="--steps-saved/--no-steps-saved",
        ),
    )
    worth: float | None = field(
        default=None,
        metadata=says(
            "Declare beforehand what gain in loss would be worth having; the answer is then worth it, not worth "
            "it or cannot tell.",
            STUDY,
            metavar="GAIN",
            shown="none declared",
        ),
    )
    first_seed: int = field(
        default=0,
        metadata=says(
            "Number of the first block's seed: another one makes another study of the same thing.",
            STUDY,
            metavar="N",
            low=0,
            high=999_999,
        ),
    )
    lr_search: int = field(
        default=0,
        metadata=says("Try so many learning rates for every arm first, 0 for none.", STUDY, metavar="N", low=0),
    )
    until_separated: int = field(
        default=0,
        metadata=says(
            "Add seeds, up to N, at looks declared beforehand, until every arm is "
            "separated from the baseline; 0 for no further seeds.",
            STUDY,
            metavar="N",
            low=0,
        ),
    )
    study: str | Path | None = field(
        default=None,
        metadata=says("Where the study lies.", STUDY, metavar="DIR", shown="reports/studies/NAME", text=Path | None),
    )
    allow_versions: Sequence[str] = field(
        default=(),
        metadata=says(
            "A package that may have another version than when the study began; the record says so. Repeat it.",
            STUDY,
            metavar="NAME",
            text=list[str] | None,
            read=read.once,
        ),
    )
    allow_mixed_devices: bool = field(
        default=False,
        metadata=says(
            "Let trials of one seed run on several kinds of GPU; the report says so.",
            STUDY,
            name="--allow-mixed-devices",
        ),
    )
    keep_weights: bool = field(
        default=False,
        metadata=says(
            "Keep the trained weights of each trial, weights/ARM-SEED in the study's folder, to load, evaluate or go "
            "on from; of trials that have ended before they are gone.",
            STUDY,
            name="--keep-weights",
        ),
    )
    resume: bool = field(
        default=False,
        metadata=says("Go on with trials that were begun and not ended.", STUDY, name="--resume"),
    )

    @property
    def allowed(self) -> tuple[str, ...]:
        """What may be otherwise than when the study began, as its trials are told of it."""
        from laurel_cli.study.block import MIXED

        return (*self.allow_versions, *([MIXED] if self.allow_mixed_devices else []))


@dataclass(frozen=True, kw_only=True)
class ProcessSettings(Settings):
    """How many trials run at once."""

    processes: int | None = field(
        default=None, metadata=_count("Trials at once.", STUDY, "one a core on the CPU, else 1")
    )
    threads: int = field(default=1, metadata=_count("Of each trial on the CPU.", STUDY))


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
