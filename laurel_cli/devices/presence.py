"""Whether a device can be used here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Presence:
    """Whether a device can be used here.

    Attributes:
        available: it can.
        detail: which it is; or why not, in words that a user can act on.
        broken: there is one, but it does not work.
    """

    available: bool
    detail: str
    broken: bool = False
