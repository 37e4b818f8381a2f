"""Bits per byte: a language model's loss in a unit that no tokenizer changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

ONE_A_BYTE = {"kind": "bytes"}


def tokens_per_byte(task: Mapping[str, Any]) -> float | None:
    """Of the text that is evaluated on; None for images, of a tokenizer that loses text, and if no record says.

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
    if not isinstance(held, Mapping) or not held.get("bytes") or not held.get("tokens") or loses_text(task):
        return None
    return float(held["tokens"] / held["bytes"])


def loses_text(task: Mapping[str, Any]) -> bool:
    """Whether the tokens do not give the text back: it is fewer bits than its bytes, and no model predicts the rest."""
    held = (task.get("provenance") or {}).get("evaluation")
    return isinstance(held, Mapping) and held.get("exact") is False


def bits_per_byte(nats: float, tokens_a_byte: float) -> float:
    """A loss of `nats` a token: nats / ln 2 bits a token, times the tokens that a byte takes on average."""
    return nats / math.log(2) * tokens_a_byte
