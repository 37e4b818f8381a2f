"""Which dimension of an activation holds the channels, followed through the graph.

A convolution writes its channels into dimension 1, a linear layer into the last one; views carry them along.
A shape alone cannot tell: [1, 56, 56, 96] is channels-last in Swin, [1, 96, 56, 56] channels-first in ConvNeXt.
"""

from __future__ import annotations

from math import prod

from laurel_cli.residual.operators import CONVOLUTIONS
from laurel_cli.residual.trace import Node

LAST = {"addmm", "mm", "linear", "native_layer_norm", "embedding", "_fused_rms_norm", "rms_norm"}
SECOND = CONVOLUTIONS | {"native_batch_norm", "_native_batch_norm_legit_no_training", "native_group_norm"}


def channel_dims(nodes: tuple[Node, ...]) -> dict[int, int]:
    """The channel dimension of every node for which it is known."""
    dims: dict[int, int] = {}
    for node in nodes:
        dim = _channel_dim(node, nodes, dims)
        if dim is not None and 0 <= dim < len(node.shape):
            dims[node.index] = dim
    return dims


def _channel_dim(node: Node, nodes: tuple[Node, ...], dims: dict[int, int]) -> int | None:
    if node.op in LAST:
        return len(node.shape) - 1
    if node.op in SECOND:
        return 1
    if node.op in ("bmm", "baddbmm", "matmul"):
        return None
    known = [i for i in node.inputs if i in dims]
    if not known:
        return None
    source = max(known, key=lambda i: (nodes[i].active, len(nodes[i].shape), -i))
    dim, before, after = dims[source], nodes[source].shape, node.shape
    if node.op == "permute":
        order = [c for c in node.constants if isinstance(c, int)]
        return [o % len(before) for o in order].index(dim)
    if node.op in ("transpose", "t"):
        swap = [c % len(before) for c in node.constants if isinstance(c, int)] or [0, 1]
        return swap[1 - swap.index(dim)] if dim in swap else dim
    if len(after) == len(before) and after[dim] == before[dim]:
        return dim
    return _through_reshape(dim, before, after)


def _through_reshape(dim: int, before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """The dimension of the same size with as many elements behind it, else None."""
    behind = prod(before[dim + 1 :])
    for candidate in range(len(after)):
        if after[candidate] == before[dim] and prod(after[candidate + 1 :]) == behind:
            return candidate
    return None
