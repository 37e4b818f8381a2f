"""Which dimension of an activation holds the channels, followed through the graph.

A convolution writes its channels into dimension 1, a linear layer into the last one; views carry them along.
A shape alone cannot tell: [1, 56, 56, 96] is channels-last in Swin, [1, 96, 56, 56] channels-first in ConvNeXt. The
scores of an attention have no channels at all: both dimensions are positions. What no operator before tells, one
after it may: a linear layer reads channels from the last dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from laurel_cli.residual.graph import Node
from laurel_cli.residual.operators import CONVOLUTIONS

NORMS_OF_LAST = {"native_layer_norm", "_fused_rms_norm", "rms_norm"}
RECURRENT = {"mkldnn_rnn_layer", "_cudnn_rnn", "lstm", "gru"}  # one operator, where they are fused
LAST = {"linear", "embedding", *NORMS_OF_LAST, *RECURRENT}
SECOND = CONVOLUTIONS | {"native_batch_norm", "_native_batch_norm_legit_no_training", "native_group_norm"}
MATRIX_PRODUCTS = {"addmm", "mm", "bmm", "baddbmm", "matmul"}
SHUFFLES = {"pixel_shuffle", "pixel_unshuffle"}  # channels into positions, and back
# Longer, shorter or repeated, a dimension keeps its place.
IN_PLACE = {
    "cat",
    "slice",
    "narrow",
    "split",
    "split_with_sizes",
    "constant_pad_nd",
    "index_select",
    "expand",
    "repeat",
}
POSITIONS = -1  # instead of a dimension: there is none of channels

Knowledge = Literal["known", "positional", "unknown"]


@dataclass(frozen=True)
class Channels:
    """What is known of an activation's channels.

    Attributes:
        dim: their dimension; the last one where there are none or nothing is known.
        knowledge: "known", "positional" (no dimension holds channels) or "unknown".
    """

    dim: int
    knowledge: Knowledge


class ChannelMap:
    """The channel dimensions of a whole trace."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        """Follow the channels through `nodes`, forwards and, for what that leaves open, backwards."""
        self._nodes = nodes
        self._dims: dict[int, int] = {}
        for node in nodes:
            dim = _channel_dim(node, nodes, self._dims)
            if dim is not None and dim < len(node.shape):
                self._dims[node.index] = dim
        self._wanted: dict[int, int] = {}
        for node in reversed(nodes):
            self._ask(node)

    def of(self, skip: int, total: int) -> Channels:
        """The channels of a connection with this skip and this sum."""
        rank = len(self._nodes[total].shape)
        for dims in (self._dims, self._wanted):
            for index in (skip, total):
                if index in dims:
                    if dims[index] == POSITIONS:
                        return Channels(rank - 1, "positional")
                    return Channels(dims[index] + rank - len(self._nodes[index].shape), "known")
        return Channels(rank - 1, "unknown")

    def _ask(self, node: Node) -> None:
        """Note which dimension `node` takes for the channels of what it reads."""
        wanted = self._dims.get(node.index, self._wanted.get(node.index))
        for i in node.inputs:
            source = self._nodes[i]
            if not source.active or i in self._dims or i in self._wanted or not source.dtype.is_floating_point:
                continue
            if node.op in SECOND:
                dim: int | None = 1
            elif node.op in LAST or (node.op in MATRIX_PRODUCTS and _weight(node, self._nodes) == 1):
                dim = len(source.shape) - 1
            elif wanted is None or wanted == POSITIONS or node.op in MATRIX_PRODUCTS:
                continue
            else:
                dim = _carried(node, wanted, node.shape, source.shape, back=True)
            if dim is not None and dim < len(source.shape):
                self._wanted[i] = dim


def _channel_dim(node: Node, nodes: tuple[Node, ...], dims: dict[int, int]) -> int | None:
    if node.op in LAST:
        return len(node.shape) - 1
    if node.op in SECOND:
        return 1
    if node.op in MATRIX_PRODUCTS:
        return _of_product(node, nodes, dims)
    known = [i for i in node.inputs if i in dims]
    if not known:
        return None
    source = max(known, key=lambda i: (nodes[i].active, len(nodes[i].shape), -i))
    dim = dims[source]
    if dim == POSITIONS:
        return POSITIONS
    return _carried(node, dim, nodes[source].shape, node.shape)


def _weight(node: Node, nodes: tuple[Node, ...]) -> int | None:
    """Which factor of a matrix product, 0 or 1, is a weight."""
    factors = [nodes[i] for i in node.inputs[-2:]]
    weights = [n for n, factor in enumerate(factors) if not factor.active and (factor.parameters or factor.buffers)]
    return weights[-1] if weights else None


def _of_product(node: Node, nodes: tuple[Node, ...], dims: dict[int, int]) -> int | None:
    """Of A B the columns are those of B, the rows those of A: channels where they are channels there."""
    rows, columns = len(node.shape) - 2, len(node.shape) - 1
    weight = _weight(node, nodes)
    if weight == 1:
        return columns
    first, second = node.inputs[-2:]
    if dims.get(second) == columns:
        return columns
    if dims.get(second) == rows and weight == 0:  # W x for every image of [channels, positions]
        return rows
    if dims.get(first) == rows:
        return rows
    if dims.get(first) == columns or dims.get(second) == rows:  # the channels are summed over
        return POSITIONS
    return None


def _carried(
    node: Node, dim: int, before: tuple[int, ...], after: tuple[int, ...], *, back: bool = False
) -> int | None:
    """Where `node`, a view or elementwise work, moves a dimension of what it reads; `back`, where it has it from."""
    if node.op == "permute":
        order = [c % len(before) for c in node.constants if isinstance(c, int)]
        return order[dim] if back else order.index(dim)
    if node.op in ("transpose", "t"):
        swap = [c % len(before) for c in node.constants if isinstance(c, int)] or [0, 1]
        return swap[1 - swap.index(dim)] if dim in swap else dim
    if len(after) == len(before) and (after[dim] == before[dim] or node.op in SHUFFLES | IN_PLACE):
        return dim
    if dim == 1 and before[0] == 1 and len(after) == len(before) and after[2:] == before[2:]:
        return 1  # instance norm takes all images for one, and its channels for theirs
    return _through_reshape(dim, before, after)


def _through_reshape(dim: int, before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """The dimension of the same size with as many elements behind it; heads are parts of the last one."""
    behind = prod(before[dim + 1 :])
    for candidate in range(len(after)):
        if after[candidate] == before[dim] and prod(after[candidate + 1 :]) == behind:
            return candidate
    last = dim == len(before) - 1 and after and min(before[-1], after[-1]) > 1
    return len(after) - 1 if last and 0 in (before[-1] % after[-1], after[-1] % before[-1]) else None
