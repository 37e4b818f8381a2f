"""What a connection hands on where every lag has a low-rank map of its own (Eq. 6): its input, multiplied already.

x_i is read by the next k connections, each with another A. Stacked, these are one product: x_i is read once instead of
k times, and in training its gradient is made once; the stacked maps, k r D numbers, are then kept for the backward
pass, which no count of ours has. x_i itself stays beside the products, for a connection that does not find its own:
where A or x have changed since, A is hooked or wrapped, or gradients are recorded as they were not then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from laurel_cli.laurel import fast, fast_training, worth
from laurel_cli.laurel.addition import Call


@dataclass(frozen=True, slots=True)
class Projected:
    """An input x of a stream, of shape (..., D) or (N, D, ...), and its products.

    Attributes:
        weights: the A by which the connection j places on reads it, for j = 0, 1, ...
        products: A x of each, with r channels.
        versions: of x and of each A, when they were multiplied: what was written to since has another.
        recorded: whether gradients were.
    """

    x: Tensor
    weights: tuple[Tensor, ...]
    products: tuple[Tensor, ...]
    versions: tuple[int, ...]
    recorded: bool

    def product(self, lag: int, down: Any) -> Tensor | None:
        """What the A of the connection that stands `lag` places on makes of x; None where it is not known any more."""
        if lag >= len(self.products) or self.recorded != torch.is_grad_enabled():
            return None
        if not fast.is_plain(down, self.x) or down.weight is not self.weights[lag]:
            return None
        if (_version(self.x), _version(down.weight)) != (self.versions[0], self.versions[1 + lag]):
            return None
        return self.products[lag]


def projected(x: Tensor, call: Call | None, *, last: bool) -> Tensor | Projected:
    """x with its products, or alone where they are not worth it or somebody watches.

    Args:
        x: the input.
        call: where it is read first.
        last: its channels are the last dimension.
    """
    kind = worth.PROJECTED
    if call is None or not (fast.fits(x, kind=kind) or fast_training.fits(x, kind=kind)) or fast.watched():
        return x
    recorded = torch.is_grad_enabled()
    if recorded and not last and not x.is_contiguous():  # images whose channels lie innermost: slower by a third
        return x
    history, position = call
    maps = [layer.A[lag] for lag, layer in enumerate(history.readers(position)) if lag < len(layer.A)]
    if len(maps) < 2 or not all(_is_usual(one, x, last=last) for one in maps):
        return x
    weights = tuple(one.weight for one in maps)
    return Projected(x, weights, fast.narrow_at_once(maps, x), tuple(map(_version, (x, *weights))), recorded)


def _version(tensor: Tensor) -> int:
    """Counts what was written to a tensor; those of inference mode, whose writes nothing counts, are all at 0."""
    return 0 if tensor.is_inference() else tensor._version


def _is_usual(down: Any, x: Tensor, *, last: bool) -> bool:
    if (type(down) in fast.CONVOLUTIONS) == last or not fast.is_plain(down, x) or down.weight.device != x.device:
        return False
    return down.weight.dim() > 1 and down.weight.shape[1] == x.shape[-1 if last else 1]


def inputs(entries: Sequence[Any]) -> list[Tensor]:
    """The x of each."""
    return [one.x if type(one) is Projected else one for one in entries]


def products(layer: Any, entries: Sequence[Any]) -> list[Tensor | None]:
    """What `layer` would make of each by its own A, where that is at hand."""
    return [
        one.product(lag, down) if type(one) is Projected else None
        for lag, (down, one) in enumerate(zip(layer.A, entries, strict=False))
    ]
