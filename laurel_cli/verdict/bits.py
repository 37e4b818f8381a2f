"""Bits per byte: a language model's loss in a unit that no tokenizer changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

ONE_A_BYTE = {"kind": "bytes"}


def tokens_per_byte(task: Mapping[str, Any]) -> float | None:
    """Of the text that is evaluated on; None for images, and where a record does not say.

    1 where every token is a byte. Otherwise tokens over bytes of all the text held out, of which a limited evaluation
    sees a part.

    Args:
        task: as a trial's record describes it.
    """
    provenance = task.get("provenance") or {}
    if task.get("kind") != "text":
        return None
    if provenance.get("tokenizer") == ONE_A_BYTE or task.get("name") == "stdlib":
        return 1.0
    held = provenance.get("evaluation")
    if not isinstance(held, Mapping) or not held.get("bytes") or not held.get("tokens"):
        return None
    return float(held["tokens"] / held["bytes"])


def bits_per_byte(nats: float, tokens_a_byte: float) -> float:
    """A loss of `nats` a token: nats / ln 2 bits a token, times the tokens that a byte takes on average."""
    return nats / math.log(2) * tokens_a_byte
