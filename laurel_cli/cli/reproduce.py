"""`laurel reproduce`: a paper's experiment again, by the commands that users have, its printed figures beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output, command_line
from laurel_cli.settings.shared import DEVICE_HELP, device_names

if TYPE_CHECKING:
    from laurel_cli.experiments import Experiment, Scale

FOLDER = Path("reports/reproduce")


def reproduce(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="One that --list names, or a FILE.toml of the same form."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the experiments that come with laurel.")] = False,
    scale: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How large: cpu, gpu or paper.", show_default="the first that it has"),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Train on this, as train-proxy's --task.", show_default="the experiment's"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=DEVICE_HELP, show_default="the experiment's", autocompletion=device_names),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Trials of its study at once.", min=1, show_default="as train-proxy has it"),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where everything goes.", show_default=f"{FOLDER}/NAME-SCALE"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Time anew what was timed before and would be taken over.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands as lines, run none.")] = False,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Make a paper's experiment again: count, time and train its arms, and set its printed figures beside.

    An experiment is a file of data: its commands are analyze, profile, train-proxy and report, and each is shown as it
    starts. Records, the study and report.md go to the folder, which is of one experiment at one scale; the same command
    again goes on where it was. Times are taken over where the command, versions, code, device and the model's files are
    the same. Exit code 6: finished, some trials failed.

    Examples:

        laurel reproduce --list

        laurel reproduce table5 --scale cpu

        laurel reproduce table1 --scale cpu --task cifar10:DIR

        laurel train-proxy --write-config mine.toml && laurel reproduce mine.toml
    """
    from laurel_cli import experiments
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.typed import in_options
    from laurel_cli.errors import UsageError
    from laurel_cli.experiments.beside import document
    from laurel_cli.experiments.place import claim
    from laurel_cli.experiments.run import commands, on_a_cluster, run
    from laurel_cli.records.files import write_whole
    from laurel_cli.records.store import make_folder
    from laurel_cli.render import render

    destination = Destination.checked(format, output, force)
    stdio.reserve(debug)
    if list_:
        found = [_line(experiments.find(name)) for name in experiments.names()]
        destination.write({"schema": "laurel.experiments/1", "experiments": found})
        return
    if experiment is None:
        raise UsageError("No experiment is named.", f"It is one of {', '.join(experiments.names())}, or a FILE.toml.")
    chosen = experiments.find(experiment)
    size = _scale(chosen, scale)
    place = folder or FOLDER / f"{chosen.name}-{size.name}".replace(" ", "-")
    asked: dict[str, Any] = {"task": task, "device": device, "processes": processes}
    planned = commands(size, place, asked)
    cluster = on_a_cluster(size, place, asked)
    if dry_run:
        if destination.format != "table":
            why = "It prints commands, one a line."
            raise UsageError(f"--dry-run does not go with --format {destination.format}.", why, "Leave --format out.")
        destination.put("".join(f"{line}\n" for line in [*(one.line for one in planned), *cluster]))
        return
    make_folder(place)
    claim(place, chosen, size)
    make_folder(place / "records")

    def line(typed: str) -> None:
        stdio.say(f"$ {typed}")

    def note(said: str) -> None:
        stdio.say(f"note: {in_options(said)}")

    ran = run(chosen, planned, place, again=again, debug=debug, on_line=line, on_note=note)
    lines = [one.line for one in planned]
    made = document(
        chosen,
        size,
        folder=str(place),
        command=command_line(),
        lines=lines,
        cluster=cluster,
        answers=ran.answers,
        timed_before=ran.timed_before,
    )
    write_whole(place / "paper.md", render(made, "markdown"), force=True)
    stdio.say(f"wrote {place / 'paper.md'} and {place / 'report.md'}")
    destination.write(made, warn=False)  # the commands have said them
    if ran.some_failed:
        raise typer.Exit(6)


def _scale(experiment: Experiment, name: str | None) -> Scale:
    """The scale that is asked for, the first where none is."""
    from laurel_cli.settings.read import one_of

    return experiment.scales[one_of("scale", name, experiment.scales) if name else next(iter(experiment.scales))]


def _line(experiment: Experiment) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "title": experiment.title,
        "source": experiment.source,
        "scales": list(experiment.scales),
    }
