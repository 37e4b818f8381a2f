"""laurel.env/1: what is installed and which devices there are, as `laurel env` prints it."""

from __future__ import annotations

from typing import Literal, TypedDict

from laurel_cli.schemas.common import Versions


class FoundDevice(TypedDict):
    """A device, and what it is or why it cannot be used."""

    name: str
    available: bool
    detail: str


class Env(TypedDict):
    """Versions and devices."""

    schema: Literal["laurel.env/1"]
    versions: Versions
    devices: list[FoundDevice]
