"""Options of all commands that work on a model and its arms, and how they are read."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from laurel_cli import devices
from laurel_cli.cli import options
from laurel_cli.errors import UsageError

VARIANTS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")
DEVICE_HELP = f"auto (the first of {', '.join(devices.KINDS)} that is present), one of these, or cuda:N."
ARMS, SPEC, MODEL = "Arms", "LAuReL", "Model and inputs"


def _model_names(incomplete: str) -> Iterator[str]:
    from laurel_cli.models import find_names

    return (name.reference for name in find_names() if name.reference.startswith(incomplete))


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name (resnet50, timm:vit_tiny_patch16_224, llama-3-8b), hf:DIR, hf:ORG/NAME, FILE.py:FACTORY or "
        "PACKAGE.MODULE:FACTORY.",
        autocompletion=_model_names,
    ),
]
Variant = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LIST",
        help="rw, lr, pa or a sum of them; repeat it or give a list.",
        show_default="all five: " + ", ".join(VARIANTS),
        autocompletion=lambda: list(VARIANTS),
        rich_help_panel=ARMS,
    ),
]
Rank = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LIST",
        help="Rank of the low-rank maps; with several, every variant that has such maps is built for each.",
        show_default="16",
        rich_help_panel=ARMS,
    ),
]
Arms = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Exactly these arms, in place of --variant: baseline, naive+N, copy, VARIANT or VARIANT@RANK.",
        show_default="baseline, naive+1 and the variants",
        rich_help_panel=ARMS,
    ),
]
Lags = Annotated[
    str, typer.Option(metavar="K", help="Entries of the history that PA reads, or all.", rich_help_panel=SPEC)
]
History = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="PA's map of its history: auto, identity, shared or per-lag; auto is identity for PA alone, per-lag "
        "together with LR.",
        autocompletion=lambda: ["auto", "identity", "shared", "per-lag"],
        rich_help_panel=SPEC,
    ),
]
Normalize = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How RW's weights are bounded: 2softmax (starts as the ordinary residual), softmax, sigmoid or none.",
        autocompletion=lambda: ["2softmax", "softmax", "sigmoid", "none"],
        rich_help_panel=SPEC,
    ),
]
VectorWeights = Annotated[
    bool, typer.Option("--vector-weights", help="RW's weights are vectors of the width.", rich_help_panel=SPEC)
]
Init = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How A starts: xavier or orthogonal; B starts at zero.",
        autocompletion=lambda: ["xavier", "orthogonal"],
        rich_help_panel=SPEC,
    ),
]
Per = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="One LAuReL for every residual connection, or one for every block.",
        autocompletion=lambda: ["connection", "block"],
        rich_help_panel=SPEC,
    ),
]
Batch = Annotated[int, typer.Option(metavar="N", help="Samples in the example input.", rich_help_panel=MODEL)]
SeqLen = Annotated[
    int | None,
    typer.Option(metavar="N", help="Tokens in a sample.", show_default="the model's own", rich_help_panel=MODEL),
]
ImageSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="Pixels along each side.", show_default="the model's own", rich_help_panel=MODEL),
]
InputShape = Annotated[
    str | None,
    typer.Option(metavar="SHAPE", help="Shape of the one input, such as 1x3x224x224.", rich_help_panel=MODEL),
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="TEXT",
        help="One input in full, NAME=DTYPE:SHAPE, such as input_ids=int64:1x128; repeat it for several.",
        rich_help_panel=MODEL,
    ),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="A keyword argument of the model's constructor, KEY=VALUE: num_classes=10; repeat it for several.",
        rich_help_panel=MODEL,
    ),
]


def spec_fields(lags: str, history: str, normalize: str, vector_weights: bool, init: str, per: str) -> dict[str, Any]:
    """Fields of every `Spec`, from the options.

    Raises:
        UsageError: lags that are no number.
    """
    return {
        "lags": None if lags.strip().lower() == "all" else options.whole("--lags", lags, 3),
        "history": history,
        "normalize": normalize,
        "vector_weights": vector_weights,
        "init": init,
        "per": per,
    }


def arm_names(arms: str | None, variants: list[str], ranks: list[str], spec_options: dict[str, Any]) -> str:
    """The text for `parse_arms`: `--arms` as it is, else baseline, naive+1 and every variant at every rank."""
    from laurel_cli.cli import stdio
    from laurel_cli.laurel.spec import DEFAULT_RANK, Spec

    numbers = [options.whole("--rank", rank, DEFAULT_RANK) for rank in ranks] or [DEFAULT_RANK]
    if arms is not None:
        if variants:
            stdio.say("warning: --variant is not used, since --arms names the arms.")
        if len(numbers) > 1:
            raise UsageError("--arms takes one --rank.", "It is for the arms that name none.", "Try rw+lr@8,rw+lr@16.")
        spec_options["rank"] = numbers[0]
        return arms
    specs = [
        Spec.parse(variant, **spec_options | {"rank": number}) for variant in variants or VARIANTS for number in numbers
    ]
    # Where a variant has no low-rank map the rank does not matter: its arms have one name, and there is one of it.
    return ",".join(dict.fromkeys(["baseline", "naive+1", *(spec.name for spec in specs)]))


def command_line() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["laurel", *sys.argv[1:]])
