"""What `laurel train-proxy --ladder` does: the study at each size, from small to large, then what they establish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laurel_cli.cli import proxy_runs
from laurel_cli.cli.typed import in_options

if TYPE_CHECKING:
    from laurel_cli.cli.destination import Destination
    from laurel_cli.settings.ladder import LadderSettings
    from laurel_cli.settings.train import TrainSettings
    from laurel_cli.study.rungs import Rungs


def compare(rungs: Rungs, tensorboard: Path | None, destination: Destination, debug: bool) -> None:
    """Train what is missing at every size and write the answer; after Ctrl-C that of the trials that are there.

    Raises:
        typer.Exit: 6, some trials failed.
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.live import Live
    from laurel_cli.study import compare as proxy

    _begin(rungs)
    failed = False
    warnings: list[str] = []
    for number, (plan, size) in enumerate(zip(rungs.plans, rungs.ladder.sizes, strict=True), start=1):
        said = f"size {size.name}, {number} of {len(rungs.plans)}: {size.parameters:,} parameters, {size.steps:,} steps"
        stdio.say(said)
        place = None if tensorboard is None else tensorboard / size.name
        with Live(debug=debug, tensorboard=place) as live:
            prepared = proxy_runs.prepared_of(plan, live.step)
            try:
                found = proxy.compare(plan, prepared, on_event=live.event, on_trials=live.trials)
            except KeyboardInterrupt:
                live.close()
                _answer(rungs.folder, destination, plan.command, warnings)
                raise
        failed = failed or any(arm["failed"] for arm in found["arms"])
        # Of searches that ended at an end the report of the ladder says so itself, each time that it is asked for.
        warnings += [f"size {size.name}: {one}" for one in prepared.warnings if "at the end of the search" not in one]
    _answer(rungs.folder, destination, rungs.plans[0].command, warnings)
    if failed:
        raise typer.Exit(6)


def list_trials(rungs: Rungs, destination: Destination, debug: bool) -> None:
    """Write the study at every size down and list its missing trials, the options that run one a line."""
    import shlex

    from laurel_cli.cli import stdio
    from laurel_cli.cli.progress import Progress
    from laurel_cli.study import folder as study

    _begin(rungs)
    lines = []
    for plan in rungs.plans:
        with Progress(debug) as progress:
            prepared = proxy_runs.prepared_of(plan, progress)
        for warning in prepared.warnings:
            stdio.say(f"warning: {in_options(warning)}")
        place = shlex.quote(str(prepared.folder))
        lines += [
            f"--study {place} --trial {arm}:{seed}\n" for arm, seed in study.missing(prepared.folder, prepared.study)
        ]
    stdio.say(f"ladder: {rungs.folder}")
    destination.put("".join(lines))


def rungs_of(asked: TrainSettings, ladder: LadderSettings, *, command: str, elsewhere: bool) -> Rungs:
    """What is asked for, with the steps of every size."""
    from laurel_cli.records.provenance import versions
    from laurel_cli.study.rungs import rungs_of as planned

    return planned(
        asked,
        ladder.ladder or "",
        ladder.tokens_per_parameter,
        ladder_lr=ladder.ladder_lr,
        command=command,
        versions=versions(),
        elsewhere=elsewhere,
    )


def refuse_elsewhere(executor: str, **asked: bool) -> None:
    """A ladder trains here, size after size.

    Raises:
        UsageError: an executor is asked for, or what goes with one.
    """
    from laurel_cli.errors import UsageError
    from laurel_cli.study.executors import LOCAL

    named = [name for name, is_asked in asked.items() if is_asked] + ["executor"] * (executor != LOCAL)
    if named:
        raise UsageError(
            f"`{named[0]}` does not go with `ladder`.",
            "The sizes of a ladder are trained on this machine, one after the other.",
            "Leave it out; for other machines `prepare` lists the trials of all sizes, each a command of its own.",
        )


def refuse(folder: Path | None, ladder: LadderSettings) -> None:
    """A study is no ladder.

    Raises:
        UsageError: the folder holds a ladder, or something is asked of one.
    """
    from laurel_cli.errors import UsageError
    from laurel_cli.settings.ladder import SEARCH, TOKENS
    from laurel_cli.study.ladder import holds

    if ladder.ladder_lr != SEARCH:
        raise UsageError(f"`ladder_lr={ladder.ladder_lr!r}` needs `ladder`.", "It carries a rate from size to size.")
    if ladder.tokens_per_parameter != TOKENS:
        what = f"`tokens_per_parameter={ladder.tokens_per_parameter:g}` needs `ladder`."
        raise UsageError(what, "It says how long each size is trained.", "Leave it out, and say `steps`.")
    if folder is not None and holds(folder):
        raise UsageError(
            f"{str(folder)!r} holds a ladder.",
            "Its sizes are studies, in folders of their own.",
            "Name the sizes by `ladder`, or the folder of one of them by `study`.",
        )


def _begin(rungs: Rungs) -> None:
    """Write the ladder down before its trials."""
    from laurel_cli.records.store import make_folder
    from laurel_cli.study import folder as study
    from laurel_cli.study import ladder

    make_folder(rungs.folder, "study")
    with study.locked(rungs.folder, rungs.plans[0].command):
        ladder.begin(rungs.folder, rungs.ladder)


def _answer(folder: Path, destination: Destination, command: str, warnings: list[str]) -> None:
    from laurel_cli.cli.pictured import figure_folder, pictures_of
    from laurel_cli.reports.asked import beside
    from laurel_cli.reports.ladder import report

    document = report(folder, beside(None), command=command)
    document |= {"folder": str(folder), "warnings": list(dict.fromkeys([*warnings, *document["warnings"]]))}
    pictures = pictures_of(document, destination, figure_folder(destination, None), False, destination.force)
    destination.write(document, pictures=pictures)


def write_config(path: Path, rungs: Rungs, asked: TrainSettings, sizes: str, force: bool) -> None:
    """Write the ladder that is asked for as a file of settings; nothing in it that follows from a size.

    Raises:
        UsageError, ResourceError: the file is there already, or cannot be written.
    """
    from laurel_cli.cli import stdio
    from laurel_cli.records.files import check_writable, write_whole
    from laurel_cli.settings import files
    from laurel_cli.settings.ladder import LadderSettings
    from laurel_cli.settings.train import TrainSettings
    from laurel_cli.study import written

    check_writable(path, force)
    layers = asked.depths or None
    found = written.of_plan(rungs.plans[0]) | {"width": None, "steps": None, "layers": layers, "until_separated": 0}
    found |= {"arm_file": asked.arm_file, "ladder": sizes}
    found |= {"tokens_per_parameter": rungs.ladder.tokens_per_parameter}
    found |= {"ladder_lr": rungs.ladder.ladder_lr}
    text = files.text({"train-proxy": found}, {"train-proxy": [TrainSettings, LadderSettings]}, written.LEFT_OUT)
    write_whole(path, text, force)
    stdio.settle()
    stdio.say(f"wrote {path}")
