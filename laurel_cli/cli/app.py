"""The commands. A new command is one file and one line here."""

from __future__ import annotations

import os
import shutil
from typing import Annotated

import typer

from laurel_cli.cli.analyze import analyze
from laurel_cli.cli.arms import arms
from laurel_cli.cli.convert import convert
from laurel_cli.cli.env import env
from laurel_cli.cli.evaluate import evaluate
from laurel_cli.cli.models import models
from laurel_cli.cli.profile import profile
from laurel_cli.cli.recommend import recommend
from laurel_cli.cli.records import records
from laurel_cli.cli.report import report
from laurel_cli.cli.reproduce import reproduce
from laurel_cli.cli.signature import from_fields
from laurel_cli.cli.train_proxy import train_proxy

NARROW = 60  # below it rich's panels break words; plain help wraps between them


def _markup() -> str | None:
    """Panels where they fit; plain help on a narrow or dumb terminal."""
    plain = os.environ.get("TERM") == "dumb" or shutil.get_terminal_size().columns < NARROW
    return None if plain else "rich"


app = typer.Typer(
    name="laurel",
    rich_markup_mode=_markup(),  # type: ignore[arg-type]
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from laurel_cli import __version__

        typer.echo(f"laurel {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def laurel(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and library warnings.")] = False,
) -> None:
    """LAuReL for any PyTorch model: find its residual connections, put LAuReL in their place, count and time that.

    Start with: laurel analyze resnet50 --variant rw+lr --rank 16
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.command()(from_fields(analyze))
app.command()(from_fields(profile))
app.command("train-proxy")(from_fields(train_proxy))
app.command()(from_fields(report))
app.command()(from_fields(recommend))
app.command()(reproduce)
app.command()(from_fields(convert))
app.command()(evaluate)
app.command()(records)
app.command()(from_fields(arms))
app.command()(models)
app.command()(env)
