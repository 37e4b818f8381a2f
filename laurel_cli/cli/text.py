"""The helpers of `laurel_cli.text`, under the name by which commands know them."""

from laurel_cli.text import (
    NOTHING,
    amount,
    ascii_only,
    count,
    percent,
    plus_minus,
    shape,
    significant,
    size,
    times,
    visible,
    words,
)

__all__ = [
    "NOTHING",
    "amount",
    "ascii_only",
    "count",
    "percent",
    "plus_minus",
    "shape",
    "significant",
    "size",
    "times",
    "visible",
    "words",
]
