"""`laurel profile`: the time and the memory of every arm on this machine, beside the baseline's."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from laurel_cli import devices
from laurel_cli.cli.model_options import (
    DEVICE_HELP,
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
from laurel_cli.cli.options import FOLDER, Debug, Force, Format, Output, Records

RUN, PROTOCOL = "What is timed", "Protocol"


def profile(
    model: Model,
    variant: Variant = None,
    rank: Rank = None,
    arms: Arms = None,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Any other model as an arm; repeat it.", rich_help_panel="Arms"),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="infer (forward), train (forward, backward, AdamW step), prefill or decode (with the model's cache).",
            autocompletion=lambda: ["infer", "train", "prefill", "decode"],
            rich_help_panel=RUN,
        ),
    ] = "infer",
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=DEVICE_HELP,
            autocompletion=devices.words,
            rich_help_panel=RUN,
        ),
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="fp32, bf16 or fp16: of weights and inputs; in training of autocast.",
            autocompletion=lambda: ["fp32", "bf16", "fp16"],
            rich_help_panel=RUN,
        ),
    ] = "fp32",
    compile: Annotated[  # noqa: A002 - the option's name
        bool, typer.Option("--compile", help="Through torch.compile; its time is shown apart.", rich_help_panel=RUN)
    ] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Images in that memory format.", rich_help_panel=RUN)
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of the CPU.", show_default="one a core", min=1, rich_help_panel=RUN),
    ] = None,
    allocator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="keep (glibc on the CPU: processes keep memory that is freed) or default (malloc as it comes).",
            autocompletion=lambda: ["keep", "default"],
            rich_help_panel=RUN,
        ),
    ] = "keep",
    precision: Annotated[
        str,
        typer.Option(
            metavar="PERCENT", help="Go on until every ratio's interval is narrower.", rich_help_panel=PROTOCOL
        ),
    ] = "1%",
    max_time: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Start no process that would end later; where the least takes longer, that is said beforehand.",
            min=0,
            rich_help_panel=PROTOCOL,
        ),
    ] = 600.0,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Fresh processes at least, whatever time they take.",
            show_default="as --max-time allows; 5 to 8, by the number of arms, before --precision may end it",
            min=1,
            rich_help_panel=PROTOCOL,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of the arms' order and their place in memory.", rich_help_panel=PROTOCOL)
    ] = 0,
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
    records: Records = FOLDER,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Time every arm on this machine, as a ratio to the baseline with its interval; measure its memory.

    Every arm is timed once a round in random order, in several fresh processes, together with a copy of the baseline,
    which shows the noise. Verdicts and intervals are corrected for the number of arms (Holm), against the baseline and
    against naive+1 apart. A record with every sample is left in --records.

    Examples:

        laurel profile resnet50 --variant rw+lr --rank 16 --batch 32

        laurel profile gpt2 --variant rw,rw+lr --mode train --dtype bf16 --compile

        laurel profile my_model.py:build --arms baseline --against my_model.py:other --precision 0.5%
    """
    from laurel_cli.cli import options, stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.errors import UsageError
    from laurel_cli.records.store import make_folder

    destination = Destination.checked(format, output, force)
    spec_options = spec_fields(lags, history, normalize, vector_weights, init, per)
    names = arm_names(arms, options.split(variant), options.split(rank), spec_options)
    shape = options.dimensions("--input-shape", input_shape) if input_shape is not None else None
    model_args = options.keywords("--model-arg", model_arg)
    narrow = percentage("--precision", precision)
    if math.isnan(max_time):
        raise UsageError("--max-time nan is no number of seconds.", hint="Try --max-time 600.")
    make_folder(records)
    stdio.reserve(debug)
    with Progress(debug, every=30.0) as progress:
        progress(f"looking at {model}")
        from laurel_cli.arms import parse_arms
        from laurel_cli.latency import allocator as allocators
        from laurel_cli.latency.job import Job
        from laurel_cli.latency.plan import Plan
        from laurel_cli.latency.profile import profile as measure
        from laurel_cli.latency.workload import Workload

        parse_arms(names, **spec_options)
        work = Workload.checked(mode, dtype, compile, channels_last)
        keeping = allocators.checked(allocator)

        def note(text: str) -> None:
            progress.clear()
            stdio.say(f"note: {text}")

        chosen = devices.resolve(device, note)
        if device == "auto":
            stdio.say(f"device: {chosen}")
        job = Job(
            task="time",
            model=model,
            options={
                "batch": batch,
                "seq_len": seq_len,
                "image_size": image_size,
                "input_shape": shape,
                "inputs": tuple(input or ()),
                "model_args": model_args,
            },
            arms=",".join(dict.fromkeys(["baseline", "copy", *names.split(",")])),
            spec_options=spec_options,
            against=list(dict.fromkeys(against or ())),
            work=vars(work),
            device=chosen,
            threads=threads,
            seed=seed,
            allocator=keeping,
        )
        plan = Plan(job, precision=narrow, max_time=max_time, processes=processes or 0)
        measured = measure(plan, command=command_line(), began=progress.started, on_progress=progress, on_note=note)
    _keep(measured.record(), records)
    destination.write(measured.document())
    if measured.interrupted:
        raise typer.Exit(130)


def percentage(option: str, text: str) -> float:
    """`1%`, `0.5 %` or `1` as a share of one.

    Raises:
        UsageError: it is no positive number.
    """
    from laurel_cli.errors import UsageError

    match = re.fullmatch(r"(\d+(\.\d*)?|\.\d+)\s*%?", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"{option} {text!r} is no percentage.", hint=f"Try {option} 1%.")
    return float(match[1]) / 100


def _keep(content: dict[str, object], folder: Path) -> None:
    from laurel_cli.cli import machine, stdio
    from laurel_cli.records.store import write

    status = "partial" if content["status"] == "partial" else "complete"
    path = write(folder, "profile", status, content | {"versions": machine.versions()})  # type: ignore[arg-type]
    stdio.say(f"record: {path}")
