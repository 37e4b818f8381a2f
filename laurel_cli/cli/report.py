"""`laurel report`: the Pareto frontier, tables and plots, from what was recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output
from laurel_cli.render import FORMATS
from laurel_cli.settings.shared import OUTPUT, ArmFileSettings

if TYPE_CHECKING:
    from laurel_cli.cli.destination import Destination

WHAT = "What is reported"


def report(
    records: Annotated[
        list[Path] | None,
        typer.Option(
            "--records",
            metavar="DIR",
            help="A folder of records, at any depth; repeat it.",
            show_default="reports",
            rich_help_panel=WHAT,
        ),
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="This study alone, by its folder or by its name under reports/studies; repeat it.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="This model alone, as it was called.", rich_help_panel=WHAT),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="parameters, flops, latency, step, memory: what quality is set against.",
            show_default="all that were recorded",
            autocompletion=lambda: ["parameters", "flops", "latency", "step", "memory"],
            rich_help_panel=WHAT,
        ),
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Show the loss or the accuracy; verdicts are by the metric that the study declared.",
            show_default="the declared one",
            autocompletion=lambda: ["loss", "accuracy"],
            rich_help_panel=WHAT,
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Exit with code 7 if an arm meets it: 'COLUMN > NUMBER' or 'ARM: COLUMN > NUMBER', with a "
            "column of --format csv; repeat it.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write every figure here as PNG, SVG and PDF.",
            show_default="beside --output for markdown (SVG) and latex (PDF)",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    *,
    files: ArmFileSettings,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Report what was recorded: quality against each cost, what is established, what is excluded, what is not known.

    Reads what analyze --save, profile and train-proxy left, and says of a study what train-proxy says of it; needs no
    model and no torch. The same records give the same bytes.

    Examples:

        laurel report

        laurel report --study reports/studies/cifar --format html --output report.html

        laurel report --cost latency --quality loss --format latex --output report.tex

        laurel report --fail-if "added_parameters_percent > 2" --fail-if "rw+lr@16: gain_low < 0"
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.options import command_line
    from laurel_cli.errors import GateError
    from laurel_cli.reports.asked import chosen_costs, chosen_metric, gathered, refuse_nothing
    from laurel_cli.reports.gate import FailCondition

    destination = Destination.checked(format, output, force)
    gates = [FailCondition.parse(text) for text in fail_if or ()]
    costs, metric = chosen_costs(cost), chosen_metric(quality)
    folder = _figure_folder(destination, figures)
    stdio.reserve(debug)
    files.bring()
    found = gathered([Path(name) for name in study or ()], records)

    from laurel_cli.reports.document import report as make

    document = make(found, costs=costs, metric=metric, model=model, command=command_line())
    refuse_nothing(document, found, model)
    tripped = _tripped(document, gates)  # first: a condition that cannot be judged is an error, not a report
    pictures = _pictures(document, destination, folder, all_formats=figures is not None, force=force)
    destination.write(document, pictures=pictures)
    if tripped:
        raise GateError("A --fail-if condition is met.", "; ".join(tripped) + ".")


def _figure_folder(destination: Destination, figures: Path | None) -> Path | None:
    """Where figures go: as asked, else beside a markdown or LaTeX file.

    Raises:
        UsageError: LaTeX could not name a file there.
    """
    from laurel_cli.errors import UsageError

    folder = figures
    if folder is None and destination.path is not None and FORMATS[destination.format].pictures:
        named = destination.path.stem
        folder = destination.path.with_name("figures" if named == "report" else f"{named}-figures")
    if folder is not None and destination.format == "latex" and not re.fullmatch(r"[\w./ +@,=-]*", str(folder)):
        raise UsageError(f"LaTeX cannot include figures from {str(folder)!r}.", hint="Name a plain --figures folder.")
    return folder


def _pictures(
    document: Mapping[str, Any], destination: Destination, folder: Path | None, all_formats: bool, force: bool
) -> dict[str, str]:
    """Draw and write the figures; what the format needs of them by name.

    Raises:
        UsageError, ResourceError: a file exists already, or cannot be written.
    """
    shown = FORMATS[destination.format]
    if folder is not None:
        from laurel_cli.errors import ResourceError
        from laurel_cli.records.files import check_writable, write_whole
        from laurel_cli.reports.figures import names, pictures
        from laurel_cli.reports.figures.style import FORMATS as ALL

        chosen = ALL if all_formats else (shown.pictures,)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"{str(folder)!r} cannot be made.", f"{error.strerror}.") from error
        for name in names(document):
            for kind in chosen:
                check_writable(folder / f"{name}.{kind}", force)
        for name, content in pictures(document, chosen):
            write_whole(folder / name, content, force)
    if shown.is_inline:
        from laurel_cli.reports.figures import inline

        return inline(document)
    if folder is None or not shown.pictures:
        return {}
    here = destination.path.parent if destination.path is not None else Path()
    relative = Path(os.path.relpath(folder, here)).as_posix()
    return {name: f"{relative}/{name}.{shown.pictures}" for name in names(document)}


def _tripped(document: Mapping[str, Any], gates: list[Any]) -> list[str]:
    """The conditions that are met, each with the arms that meet it.

    Raises:
        UsageError: a condition cannot be judged from this report.
    """
    from laurel_cli.reports.rows import rows

    flat = rows(document)
    return [f"{gate.text}: {', '.join(found)}" for gate in gates if (found := gate.tripped(flat))]
