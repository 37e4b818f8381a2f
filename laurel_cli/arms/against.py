"""Another model in the baseline's place: one of --against, or the baseline with settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.arms.base import About, Arm, Kind


def _read(name: str, plain: Mapping[str, Any]) -> Arm:
    return Arm(name, AGAINST)


# No name of an arm is parsed as one: whoever compares another model names its reference.
ABOUT = About("--against MODEL", "another model", "its own", "no")
AGAINST = Kind("against", lambda *_: None, _read, lambda: (ABOUT,))
