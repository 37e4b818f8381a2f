"""Options of every command, beside those that are fields of settings; the command as it was typed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from laurel_cli.cli import stdio
from laurel_cli.render import FORMATS
from laurel_cli.settings.shared import OUTPUT, ArmSettings, VariantSettings

Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help=f"{', '.join([*FORMATS][:-1])} or {[*FORMATS][-1]}. JSON is exactly one document, on failure too.",
        autocompletion=lambda: list(FORMATS),
        rich_help_panel=OUTPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="FILE", help="Write the answer to a file, whole or not at all.", rich_help_panel=OUTPUT
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace --output's file if it exists.", rich_help_panel=OUTPUT)]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show tracebacks, timings and library warnings.", rich_help_panel=OUTPUT)
]


def say_unused(arms: ArmSettings, variants: VariantSettings) -> None:
    """Warn of variants that are named beside arms."""
    if arms.arms is not None and variants.variant:
        stdio.say("warning: --variant is not used, since --arms names the arms.")


def command_line() -> str:
    """The command as it was typed, for the record."""
    return shlex.join(["laurel", *sys.argv[1:]])
