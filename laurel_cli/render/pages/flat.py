"""An arm of a document as one flat row: nested values side by side, as ratio.median and ratio.low."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def flat(arm: Mapping[str, Any], parts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The arm with the same columns whatever is known of it; its trials are a table of their own, which JSON has.

    Args:
        arm: of a document.
        parts: of each value that may be missing, what it holds where it is there.
    """
    found: dict[str, Any] = {}
    for key, value in arm.items():
        if key in parts:
            found |= {f"{key}.{name}": (value or {}).get(name) for name in parts[key]}
        elif isinstance(value, Mapping):
            found |= {f"{key}.{name}": entry for name, entry in value.items()}
        elif key != "trials":
            found[key] = value
    return found
