"""`laurel train-proxy`: train arms on small tasks and say what is separated from what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output, command_line
from laurel_cli.cli.typed import in_options
from laurel_cli.settings.base import joined
from laurel_cli.settings.executors import WHERE, ExecutorSettings
from laurel_cli.settings.ladder import LadderSettings
from laurel_cli.settings.shared import OUTPUT, ArmFileSettings, FormulaSettings, ModelArgSettings
from laurel_cli.settings.study import STUDY, ProcessSettings, StudySettings
from laurel_cli.settings.teacher import TeacherSettings
from laurel_cli.settings.train import (
    ProxyModel,
    SizeSettings,
    StudyArms,
    TaskSettings,
    TrainingSettings,
    TrainSettings,
)


def train_proxy(
    model: ProxyModel,
    task: TaskSettings,
    size: SizeSettings,
    teacher: TeacherSettings,
    model_args: ModelArgSettings,
    arms: StudyArms,
    files: ArmFileSettings,
    formula: FormulaSettings,
    training: TrainingSettings,
    declared: StudySettings,
    ladder: LadderSettings,
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
    *,
    at_once: ProcessSettings,
    where: ExecutorSettings,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Hand the trials over to slurm or ray and leave; the same command without it comes back to them.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="Say where the study in --study stands, run nothing.", rich_help_panel=WHERE),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be submitted, how many trials and for how long; write and run nothing.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take from the table [train-proxy] of a TOML file what is not typed.",
            rich_help_panel=STUDY,
        ),
    ] = None,
    write_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the study as a file for --config, every default in it, and train nothing: the one asked for, "
            "or the one that --study holds. Where it lies and how its trials run (--study, --data-root, --resume, "
            "--processes, --executor, --allow-...) is not in it.",
            rich_help_panel=STUDY,
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write scalars there as well.", rich_help_panel=OUTPUT),
    ] = None,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
    context: typer.Context,
) -> None:
    """Train every arm on a small task, each seed a block that all arms share, and say what is separated.

    In a block all arms have the same start, data and order. Differences come with t-intervals, corrected for the
    number of arms. Controls are trained beside the arms. A record of every trial is left in the study's folder; the
    same command again costs nothing, more --seeds or --arms add to it. What was declared when it began (controls,
    --worth, --until-separated) stays. With --ladder it is a study at each of several sizes, and what is said is whether
    gains hold at larger ones.

    Examples:

        laurel train-proxy

        laurel train-proxy resnet18 --task cifar10:DIR --arms naive+1,rw,rw+lr,rw+lr+pa --rank 16 --epochs 8

        laurel train-proxy gpt2 --layers 4 --width 128 --task text:books.txt --seeds 5 --steps 2000 --resume

        laurel train-proxy gpt2 --layers 4 --task text:books.txt --teacher gpt2 --teacher-weights gpt2.safetensors

        laurel train-proxy --trial rw+lr@4:3 --study DIR

        laurel train-proxy gpt2 --layers 4 --task text:books.txt --ladder 64,96,128,192 --arms rw,rw+lr@4,x0

        laurel train-proxy gpt2 --task c4 --executor slurm --slurm-partition gpu --slurm-time 4:00:00 --detach

        laurel train-proxy --status --study DIR

        laurel train-proxy --write-config study.toml && laurel train-proxy --config study.toml --seeds 9
    """
    from laurel_cli.cli import ladder_runs, proxy_runs, stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.cli.signature import typed_options
    from laurel_cli.records.provenance import versions
    from laurel_cli.tasks.reading.places import rooted

    destination = Destination.checked(format, output, force)
    context.with_resource(rooted(task.data_root))
    named = {"--prepare": prepare, "--trial": trial is not None, "--detach": detach, "--status": status}
    named |= {"--dry-run": dry_run, "--write-config": write_config is not None}
    proxy_runs.check_one(named, where)
    proxy_runs.check_beside(named, typed_options(context), format)
    if trial is not None:
        stdio.reserve(debug)
        files.bring()
        folder = None if declared.study is None else Path(declared.study)
        device = None if training.device == "auto" else training.device
        proxy_runs.run_one(trial, folder, allowed=declared.allowed, keep=declared.keep_weights, device=device)
        return
    if ladder.ladder is not None:
        ladder_runs.refuse_elsewhere(where.executor, detach=detach, status=status, dry_run=dry_run)
    else:
        ladder_runs.refuse(None if declared.study is None else Path(declared.study), ladder)
    if status:
        proxy_runs.show_status(declared.study, destination, debug)
        return
    parts = (model, task, size, teacher, model_args, arms, files, formula, training, declared, at_once, where)
    stdio.reserve(debug)
    if ladder.ladder is not None:
        with Progress(debug, every=30.0) as progress:
            progress("starting")
            asked = joined(TrainSettings, *parts, on_progress=progress, on_note=_note)
            away = prepare or write_config is not None
            rungs = ladder_runs.rungs_of(asked, ladder, command=command_line(), elsewhere=away)
        if write_config is not None:
            ladder_runs.write_config(write_config, rungs, asked, ladder.ladder, force)
        elif prepare:
            ladder_runs.list_trials(rungs, destination, debug)
        else:
            ladder_runs.compare(rungs, tensorboard, destination, debug)
        return
    with Progress(debug, every=30.0) as progress:
        progress("starting")
        from laurel_cli.devices import is_host
        from laurel_cli.study.asked import plan_of

        asked = joined(TrainSettings, *parts, on_progress=progress, on_note=_note)
        if write_config is not None:
            proxy_runs.write_config(write_config, asked, force)
            return
        plan = plan_of(asked, command=command_line(), versions=versions(), elsewhere=prepare)
        if training.device == "auto" and prepare:
            stdio.say(f"device: {plan.recipe.device}, as this machine has it; for another name it, as --device cuda")
        elif training.device == "auto" and not is_host(plan.recipe.device):
            stdio.say(f"device: {plan.recipe.device}")
    if dry_run:
        proxy_runs.rehearse(plan, destination, debug)
    elif prepare:
        proxy_runs.list_trials(plan, destination, debug)
    elif detach:
        proxy_runs.hand_over(replace(plan, detach=True), destination, debug)
    else:
        proxy_runs.compare(plan, tensorboard, destination, debug)


def _note(text: str) -> None:
    from laurel_cli.cli import stdio

    stdio.say(f"note: {in_options(text)}")
