"""`laurel analyze`: find the residual connections, put LAuReL in their place, count exactly what it adds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from laurel_cli.cli.model_options import (
    Arms,
    Batch,
    History,
    ImageSize,
    Init,
    Input,
    InputShape,
    Lags,
    Model,
    ModelArg,
    Normalize,
    Per,
    Rank,
    SeqLen,
    Variant,
    VectorWeights,
    arm_names,
    command_line,
    spec_fields,
)
from laurel_cli.cli.options import FOLDER, OUTPUT, Debug, Force, Format, Output, Records


def analyze(
    model: Model,
    variant: Variant = None,
    rank: Rank = None,
    arms: Arms = None,
    lags: Lags = "3",
    history: History = "auto",
    normalize: Normalize = "2softmax",
    vector_weights: VectorWeights = False,
    init: Init = "xavier",
    per: Per = "connection",
    batch: Batch = 1,
    seq_len: SeqLen = None,
    image_size: ImageSize = None,
    input_shape: InputShape = None,
    input: Input = None,  # noqa: A002 - the option's name
    model_arg: ModelArg = None,
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
    save: Annotated[
        bool, typer.Option("--save", help="Leave a record of the answer in --records.", rich_help_panel=OUTPUT)
    ] = False,
    records: Records = FOLDER,
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

        laurel analyze resnet50 --save && laurel report
    """
    from laurel_cli.cli import options, stdio
    from laurel_cli.cli.apart import apart
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.models.reference import runs_users_code

    destination = Destination.checked(format, output, force)
    spec_options = spec_fields(lags, history, normalize, vector_weights, init, per)
    names = arm_names(arms, options.split(variant), options.split(rank), spec_options)
    shape = options.dimensions("--input-shape", input_shape) if input_shape is not None else None
    model_args = options.keywords("--model-arg", model_arg)
    stdio.reserve(debug)

    def work(progress: Callable[[str], None]) -> dict[str, Any]:
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
        analysis = analyze_model(loaded, chosen, check=check, command=command_line(), on_progress=progress)
        return {"document": analysis.document(), "record": analysis.record() if save else None}

    with Progress(debug) as progress:
        progress(f"loading {model}")
        found = apart(work, model, on_progress=progress) if runs_users_code(model) else work(progress)
    if save:
        said: dict[str, Any] = {"batch": batch, "seq_len": seq_len, "image_size": image_size, "input_shape": shape}
        said |= {"inputs": list(input or ()), "model_args": model_args}
        _keep(found["record"] | {"options": said, "spec_options": spec_options}, records)
    destination.write(found["document"], connections=connections)


def _keep(content: dict[str, Any], folder: Path) -> None:
    from laurel_cli.cli import machine, stdio
    from laurel_cli.records.provenance import code_sha256
    from laurel_cli.records.store import write

    hashes = {"model": content["model"]["architecture"], "code": code_sha256()}
    path = write(folder, "analyze", "complete", content | {"versions": machine.versions(), "hashes": hashes})
    stdio.say(f"record: {path}")
