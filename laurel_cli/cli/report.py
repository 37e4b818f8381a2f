"""`laurel report`: the Pareto frontier, tables and plots, from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output
from laurel_cli.cli.pictured import figure_folder, pictures_of
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
            help="This study or ladder alone, by its folder or its name under reports/studies; repeat it for studies.",
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

    Reads what analyze --save, profile and train-proxy left, and says of a study or a ladder what train-proxy says; it
    needs no model and no torch. The same records give the same bytes.

    Examples:

        laurel report

        laurel report --study reports/studies/cifar10 --format html --output report.html

        laurel report --cost latency --quality loss --format latex --output report.tex

        laurel report --fail-if "added_parameters_percent > 2" --fail-if "rw+lr@16: gain_low < 0"
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.options import command_line
    from laurel_cli.errors import GateError
    from laurel_cli.reports.asked import chosen_costs, chosen_metric, gathered, ladder_among, refuse_nothing
    from laurel_cli.reports.gate import FailCondition

    destination = Destination.checked(format, output, force)
    gates = [FailCondition.parse(text) for text in fail_if or ()]
    costs, metric = chosen_costs(cost), chosen_metric(quality)
    folder = figure_folder(destination, figures)
    stdio.reserve(debug)
    files.bring()
    ladder = ladder_among([Path(name) for name in study or ()])
    if ladder is not None:
        _refuse_beside_ladder(study, model=model, cost=cost, quality=quality, fail_if=fail_if)
        of_ladder(ladder, records, destination, folder, all_formats=figures is not None)
        return
    found = gathered([Path(name) for name in study or ()], records)

    from laurel_cli.reports.document import report as make

    document = make(found, costs=costs, metric=metric, model=model, command=command_line())
    refuse_nothing(document, found, model)
    tripped = _tripped(document, gates)  # first: a condition that cannot be judged is an error, not a report
    pictures = pictures_of(document, destination, folder, all_formats=figures is not None, force=force)
    destination.write(document, pictures=pictures)
    if tripped:
        raise GateError("A --fail-if condition is met.", "; ".join(tripped) + ".")


def of_ladder(
    folder: Path, records: Sequence[Path] | None, destination: Destination, figures: Path | None, *, all_formats: bool
) -> None:
    """Say whether gains hold, of the ladder in `folder`; its warnings go to stderr."""
    from laurel_cli.cli.options import command_line
    from laurel_cli.reports.asked import beside
    from laurel_cli.reports.ladder import report as make

    document = make(folder, beside(records), command=command_line())
    pictures = pictures_of(document, destination, figures, all_formats, destination.force)
    destination.write(document, pictures=pictures)


def _refuse_beside_ladder(study: Sequence[str] | None, **others: object) -> None:
    """A ladder stands alone, and what a report of studies takes besides means nothing there.

    Raises:
        UsageError: something else is asked for.
    """
    from laurel_cli.errors import UsageError

    if len(study or ()) > 1:
        raise UsageError("A ladder is reported alone.", hint="Name it by itself: one --study.")
    for name, value in others.items():
        if value:
            what = f"`{name}` is not asked of a ladder."
            raise UsageError(what, "Its unit is compute saved.", f"Leave `{name}` out, or report one of its sizes.")


def _tripped(document: Mapping[str, Any], gates: list[Any]) -> list[str]:
    """The conditions that are met, each with the arms that meet it.

    Raises:
        UsageError: a condition cannot be judged from this report.
    """
    from laurel_cli.reports.rows import rows

    flat = rows(document)
    return [f"{gate.text}: {', '.join(found)}" for gate in gates if (found := gate.tripped(flat))]
