"""Settings of every command that works on a model and its arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laurel_cli import arm_files, devices
from laurel_cli.errors import UsageError
from laurel_cli.laurel.spec import DEFAULT_RANK, VARIANTS, Spec
from laurel_cli.settings import read
from laurel_cli.settings.base import ARGUMENT, Settings, says

if TYPE_CHECKING:
    from torch import nn

ARMS, FORMULA, MODEL, OUTPUT = "Arms", "LAuReL", "Model and inputs", "Output"
FOLDER = Path("reports/records")
DEVICE_HELP = f"auto (the first of {', '.join(devices.KINDS)} that is present), one of these, or cuda:N."


def device_names(incomplete: str) -> Iterator[str]:
    """What can be typed as a device, to complete it."""
    return (name for name in devices.words() if name.startswith(incomplete))


def _model_names(incomplete: str) -> Iterator[str]:
    from laurel_cli.models import find_names

    return (name.reference for name in find_names() if name.reference.startswith(incomplete))


@dataclass(frozen=True)
class ModelSetting(Settings):
    """Which model."""

    model: str | nn.Module = field(
        metadata=says(
            "A name (resnet50, timm:vit_tiny_patch16_224, llama-3-8b), hf:DIR, hf:ORG/NAME, FILE.py:FACTORY or "
            "PACKAGE.MODULE:FACTORY.",
            name=ARGUMENT,
            metavar="MODEL",
            known=_model_names,
            text=str,
        )
    )


@dataclass(frozen=True, kw_only=True)
class VariantSettings(Settings):
    """Arms by formula and rank."""

    variant: str | Sequence[str] | None = field(
        default=None,
        metadata=says(
            "rw, lr, pa or a sum of them; repeat it or give a list.",
            ARMS,
            metavar="LIST",
            shown="all five: " + ", ".join(VARIANTS),
            known=VARIANTS,
            text=list[str] | None,
            read=read.items,
        ),
    )
    rank: int | Sequence[int] | None = field(
        default=None,
        metadata=says(
            "Rank of the low-rank maps; with several, every variant that has such maps is built for each.",
            ARMS,
            metavar="LIST",
            shown=str(DEFAULT_RANK),
            text=list[str] | None,
            read=read.ranks,
        ),
    )


@dataclass(frozen=True)
class ArmSettings(Settings):
    """Arms by name."""

    arms: str | Sequence[str] | None = field(
        default=None,
        metadata=says(
            "Exactly these arms, in place of --variant: baseline, naive+N, copy, VARIANT or VARIANT@RANK.",
            ARMS,
            metavar="LIST",
            shown="baseline, naive+1 and the variants",
            text=str | None,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ArmFileSettings(Settings):
    """Arms of one's own."""

    arm_file: str | Path | Sequence[str | Path] = field(
        default=(),
        metadata=says(
            "A Python file that defines arms of your own, to be named as any other; repeat it.",
            ARMS,
            metavar="FILE",
            shown="none",
            text=list[str] | None,
            read=read.once,
        ),
    )

    def bring(self) -> None:
        """Let their names be known, here and in the processes that are started.

        Raises:
            UsageError: a file is missing, fails or holds no arm.
        """
        if self.arm_file:
            from laurel_cli.rivals import add_arms

            for file in self._named:
                add_arms(file)

    @property
    def _named(self) -> list[str | Path]:
        return [self.arm_file] if isinstance(self.arm_file, str | Path) else list(self.arm_file)

    @property
    def known(self) -> list[str]:
        """Paths of all such files, those that the environment names included."""
        return list(dict.fromkeys([*arm_files.named(), *(arm_files.absolute(file) for file in self._named)]))


@dataclass(frozen=True, kw_only=True)
class FormulaSettings(Settings):
    """What the paper leaves open of every LAuReL."""

    lags: int | str | None = field(
        default=3,
        metadata=says(
            "Entries of the history that PA reads, or all.",
            FORMULA,
            metavar="K",
            text=str,
            read=read.lags,
            typed="3",
        ),
    )
    history: str = field(
        default="auto",
        metadata=says(
            "PA's map of its history: auto, identity, shared or per-lag; auto is identity for PA alone, per-lag "
            "together with LR.",
            FORMULA,
            metavar="NAME",
            known=("auto", "identity", "shared", "per-lag"),
        ),
    )
    normalize: str = field(
        default="2softmax",
        metadata=says(
            "How RW's weights are bounded: 2softmax (starts as the ordinary residual), softmax, sigmoid or none.",
            FORMULA,
            metavar="NAME",
            known=("2softmax", "softmax", "sigmoid", "none"),
        ),
    )
    vector_weights: bool = field(
        default=False,
        metadata=says("RW's weights are vectors of the width.", FORMULA, name="--vector-weights"),
    )
    init: str = field(
        default="xavier",
        metadata=says(
            "How A starts: xavier or orthogonal; B starts at zero.",
            FORMULA,
            metavar="NAME",
            known=("xavier", "orthogonal"),
        ),
    )
    per: str = field(
        default="connection",
        metadata=says(
            "One LAuReL for every residual connection, or one for every block.",
            FORMULA,
            metavar="NAME",
            known=("connection", "block"),
        ),
    )

    @property
    def of_spec(self) -> dict[str, Any]:
        """Fields of every `Spec`."""
        lags = read.lags("lags", self.lags) if isinstance(self.lags, str) else self.lags
        formula = {"history": self.history, "normalize": self.normalize, "vector_weights": self.vector_weights}
        return {"lags": lags, **formula, "init": self.init, "per": self.per}


@dataclass(frozen=True, kw_only=True)
class ModelArgSettings(Settings):
    """What a model's constructor is given."""

    model_args: Mapping[str, Any] | None = field(
        default=None,
        metadata=says(
            "A keyword argument of the model's constructor, KEY=VALUE: num_classes=10; repeat it for several.",
            MODEL,
            name="--model-arg",
            metavar="TEXT",
            text=list[str] | None,
            read=read.keywords,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class ExampleSettings(Settings):
    """What a model is called with."""

    batch: int = field(default=1, metadata=says("Samples in the example input.", MODEL, metavar="N"))
    seq_len: int | None = field(
        default=None, metadata=says("Tokens in a sample.", MODEL, metavar="N", shown="the model's own")
    )
    image_size: int | None = field(
        default=None, metadata=says("Pixels along each side.", MODEL, metavar="N", shown="the model's own")
    )
    input_shape: Sequence[int] | None = field(
        default=None,
        metadata=says(
            "Shape of the one input, such as 1x3x224x224.",
            MODEL,
            metavar="SHAPE",
            text=str | None,
            read=read.dimensions,
        ),
    )
    inputs: Any = field(
        default=(),
        metadata=says(
            "One input in full, NAME=DTYPE:SHAPE, such as input_ids=int64:1x128; repeat it for several.",
            MODEL,
            name="--input",
            metavar="TEXT",
            text=list[str] | None,
            read=read.several,
        ),
    )

    @property
    def shape(self) -> tuple[int, ...] | None:
        """`input_shape` as a tuple."""
        return None if self.input_shape is None else tuple(self.input_shape)

    @property
    def sizes(self) -> dict[str, Any]:
        """Of the inputs, as `laurel_cli.load` takes them."""
        sizes = {"batch": self.batch, "seq_len": self.seq_len, "image_size": self.image_size}
        return {**sizes, "input_shape": self.shape}


@dataclass(frozen=True, kw_only=True)
class RecordSettings(Settings):
    """Where a record is left."""

    records: str | Path | None = field(
        default=FOLDER, metadata=says("Where records go.", OUTPUT, metavar="DIR", text=Path)
    )


def arm_names(named: ArmSettings, chosen: VariantSettings, spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text for `parse_arms` and the fields of every spec: the arms as they are named, else baseline, naive+1 and
    every variant at every rank.

    Raises:
        UsageError: several ranks for arms that are named.
    """
    variants = read.items("variant", chosen.variant)
    ranks = [chosen.rank] if isinstance(chosen.rank, int) else list(chosen.rank or [DEFAULT_RANK])
    if named.arms is not None:
        if len(ranks) > 1:
            raise UsageError("`arms` takes one `rank`.", "It is for the arms that name none.", "Try rw+lr@8,rw+lr@16.")
        names = named.arms if isinstance(named.arms, str) else ",".join(named.arms)
        return names, {**spec, "rank": ranks[0]}
    specs = [Spec.parse(variant, **{**spec, "rank": rank}) for variant in variants or VARIANTS for rank in ranks]
    # Where a variant has no low-rank map the rank does not matter: its arms have one name, and there is one of it.
    return ",".join(dict.fromkeys(["baseline", "naive+1", *(one.name for one in specs)])), dict(spec)
