"""What `laurel train-proxy` does with a plan: train and answer, list the trials, or run one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from laurel_cli.cli.options import command_line
from laurel_cli.cli.typed import in_options

if TYPE_CHECKING:
    from laurel_cli.cli.destination import Destination
    from laurel_cli.proxy.compare import StudyPlan


def compare(plan: StudyPlan, tensorboard: Path | None, destination: Destination, debug: bool) -> None:
    """Train what is missing and write the answer; after Ctrl-C that of the trials that are there.

    Raises:
        typer.Exit: 6, some trials failed.
    """
    from laurel_cli.cli.live import Live
    from laurel_cli.proxy import compare as proxy
    from laurel_cli.proxy import study

    with Live(debug=debug, tensorboard=tensorboard) as live:
        prepared = proxy.prepare(plan, live.step)
        try:
            document = proxy.compare(plan, prepared, on_event=live.event, on_trials=live.trials)
        except KeyboardInterrupt:
            live.close()
            if study.trials(prepared.folder):
                destination.write(proxy.judged(prepared, plan.command))
            raise
    destination.write(document)
    if any(arm["failed"] for arm in document["arms"]):
        raise typer.Exit(6)


def list_trials(plan: StudyPlan, debug: bool) -> None:
    """Write the study down and list its missing trials, ARM:SEED a line."""
    from laurel_cli.cli import stdio
    from laurel_cli.cli.progress import Progress
    from laurel_cli.proxy import study
    from laurel_cli.proxy.compare import prepare

    with Progress(debug) as progress:
        prepared = prepare(plan, progress)
    for warning in prepared.warnings:
        stdio.say(f"warning: {in_options(warning)}")
    stdio.say(f"study: {prepared.folder}")
    stdio.answer("".join(f"{arm}:{seed}\n" for arm, seed in study.missing(prepared.folder, prepared.study)))


def run_one(trial: str, folder: Path | None) -> None:
    """Run one trial for a scheduler, or as one of the processes that torchrun has started for it.

    Raises:
        UsageError: `trial` is not ARM:SEED, or no folder is named.
        typer.Exit: 128 and the signal that ended it.
    """
    import signal

    from laurel_cli.errors import UsageError

    arm, colon, seed = trial.rpartition(":")
    if not colon or not seed.isdecimal():
        raise UsageError(f"--trial {trial!r} is not ARM:SEED.", hint="Try --trial rw:0.")
    if folder is None:
        raise UsageError("--trial needs --study.", "It runs one trial of a study that is written down.")
    from laurel_cli.cli import stdio
    from laurel_cli.proxy.trial import Stopped
    from laurel_cli.proxy.worker import run_trial

    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: asked.append(number) if not asked else _at_once(number))
    try:
        content = run_trial(folder, arm, int(seed), command=command_line(), stop=lambda: bool(asked))
    except Stopped:
        raise typer.Exit(128 + asked[0]) from None
    stdio.say(f"{trial}: {content['status']}, loss {(content['final'] or {}).get('loss')}")


def _at_once(number: int) -> None:
    raise KeyboardInterrupt
