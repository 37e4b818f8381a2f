"""`laurel arms`: what can be compared."""

from __future__ import annotations

from dataclasses import asdict

from laurel_cli.cli.options import Debug, Force, Format, Output
from laurel_cli.settings.shared import ArmFileSettings


def arms(
    files: ArmFileSettings,
    format: Format = "table",  # noqa: A002 - the option's name
    output: Output = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """List the arms that commands compare: LAuReL's variants, the residual connections of others, naive scaling.

    Each with its formula, the parameters that it adds at a connection, whether it starts as the baseline, and its
    source. --arms takes their names.

    Examples:

        laurel arms

        laurel analyze gpt2 --arms rw,layerscale,rezero
    """
    from laurel_cli.arms import KINDS
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.rivals import BROKEN

    destination = Destination.checked(format, output, force)
    stdio.reserve(debug)
    files.bring()
    for reason in BROKEN.values():
        stdio.say(f"warning: an arm of an installed package is left out: {reason}")
    found = [{"kind": kind.name, **asdict(about)} for kind in KINDS.values() for about in kind.about()]
    destination.write({"schema": "laurel.arms/1", "arms": found})
