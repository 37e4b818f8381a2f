"""`laurel models`: which models there are by name."""

from __future__ import annotations

from typing import Annotated

import typer

from laurel_cli.cli.options import Debug, Force, Format, Output

Pattern = Annotated[
    str | None,
    typer.Argument(metavar="PATTERN", help="A part of the name, or a glob such as 'resnet*'. All names without it."),
]


def models(
    pattern: Pattern = None,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """List the models that can be named.

    Other models are reached by hf:DIR, hf:ORG/NAME, FILE.py:FACTORY or PACKAGE.MODULE:FACTORY.

    Examples:

        laurel models resnet

        laurel models 'timm:vit_*' --format csv
    """
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.errors import ModelError
    from laurel_cli.models import find_names
    from laurel_cli.models.reference import did_you_mean

    destination = Destination.checked(format, output, force)
    stdio.reserve(debug)
    found = find_names(pattern)
    if not found:
        hint = did_you_mean(pattern or "", [name.reference for name in find_names()])
        raise ModelError(f"No model matches {pattern!r}.", hint=hint or "`laurel models` lists all there are.")
    names = [{"reference": name.reference, "source": name.source} for name in found]
    destination.write({"schema": "laurel.models/1", "pattern": pattern, "models": names})
