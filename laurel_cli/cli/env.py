"""`laurel env`: what is installed, and which devices there are."""

from __future__ import annotations

from laurel_cli.cli.options import Debug, Force, Format, Output


def env(format: Format = "table", output: Output = None, force: Force = False, debug: Debug = False) -> None:  # noqa: A002
    """Show what is installed, and which devices there are.

    A device that cannot be used says why not. Put what this prints into a bug report.
    """
    from laurel_cli import devices
    from laurel_cli.cli import stdio
    from laurel_cli.cli.destination import Destination
    from laurel_cli.cli.progress import Progress
    from laurel_cli.records.provenance import versions

    destination = Destination.checked(format, output, force)
    stdio.reserve(debug)
    with Progress(debug) as progress:
        progress("looking for devices")
        found = [{"name": name, "available": one.available, "detail": one.detail} for name, one in devices.listed()]
    destination.write({"schema": "laurel.env/1", "versions": versions(), "devices": found})
