"""`laurel train-proxy`: short, paired training runs of every arm, and what their differences are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from laurel_cli import devices
from laurel_cli.cli.model_options import (
    ARMS,
    DEVICE_HELP,
    MODEL,
    History,
    Init,
    Lags,
    ModelArg,
    Normalize,
    Per,
    VectorWeights,
    command_line,
    spec_fields,
)
from laurel_cli.cli.options import OUTPUT, Debug, Force, Format, Output
from laurel_cli.proxy import defaults

TASK, TRAINING, STUDY = "Task", "Training", "Study"


def _count(help: str, panel: str, default: str | None = None) -> Any:  # noqa: A002 - typer's name
    return typer.Option(metavar="N", help=help, min=1, rich_help_panel=panel, show_default=default or True)


def train_proxy(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="As laurel analyze takes it.",
            show_default="paper-c4, 4 layers of 32, for text; timm:resnet18, stages of 2, 1, 1, 1 blocks, 16 channels "
            "wide, for images",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="stdlib, scenes, imagefolder:DIR, cifar10:DIR, cifar100:DIR, imagenet:DIR, text:FILE,..., "
            "hf:DATASET, c4 or fineweb. stdlib and scenes need no data.",
            rich_help_panel=TASK,
            show_default="stdlib; with a MODEL scenes",
        ),
    ] = None,
    image_size: Annotated[int | None, _count("Pixels along each side.", TASK, "the images' own")] = None,
    seq_len: Annotated[int | None, _count("Tokens that a model is given at once.", TASK, "64")] = None,
    tokenizer: Annotated[
        str, typer.Option(metavar="NAME", help="bytes, bpe, bpe:VOCABULARY or a FILE.json.", rich_help_panel=TASK)
    ] = "bytes",
    tokens: Annotated[int | None, _count("To take from a dataset that is streamed.", TASK, "10 million")] = None,
    train_limit: Annotated[int | None, _count("Use so many training images or tokens.", TASK, "all")] = None,
    evaluation_limit: Annotated[
        int | None, _count("Evaluate on so many images or tokens.", TASK, "all; of stdlib 65536")
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Mirror half of the images.",
            show_default="photographs alone",
            rich_help_panel=TASK,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Layers of the model, or blocks of each stage: 4 or 2,2,2,2.", rich_help_panel=MODEL
        ),
    ] = None,
    width: Annotated[
        int | None, _count("Width of the model; of a ResNet, channels of its first stage.", MODEL, "the model's own")
    ] = None,
    stem: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Total stride of a ResNet's stem: 1, 2 or 4.",
            show_default="1 up to 32 pixels, 2 up to 64, else 4",
            rich_help_panel=MODEL,
        ),
    ] = None,
    model_arg: ModelArg = None,
    arms: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="baseline, copy, naive+N, VARIANT or VARIANT@RANK; NAME:lr=FACTOR, :width=FACTOR, :steps=FACTOR, "
            ":init=zero or :init=one (how the last map of every branch starts) changes one.",
            show_default="baseline, naive+1, rw, rw+lr, rw+lr+pa",
            rich_help_panel=ARMS,
        ),
    ] = None,
    rank: Annotated[int, _count("Of the low-rank maps of arms that name none.", ARMS)] = defaults.RANK,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Any other model as an arm; repeat it.", rich_help_panel=ARMS),
    ] = None,
    lags: Lags = "3",
    history: History = "auto",
    normalize: Normalize = "2softmax",
    vector_weights: VectorWeights = False,
    init: Init = "xavier",
    per: Per = "connection",
    steps: Annotated[int | None, _count("Updates of the weights.", TRAINING, "840; of text 650")] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Passes over the training examples, in place of --steps.", rich_help_panel=TRAINING
        ),
    ] = None,
    batch: Annotated[int | None, _count("Examples an update.", TRAINING, "64; of text 16")] = None,
    accumulate: Annotated[int, _count("Parts that a batch is gone through in.", TRAINING)] = 1,
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help="adamw, sgd or muon.", rich_help_panel=TRAINING)
    ] = "adamw",
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Learning rate at its peak.",
            show_default="0.003 with a MODEL; of the default ones 0.015 for text, 0.006 for images; of sgd 0.1",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    warmup: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Of the steps; then the rate falls to zero.", rich_help_panel=TRAINING),
    ] = 0.1,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Of matrices and kernels.",
            show_default="0.05; of sgd 0.0005",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    laurel_lr: Annotated[
        float, typer.Option(metavar="FACTOR", help="On the rate of LAuReL's parameters.", rich_help_panel=TRAINING)
    ] = 1.0,
    clip: Annotated[
        float, typer.Option(metavar="NORM", help="Largest norm of the gradient; 0 for any.", rich_help_panel=TRAINING)
    ] = 1.0,
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="fp32, or bf16 or fp16 by autocast.", rich_help_panel=TRAINING)
    ] = "fp32",
    compile: Annotated[  # noqa: A002 - the option's name
        bool, typer.Option("--compile", help="Through torch.compile, once an arm.", rich_help_panel=TRAINING)
    ] = False,
    channels_last: Annotated[
        bool,
        typer.Option(
            "--channels-last/--no-channels-last",
            help="Images in that memory format, the faster one on CPUs and GPUs.",
            rich_help_panel=TRAINING,
        ),
    ] = True,
    evaluations: Annotated[int, _count("How often to evaluate; the last time at the end.", TRAINING)] = 4,
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help=DEVICE_HELP, autocompletion=devices.words, rich_help_panel=TRAINING),
    ] = "auto",
    seeds: Annotated[
        int | None, _count("Blocks: every arm is trained once with each seed.", STUDY, "7; with a MODEL 5")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls/--no-controls",
            help="Train controls beside the arms: an arm that is known to help, the baseline at half and at twice the "
            "learning rate, the baseline with fewer steps. Without them no gain is told from a repaired recipe.",
            rich_help_panel=STUDY,
        ),
    ] = True,
    positive_control: Annotated[
        str | None,
        typer.Option(
            metavar="ARM",
            help="An arm that is known to help, such as baseline:width=1.5, naive+2 or one of --against: where it is "
            "not separated, the study cannot tell.",
            show_default="the baseline wider, a quarter more FLOPs",
            rich_help_panel=STUDY,
        ),
    ] = None,
    control_seeds: Annotated[int, _count("Blocks of the other controls, at most --seeds.", STUDY, "3")] = 3,
    steps_saved: Annotated[
        bool,
        typer.Option(
            "--steps-saved/--no-steps-saved",
            help="Train the baseline for 0.7 of the steps as well, to measure what steps an arm saves.",
            rich_help_panel=STUDY,
        ),
    ] = True,
    worth: Annotated[
        float | None,
        typer.Option(
            metavar="GAIN",
            help="Declare beforehand what gain in loss would be worth having; the answer is then worth it, not worth "
            "it or cannot tell.",
            show_default="none declared",
            rich_help_panel=STUDY,
        ),
    ] = None,
    first_seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of the first block's seed: another one makes another study of the same thing.",
            min=0,
            max=999_999,
            rich_help_panel=STUDY,
        ),
    ] = 0,
    lr_search: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Try so many learning rates for every arm first, 0 for none.",
            min=0,
            rich_help_panel=STUDY,
        ),
    ] = 0,
    until_separated: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Add seeds, up to N, at looks declared beforehand, until every arm is "
            "separated from the baseline; 0 for no further seeds.",
            min=0,
            rich_help_panel=STUDY,
        ),
    ] = 0,
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the study lies.", show_default="reports/studies/NAME", rich_help_panel=STUDY
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with trials that were begun and not ended.", rich_help_panel=STUDY)
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Write the study down, list its trials, run none.", rich_help_panel=STUDY)
    ] = False,
    trial: Annotated[
        str | None,
        typer.Option(
            metavar="ARM:SEED",
            help="Run this one trial of the study in --study, for a scheduler of your own.",
            rich_help_panel=STUDY,
        ),
    ] = None,
    processes: Annotated[int | None, _count("Trials at once.", STUDY, "one a core on the CPU, else 1")] = None,
    threads: Annotated[int, _count("Of each trial on the CPU.", STUDY)] = 1,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write scalars there as well.", rich_help_panel=OUTPUT),
    ] = None,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Train every arm on a small task, each seed a block that all arms share, and say what is separated.

    In a block all arms have the same start, data and order. Differences come with t-intervals, corrected for the
    number of arms. Controls are trained beside the arms. A record of every trial is left in the study's folder; the
    same command again costs nothing, more --seeds or --arms add to it. What was declared when it began (controls,
    --worth, --until-separated) stays.

    Examples:

        laurel train-proxy

        laurel train-proxy resnet18 --task cifar10:DIR --arms naive+1,rw,rw+lr,rw+lr+pa --rank 16 --epochs 8

        laurel train-proxy gpt2 --layers 4 --width 128 --task text:books.txt --seeds 5 --steps 2000 --resume

        laurel train-proxy --trial rw+lr@4:3 --study DIR
    """
    from laurel_cli.cli import machine, options, proxy_runs, stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.errors import UsageError

    destination = Destination.checked(format, output, force)
    if trial is not None:
        stdio.reserve(debug)
        proxy_runs.run_one(trial, study)
        return
    spec_options = spec_fields(lags, history, normalize, vector_weights, init, per) | {"rank": rank}
    model_args = options.keywords("--model-arg", model_arg)
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs say the same thing.", hint="Leave one of them out.")
    names = arms or defaults.ARMS
    task = task or (defaults.TASK if model is None else defaults.MODELS_TASK)
    stdio.reserve(debug)
    with Progress(debug, every=30.0) as progress:
        progress("starting")
        from laurel_cli.latency.workload import Workload
        from laurel_cli.proxy.compare import Plan
        from laurel_cli.proxy.recipe import ModelChoice, Recipe, TaskChoice
        from laurel_cli.tasks import is_text

        kind = "text" if is_text(task) else "image"
        budget: dict[str, Any] = defaults.BUDGETS[kind] | ({} if model is None else {"lr": defaults.MODELS_LR})
        budget |= {"lr": defaults.SGD["lr"]} if optimizer == "sgd" else {}
        usual = defaults.SGD["weight_decay"] if optimizer == "sgd" else defaults.WEIGHT_DECAY
        batch = batch or budget["batch"]
        depths = tuple(options.whole("--layers", item, 4) for item in options.split([layers] if layers else None))
        work = Workload.checked("train", dtype, compile, False)
        chosen = devices.resolve(device, lambda text: stdio.say(f"note: {text}"))
        if device == "auto" and not devices.is_host(chosen):
            stdio.say(f"device: {chosen}")
        length = seq_len or (defaults.TEXT_LENGTH if kind == "text" else None)
        data = TaskChoice(
            task, image_size, length, tokenizer, tokens, train_limit, evaluation_limit or defaults.EVALUATED.get(task)
        )
        recipe = Recipe(
            model=ModelChoice(args=tuple(model_args.items()), **defaults.sizes(model, depths, width, stem, kind)),
            task=data,
            steps=steps or (budget["steps"] if epochs is None else defaults.steps_of(epochs, batch, data, progress)),
            batch=batch,
            accumulate=accumulate,
            optimizer=optimizer,
            lr=budget["lr"] if lr is None else lr,
            warmup=warmup,
            weight_decay=usual if weight_decay is None else weight_decay,
            laurel_lr=laurel_lr,
            clip=clip,
            dtype=work.dtype,
            evaluations=evaluations,
            evaluation_batch=250 if kind == "image" else 64,
            flip=flip,
            channels_last=channels_last and kind == "image" and devices.kind_of(chosen).channels_last,
            compile=compile,
            device=chosen,
            threads=threads if devices.is_host(chosen) else None,
            spec=spec_options,
        )
        plan = Plan(
            recipe,
            names,
            tuple(dict.fromkeys(against or ())),
            seeds=seeds or (defaults.SEEDS if model is None else defaults.MODELS_SEEDS),
            first_seed=first_seed,
            folder=study,
            resume=resume,
            rates=lr_search,
            most_seeds=until_separated,
            controls=controls,
            positive=positive_control,
            control_seeds=control_seeds,
            steps_saved=steps_saved,
            worth=worth,
            processes=processes,
            command=command_line(),
            versions=machine.versions(),
        )
    if prepare:
        proxy_runs.list_trials(plan, debug)
    else:
        proxy_runs.compare(plan, tensorboard, destination, debug)
