"""One learned sum by itself: its layouts, and a layer far from its start."""

from __future__ import annotations

import torch

from laurel_cli.laurel.layers import LaurelLayer
from laurel_cli.laurel.spec import Spec

D, RANK, LAGS = 6, 2, 3
LAYOUTS: dict[str, tuple[tuple[int, ...], int]] = {  # the shape of a sum, and where its channels lie
    "tokens": ((2, 5, D), 2),
    "rows": ((7, D), 1),
    "sequence": ((2, D, 7), 1),
    "image": ((2, D, 5, 4), 1),
    "one image": ((1, D, 5, 4), 1),
    "large image": ((2, D, 25, 24), 1),
    "one place": ((3, D, 1, 1), 1),
    "volume": ((2, D, 3, 2, 4), 1),
}

# Where a model is called with another number of dimensions than it was traced with: what a layer was made for, what it
# is called with, and where the channels lie in that. Numbers of places that are D or its square look like channels.
OTHER_RANKS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "an image without a batch": ("image", (D, 5, 4), 0),
    "a square image without a batch": ("image", (D, D, D), 0),
    "a row image without a batch": ("image", (D, D, 1), 0),
    "one place without a batch": ("one place", (D, 1, 1), 0),
    "a sequence without a batch": ("sequence", (D, D), 0),
    "tokens for rows": ("rows", (3, 5, D), 2),
    "as many tokens as channels for rows": ("rows", (3, D, D), 2),
    "rows for tokens": ("tokens", (7, D), 1),
    "one row for tokens": ("tokens", (D,), 0),
    "places for tokens": ("tokens", (2, 3, 4, D), 3),
}


def drawn(
    spec: Spec, shape: tuple[int, ...], dim: int, skip: int = 0, dtype: torch.dtype = torch.float64
) -> LaurelLayer:
    """A layer whose parameters are far from their start."""
    layer = LaurelLayer(spec, D, shape, dim, skip, lags=LAGS if spec.pa else 0, device="cpu", dtype=dtype)
    layer.reset_parameters()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    return layer
