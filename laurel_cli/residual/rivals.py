"""What stands where a residual connection could: mixed and gated skips, and LAuReL itself."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from laurel_cli.residual.graph import Addition, Node
from laurel_cli.residual.operators import CONVOLUTIONS, NORMS, PRODUCTS, SCALINGS, SUMS, VIEWS
from laurel_cli.residual.paths import between, works

# A norm written out.
NORM_PARTS = {"pow", "square", "mean", "var", "var_mean", "add", "add_", "sub", "rsqrt", "sqrt", "reciprocal"}
FARTHEST = 128  # nodes that are looked at behind a term
MIXED = "a mixed skip (a hyper-connection): several streams are mixed into it, so that it is none of them"
GATED = "a gated skip: a gate that depends on the input multiplies it"
LAUREL = "it is x + B A x already, the low-rank part of LAuReL (Eq. 3), of rank {}"
NORMED_LAUREL = "it is x + norm(B A x) already, Gemma 3n's form of LAuReL, of rank {}"


@dataclass(frozen=True)
class Refusal:
    """Why an addition is no residual connection.

    Attributes:
        reason: in words.
        kind: "mixed" where the skip is a mixture of streams, "laurel" where the sum is a LAuReL already.
    """

    reason: str
    kind: Literal["", "mixed", "laurel"] = ""


def rival_of(addition: Addition, nodes: tuple[Node, ...]) -> Refusal | None:
    """Name the addition if one of its terms is a mixture or a gated copy of what the other one comes from."""
    shape = nodes[addition.node].shape
    for skip in addition.operands:
        streams = {index: mixed for index, mixed in _behind(skip, nodes).items() if nodes[index].shape == shape}
        for index, mixed in streams.items():
            for other in addition.operands:
                branch = between(index, other, nodes) if other != skip else frozenset()
                if branch and _has_layer(branch, nodes) and works(branch, index, nodes).nonlinear:
                    return Refusal(MIXED, "mixed") if mixed else Refusal(GATED)
    return None


def _has_layer(branch: frozenset[int], nodes: tuple[Node, ...]) -> bool:
    """Whether a weight is multiplied in it: a decay rate alone makes no branch."""
    layers = (nodes[index] for index in branch if nodes[index].op in PRODUCTS | CONVOLUTIONS)
    return any(nodes[i].parameters and not nodes[i].active for layer in layers for i in layer.inputs)


def _behind(start: int, nodes: tuple[Node, ...]) -> dict[int, bool]:
    """What a term is a mixture (True) or a gated copy (False) of: nodes, the nearest first."""
    found: dict[int, bool] = {}
    seen: set[int] = set()
    waiting: deque[tuple[int, bool | None, bool]] = deque([(start, None, False)])  # neither so far, nor summed
    while waiting and len(seen) < FARTHEST:
        index, state, summed = waiting.popleft()
        if state is not None:
            found[index] = found.get(index, False) or state
        if index in seen:
            continue
        seen.add(index)
        node = nodes[index]
        active = _activations(node, nodes)
        several = len(active) > 1
        if node.op in PRODUCTS and any(_is_attention(i, nodes) for i in active):
            continue  # positions of one tensor are mixed, not streams
        if (node.op in PRODUCTS and several) or (node.op in SUMS and several and _scaled_streams(active, nodes)):
            state = True
        elif node.op in SCALINGS and several:
            state = state or summed
        elif node.op == "sum":
            summed = True
        elif node.op not in VIEWS | SCALINGS:
            continue
        waiting.extend((i, state, summed) for i in active)
    return found


def _activations(node: Node, nodes: tuple[Node, ...]) -> list[int]:
    return [i for i in dict.fromkeys(node.inputs) if nodes[i].active and nodes[i].dtype.is_floating_point]


def _is_attention(index: int, nodes: tuple[Node, ...]) -> bool:
    """Whether a factor is a function, such as softmax, of a product of two activations, queries and keys.

    What mixes streams is computed from them by a weight.
    """
    computed = False
    while nodes[index].op not in PRODUCTS:
        active = _activations(nodes[index], nodes)
        if len(active) != 1:
            return False
        computed = computed or nodes[index].op not in VIEWS | SCALINGS | SUMS
        index = active[0]
    return computed and len(_activations(nodes[index], nodes)) > 1


def _scaled_streams(indices: list[int], nodes: tuple[Node, ...]) -> bool:
    """Whether each is scaled by a parameter of its own."""
    return all(_is_scaled(i, nodes) for i in indices)


def _is_scaled(index: int, nodes: tuple[Node, ...]) -> bool:
    node = nodes[index]
    if node.op in SUMS:
        return all(_is_scaled(i, nodes) for i in node.inputs if nodes[i].active)
    return node.op in SCALINGS and any(nodes[i].parameters and not nodes[i].active for i in node.inputs)


def laurel_of(branch: frozenset[int], fork: int, nodes: tuple[Node, ...]) -> Refusal | None:
    """Name the addition if its branch is a map down and a map up again, with nothing but norms around them.

    Without a norm behind them a rank above half of the width saves nothing: two maps in a row. With one it is Gemma
    3n's block, whose rank stays what it is where its model is made narrow.
    """
    products = sorted(index for index in branch if nodes[index].op in PRODUCTS)
    if len(products) != 2:
        return None
    down, up = products
    for index in branch - {down, up}:
        allowed = VIEWS | SCALINGS if down < index < up else VIEWS | SCALINGS | NORMS | NORM_PARTS
        if nodes[index].op not in allowed:
            return None
    width, rank = nodes[fork].shape[-1], nodes[down].shape[-1]
    normed = any(index > up and nodes[index].op in NORMS | NORM_PARTS - {"add", "add_", "sub"} for index in branch)
    if nodes[up].shape[-1] != width or (2 * rank > width and not normed):
        return None
    return Refusal((NORMED_LAUREL if normed else LAUREL).format(rank), "laurel")
