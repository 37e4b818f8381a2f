"""The low-rank maps of a learned sum (Eqs. 3 and 6): what A and B are, how they start, what they make."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from laurel_cli.laurel import fast
from laurel_cli.laurel.addition import fill
from laurel_cli.laurel.spec import Spec, orthogonal_entry


def narrowed(
    layer: Any,
    inputs: Sequence[Tensor],
    scales: Tensor | None = None,
    by: Callable[..., Tensor] = nn.Module.__call__,
    known: Sequence[Tensor | None] = (),
) -> Tensor:
    """The r-dimensional products c_j A_j x_j side by side, of a layer that has the maps A and B, each made `by`, or
    `known`.

    Shape: that of the inputs with r, or r for each map, channels; the channels last where B is a linear layer.
    """
    dtype = getattr(layer.B.weight, "dtype", inputs[0].dtype)  # a quantised map has a method there
    if dtype != inputs[0].dtype and not fast.autocasts(inputs[0]):
        inputs = [tensor.to(dtype) for tensor in inputs]  # a stream wider than the model's weights
    if layer._moved:
        inputs = [tensor.movedim(layer._channel_dim, -1) for tensor in inputs]
    maps = list(layer.A)  # once: its index and its length take longer than a small product's start
    if scales is None and len(maps) == 1:  # as most have: in few words, since every sum asks
        return by(maps[0], inputs[0])
    narrow = [
        by(down, tensor) if made is None else made
        for down, tensor, made in zip(maps, inputs, known or [None] * len(inputs), strict=False)
    ]
    if scales is not None:
        narrow = [scale * tensor for scale, tensor in zip(scales.unbind(0), narrow, strict=False)]
    if any(tensor.shape != narrow[0].shape for tensor in narrow):  # learned queries: one for the whole batch
        narrow = list(torch.broadcast_tensors(*narrow))
    if len(narrow) < len(maps):  # fewer earlier inputs than lags in this call: absent ones are zero
        narrow += [torch.zeros_like(narrow[0])] * (len(maps) - len(narrow))
    dim = -1 if layer._moved or layer._channel_last else layer._channel_dim
    return narrow[0] if len(narrow) == 1 else torch.cat(narrow, dim)


def widened(layer: Any, narrow: Tensor, dtype: torch.dtype) -> Tensor:
    """B times what `narrowed` made, in the stream's own `dtype` and with its order of dimensions."""
    wide: Tensor = layer.B(narrow)
    if wide.dtype != dtype and not fast.autocasts(wide):
        wide = wide.to(dtype)
    return wide.movedim(-1, layer._channel_dim) if layer._moved else wide


def maps_of(spec: Spec, lags: int) -> int:
    """How many low-rank maps a layer holds."""
    return lags if spec.history_map == "per-lag" else int(spec.low_rank)


def pointwise(
    inputs: int, outputs: int, shape: tuple[int, ...], channel_dim: int, options: Mapping[str, Any]
) -> nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """A linear map of the channels, without bias; it draws nothing from the global random stream."""
    convolutions = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    if channel_dim == 1 and len(shape) in convolutions:
        return skip_init(convolutions[len(shape)], inputs, outputs, 1, bias=False, **options)
    return skip_init(nn.Linear, inputs, outputs, bias=False, **options)


@torch.no_grad()
def begin(part: Any, spec: Spec, generator: torch.Generator | None = None, *, up: bool = False) -> None:
    """Start one of the maps: B at zero, A, of shape (r, D) followed by ones for a convolution, as the spec says."""
    if up:
        part.weight.zero_()
        return
    rank, width = part.weight.shape[:2]

    def fill_in(start: Tensor) -> None:
        if spec.init == "orthogonal":
            # A_ij = 1 / sqrt(r D) where i mod r = j, else 0; the paper's A is D x r, this one its transpose.
            columns = torch.arange(width)
            start.zero_()[columns % rank, columns] = orthogonal_entry(width, rank)
        else:
            bound = math.sqrt(6.0 / (rank + width))  # Xavier, uniform
            start.copy_(start.float().uniform_(-bound, bound, generator=generator))

    fill(part.weight, fill_in)
