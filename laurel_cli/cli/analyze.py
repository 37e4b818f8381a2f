"""`laurel analyze`: find the residual connections, put LAuReL in their place, count exactly what it adds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output

VARIANTS = ("rw", "lr", "pa", "rw+lr", "rw+lr+pa")

ARMS, SPEC, MODEL, OUTPUT = "Arms", "LAuReL", "Model and inputs", "Output"


def _model_names(incomplete: str) -> Iterator[str]:
    from laurel_cli.models import find_names

    return (name.reference for name in find_names() if name.reference.startswith(incomplete))


def analyze(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name (resnet50, timm:vit_tiny_patch16_224, llama-3-8b), hf:DIR, hf:ORG/NAME, FILE.py:FACTORY or "
            "PACKAGE.MODULE:FACTORY.",
            autocompletion=_model_names,
        ),
    ],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="rw, lr, pa or a sum of them; repeat it or give a list.",
            show_default="all five: " + ", ".join(VARIANTS),
            autocompletion=lambda: list(VARIANTS),
            rich_help_panel=ARMS,
        ),
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="Rank of the low-rank maps; with several, every variant that has such maps is built for each.",
            show_default="16",
            rich_help_panel=ARMS,
        ),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Exactly these arms, in place of --variant: baseline, naive+N, copy, VARIANT or VARIANT@RANK.",
            show_default="baseline, naive+1 and the variants",
            rich_help_panel=ARMS,
        ),
    ] = None,
    lags: Annotated[
        str, typer.Option(metavar="K", help="Entries of the history that PA reads, or all.", rich_help_panel=SPEC)
    ] = "3",
    history: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="PA's map of its history: auto, identity, shared or per-lag; auto is identity for PA alone, per-lag "
            "together with LR.",
            autocompletion=lambda: ["auto", "identity", "shared", "per-lag"],
            rich_help_panel=SPEC,
        ),
    ] = "auto",
    normalize: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How RW's weights are bounded: 2softmax (starts as the ordinary residual), softmax, sigmoid or none.",
            autocompletion=lambda: ["2softmax", "softmax", "sigmoid", "none"],
            rich_help_panel=SPEC,
        ),
    ] = "2softmax",
    vector_weights: Annotated[
        bool, typer.Option("--vector-weights", help="RW's weights are vectors of the width.", rich_help_panel=SPEC)
    ] = False,
    init: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How A starts: xavier or orthogonal; B starts at zero.",
            autocompletion=lambda: ["xavier", "orthogonal"],
            rich_help_panel=SPEC,
        ),
    ] = "xavier",
    per: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="One LAuReL for every residual connection, or one for every block.",
            autocompletion=lambda: ["connection", "block"],
            rich_help_panel=SPEC,
        ),
    ] = "connection",
    batch: Annotated[int, typer.Option(metavar="N", help="Samples in the example input.", rich_help_panel=MODEL)] = 1,
    seq_len: Annotated[
        int | None,
        typer.Option(metavar="N", help="Tokens in a sample.", show_default="the model's own", rich_help_panel=MODEL),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Pixels along each side.", show_default="the model's own", rich_help_panel=MODEL
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(metavar="SHAPE", help="Shape of the one input, such as 1x3x224x224.", rich_help_panel=MODEL),
    ] = None,
    input: Annotated[  # noqa: A002 - the option's name
        list[str] | None,
        typer.Option(
            "--input",
            metavar="TEXT",
            help="One input in full, NAME=DTYPE:SHAPE, such as input_ids=int64:1x128; repeat it for several.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    model_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A keyword argument of the model's constructor, KEY=VALUE: num_classes=10; repeat it for several.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    connections: Annotated[
        bool,
        typer.Option(
            "--connections",
            help="List every residual connection, and every addition that was refused, with the reason.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Count again with fvcore and thop, and name the operators where they differ.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Find a model's residual connections, put LAuReL in their place, count exactly what it adds.

    Shows parameters, MACs, FLOPs and memory of every arm: the baseline, one more block (naive+1) and the variants.

    Examples:

        laurel analyze resnet50 --variant rw+lr --rank 16

        laurel analyze resnet50 --variant lr,rw+lr --rank 8,16,32

        laurel analyze llama-3-8b --arms baseline,naive+1,rw,rw+lr@64 --per block

        laurel analyze my_model.py:build --model-arg depth=12 --connections

        laurel analyze hf:./my-config --seq-len 512 --format json --output answer.json
    """
    from laurel_cli.cli import options, stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress

    destination = Destination.checked(format, output, force)
    spec_options: dict[str, Any] = {
        "lags": None if lags.strip().lower() == "all" else options.whole("--lags", lags, 3),
        "history": history,
        "normalize": normalize,
        "vector_weights": vector_weights,
        "init": init,
        "per": per,
    }
    names = _arm_names(arms, options.split(variant), options.split(rank), spec_options)
    shape = options.dimensions("--input-shape", input_shape) if input_shape is not None else None
    model_args = options.keywords("--model-arg", model_arg)
    stdio.reserve(debug)
    with Progress(debug) as progress:
        progress(f"loading {model}")
        # Only now, so that a mistake in the options is answered at once, without torch.
        from laurel_cli.analysis import analyze as analyze_model
        from laurel_cli.arms import parse_arms
        from laurel_cli.models import load

        chosen = parse_arms(names, **spec_options)
        loaded = load(
            model,
            batch=batch,
            seq_len=seq_len,
            image_size=image_size,
            input_shape=shape,
            inputs=tuple(input or ()),
            model_args=model_args,
        )
        analysis = analyze_model(loaded, chosen, check=check, command=_command(), on_progress=progress)
    destination.write(analysis.document(), connections=connections)


def _arm_names(arms: str | None, variants: list[str], ranks: list[str], spec_options: dict[str, Any]) -> str:
    """The text for `parse_arms`: `--arms` as it is, else baseline, naive+1 and every variant at every rank."""
    from laurel_cli.cli import options, stdio
    from laurel_cli.errors import UsageError
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


def _command() -> str:
    import shlex
    import sys

    return shlex.join(["laurel", *sys.argv[1:]])
