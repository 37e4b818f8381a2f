"""`laurel report`: the Pareto frontier, tables and plots, from what was recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laurel_cli.cli.options import OUTPUT, Debug, Force, Output

if TYPE_CHECKING:
    from laurel_cli.cli.destination import Destination
    from laurel_cli.records.folder import Gathered

FORMATS = ("table", "markdown", "html", "latex", "csv", "json")
REPORTS, STUDIES = Path("reports"), Path("reports/studies")
WHAT = "What is reported"
KINDS = {"markdown": ("svg",), "latex": ("pdf",)}


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
    format: Annotated[  # noqa: A002 - the option's name
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="table, markdown, html (one file), latex, csv or json.",
            autocompletion=lambda: list(FORMATS),
            rich_help_panel=OUTPUT,
        ),
    ] = "table",
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
    from laurel_cli.cli.model_options import command_line
    from laurel_cli.reports.gate import Gate

    destination = Destination.checked(format, output, force, FORMATS)
    gates = [Gate.parse(text) for text in fail_if or ()]
    costs, metric = _choices(cost, quality)
    folder = _figure_folder(destination, figures)
    stdio.reserve(debug)
    gathered = _gathered([_folder(name) for name in study or ()], records)

    from laurel_cli.reports.document import report as make

    document = make(gathered, costs=costs, metric=metric, model=model, command=command_line())
    _refuse_nothing(document, gathered, model)
    pictures = _pictures(document, destination, folder, all_formats=figures is not None, force=force)
    destination.write(document, pictures=pictures)
    _judge(document, gates)


def _choices(cost: list[str] | None, quality: str | None) -> tuple[tuple[str, ...], str | None]:
    from laurel_cli.cli.options import one_of, split

    known = ("parameters", "flops", "latency", "step", "memory")
    chosen = tuple(dict.fromkeys(one_of("--cost", item, known) for item in split(cost)))
    return chosen or known, None if quality is None else one_of("--quality", quality, ("loss", "accuracy"))


def _folder(name: str) -> Path:
    """The folder of a study, by its path or its name."""
    path = Path(name)
    return path if path.exists() or not (STUDIES / name).is_dir() else STUDIES / name


def _gathered(studies: list[Path], records: list[Path] | None) -> Gathered:
    """What is asked for; with `studies` alone their trials, and what else is known of their models.

    Raises:
        RecordError: a folder is missing.
    """
    from dataclasses import replace

    from laurel_cli.records.folder import Gathered, gather
    from laurel_cli.reports.join import models, usable

    if not studies:
        if records is None and not REPORTS.is_dir():
            return Gathered((), ())
        return gather(records or [REPORTS])
    trials = gather(studies)
    beside = records or [folder for folder in (REPORTS / "records",) if folder.is_dir()]
    rest = gather(beside) if beside else Gathered((), ())
    both = {record.name: record for record in rest.records if record.kind != "trial"}
    both |= {record.name: record for record in trials.records}
    good, _ = usable(both.values())
    joined = {record.name for model in models(good) if model.trials for record in model.records}
    # What cannot be used is kept: the report says why.
    bad = {name for name in both if name not in {record.name for record in good}}
    kept = tuple(both[name] for name in sorted(both) if name in joined | bad)
    return replace(trials, records=kept, problems=(*trials.problems, *rest.problems))


def _refuse_nothing(document: Mapping[str, Any], gathered: Gathered, model: str | None) -> None:
    """No answer is no report.

    Raises:
        RecordError: nothing was recorded, nothing of that model, or nothing that can be read.
    """
    from laurel_cli.errors import RecordError
    from laurel_cli.models.reference import did_you_mean

    if document["comparisons"]:
        return
    if gathered.problems:
        raise RecordError("No record can be read.", gathered.problems[0].what, "Try laurel records --verify.")
    if model is not None and gathered.records:
        called = sorted({str(record.content["model"].get("reference")) for record in gathered.records})
        raise RecordError(
            f"Nothing is recorded of {model!r}.", hint=did_you_mean(model, called) or "Try laurel records."
        )
    raise RecordError(
        "There are no records to report.",
        "analyze --save, profile and train-proxy leave them in reports/records and reports/studies.",
        "Try laurel analyze resnet50 --save, or name a folder with --records.",
    )


def _figure_folder(destination: Destination, figures: Path | None) -> Path | None:
    """Where figures go: as asked, else beside a markdown or LaTeX file.

    Raises:
        UsageError: LaTeX could not name a file there.
    """
    from laurel_cli.errors import UsageError

    folder = figures
    if folder is None and destination.path is not None and destination.format in KINDS:
        folder = destination.path.with_name(destination.path.stem + "-figures")
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
    if folder is not None:
        from laurel_cli.errors import ResourceError
        from laurel_cli.records.files import check_writable, write_whole
        from laurel_cli.reports.figures import names, pictures
        from laurel_cli.reports.figures.style import FORMATS as ALL

        chosen = ALL if all_formats else KINDS[destination.format]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"{str(folder)!r} cannot be made.", f"{error.strerror}.") from error
        for name in names(document):
            for kind in chosen:
                check_writable(folder / f"{name}.{kind}", force)
        for name, content in pictures(document, chosen):
            write_whole(folder / name, content, force)
    if destination.format == "html":
        from laurel_cli.reports.figures import inline

        return inline(document)
    if folder is None or destination.format not in KINDS:
        return {}
    here = destination.path.parent if destination.path is not None else Path()
    relative = Path(os.path.relpath(folder, here)).as_posix()
    return {name: f"{relative}/{name}.{KINDS[destination.format][0]}" for name in names(document)}


def _judge(document: Mapping[str, Any], gates: list[Any]) -> None:
    """Fail where a gate trips.

    Raises:
        GateError: a condition is met.
        UsageError: a condition cannot be judged from this report.
    """
    from laurel_cli.errors import GateError
    from laurel_cli.reports.rows import rows

    flat = rows(document)
    tripped = [f"{gate.text}: {', '.join(found)}" for gate in gates if (found := gate.tripped(flat))]
    if tripped:
        raise GateError("A --fail-if condition is met.", "; ".join(tripped) + ".")
