"""What a connection hands on where every lag has a low-rank map of its own (Eq. 6): its input, multiplied already.

x_i is read by the next k connections, each with another A. Stacked, these are one product: x_i is read once instead of
k times, and in training its gradient is made once. The A of a connection that did not run has no gradient, as if each
had multiplied by itself. x_i itself stays beside the products, for a connection that does not find its own:
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
        if (self.x._version, down.weight._version) != (self.versions[0], self.versions[1 + lag]):
            return None
        return self.products[lag]


def projected(x: Tensor, call: Call | None, *, last: bool) -> Tensor | Projected:
    """x with its products, or alone where they are not worth it or somebody watches.

    Args:
        x: the input.
        call: where it is read first.
        last: its channels are the last dimension.
    """
    if call is None or not worth.pays(x, worth.PROJECTED) or not (fast.fits(x) or fast_training.fits(x)):
        return x
    if fast.watched():
        return x
    recorded = torch.is_grad_enabled()
    if recorded and not last and not x.is_contiguous():  # images whose channels lie innermost: slower by a third
        return x
    history, position = call
    maps = [_map(layer, lag, last=last) for lag, layer in enumerate(history.readers(position))]
    if len(maps) < 2 or None in maps or not all(_is_usual(one, x, last=last) for one in maps):
        return x
    weights = tuple(one.weight for one in maps)
    if any(one.is_inference() for one in (x, *weights)):  # nothing counts what is written to them
        return x
    products = _Stacked.apply(maps, -1 if last else 1, x, *weights) if recorded else fast.narrow_at_once(maps, x)
    return Projected(x, weights, products, tuple(one._version for one in (x, *weights)), recorded)


class _Stacked(torch.autograd.Function):
    """A x of several maps by one product; what nobody read has no gradient, where a split would have zeros."""

    @staticmethod
    def forward(ctx: Any, maps: Sequence[Any], dim: int, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dim = dim % x.dim()
        ctx.save_for_backward(x if any(ctx.needs_input_grad[3:]) else None, *weights)
        ctx.set_materialize_grads(False)
        return fast.narrow_at_once(maps, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        x, *weights = ctx.saved_tensors
        read = {number: one for number, one in enumerate(gradients) if one is not None}
        of_weights: list[Tensor | None] = [None] * len(weights)
        if not read:
            return None, None, None, *of_weights
        _, _, for_x, *wanted = ctx.needs_input_grad
        whole = torch.cat(list(read.values()), ctx.dim)
        maps = torch.cat([weights[number].flatten(1) for number in read])
        dx = fast_training.mapped(whole, maps, ctx.dim) if for_x else None
        if any(wanted[number] for number in read):
            every = fast_training.outer(whole, x, ctx.dim).split([len(weights[number]) for number in read])
            for number, one in zip(read, every, strict=True):
                of_weights[number] = one.view_as(weights[number]) if wanted[number] else None
        return None, None, dx, *of_weights


def _map(layer: Any, lag: int, *, last: bool) -> Any:
    """The A by which a reader of x multiplies it; None where it has none, or its channels lie elsewhere in x."""
    maps = layer._modules.get("A")
    if maps is None or lag >= len(maps) or layer._moved or layer._channel_last != last:
        return None
    return maps[lag]


def _is_usual(down: Any, x: Tensor, *, last: bool) -> bool:
    if (type(down) in fast.CONVOLUTIONS) == last or not fast.is_plain(down, x) or down.weight.device != x.device:
        return False
    if "_is_fsdp_managed_module" in vars(down):  # its weight is gathered, and let go, at the time of its own block
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
