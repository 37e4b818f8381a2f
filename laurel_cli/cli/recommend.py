"""`laurel recommend`: which arm to try first, or none, from what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output
from laurel_cli.settings.shared import ArmFileSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

BUDGET = "Budget"
REPORTS = Path("reports")


def _limit(words: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        metavar="PERCENT", help=words, show_default="no limit", rich_help_panel=BUDGET
    )
    return option


def recommend(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model as it was called when it was measured.")],
    max_params: Annotated[str | None, _limit("Parameters added at most, such as 1%.")] = None,
    max_flops: Annotated[str | None, _limit("FLOPs added at most.")] = None,
    max_latency: Annotated[str | None, _limit("Latency added at most.")] = None,
    max_step: Annotated[str | None, _limit("Time of a training step added at most.")] = None,
    max_memory: Annotated[str | None, _limit("Peak memory added at most.")] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option("--records", metavar="DIR", help="A folder of records; repeat it.", show_default="reports"),
    ] = None,
    *,
    files: ArmFileSettings,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Name the arm to try first within a budget, or the plain residual, and say what the advice rests on.

    Rests on what was recorded: costs of analyze --save and profile, and every study of the model by train-proxy. An
    arm is advised only where a study establishes that it is better than the baseline and than every control, and no
    other study contradicts it. Builds no model.

    Examples:

        laurel analyze resnet50 --rank 4,8,16,32 --save && laurel recommend resnet50 --max-params 1%

        laurel recommend resnet50 --max-params 2% --max-latency 5%
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.options import command_line
    from laurel_cli.errors import RecordError
    from laurel_cli.records.folder import gather
    from laurel_cli.reports.recommend import recommend as advise

    destination = Destination.checked(format, output, force)
    budgets = _budgets(
        {"params": max_params, "flops": max_flops, "latency": max_latency, "step": max_step, "memory": max_memory}
    )
    stdio.reserve(debug)
    files.bring()
    from laurel_cli.reports.document import report

    missing = f"Try laurel analyze {model} --save, then laurel profile {model}."
    if records is None and not REPORTS.is_dir():
        raise RecordError(f"Nothing is recorded of {model!r}.", "There is no folder reports.", missing)
    document = report(gather(records or [REPORTS]), model=model)
    for warning in document["warnings"]:
        stdio.say(f"warning: {warning}")
    if not document["comparisons"]:
        raise RecordError(f"Nothing is recorded of {model!r}.", hint=missing)
    destination.write(advise(document["comparisons"], budgets, command_line()))


def _budgets(texts: Mapping[str, str | None]) -> dict[str, float]:
    """Limits in percent, by the cost's name in a report."""
    from laurel_cli.settings.read import percentage

    named = {"params": "parameters"}
    return {
        named.get(name, name): percentage(f"--max-{name}", text) for name, text in texts.items() if text is not None
    }
