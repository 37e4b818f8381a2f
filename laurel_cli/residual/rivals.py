"""What stands where a residual connection could: mixed and gated skips, and LAuReL itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from laurel_cli.residual.graph import Addition, Node
from laurel_cli.residual.operators import NORMS, PRODUCTS, SCALINGS, SUMS, VIEWS
from laurel_cli.residual.paths import between, works

# A norm written out.
NORM_PARTS = {"pow", "square", "mean", "var", "var_mean", "add", "add_", "sub", "rsqrt", "sqrt", "reciprocal"}
FARTHEST = 64  # nodes that are looked at behind a term
MIXED = "a mixed skip (a hyper-connection): several streams are mixed into it, so that it is none of them"
GATED = "a gated skip: a gate that depends on the input multiplies it"
LAUREL = "it is x + B A x already, the low-rank part of LAuReL (Eq. 3), of rank {}"


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
    for skip in addition.operands:
        for index, mixed in _behind(skip, nodes).items():
            for other in addition.operands:
                branch = between(index, other, nodes) if other != skip else frozenset()
                if branch:
                    work = works(branch, index, nodes)
                    if work.learned and work.nonlinear:
                        return Refusal(MIXED, "mixed") if mixed else Refusal(GATED)
    return None


def _behind(start: int, nodes: tuple[Node, ...]) -> dict[int, bool]:
    """What a term is a mixture (True) or a gated copy (False) of: nodes, the latest first."""
    found: dict[int, bool] = {}
    waiting: dict[int, tuple[bool | None, bool]] = {start: (None, False)}  # neither so far; not summed over streams
    for _ in range(FARTHEST):
        if not waiting:
            break
        index = max(waiting)
        state, summed = waiting.pop(index)
        if state is not None:
            found[index] = state
        node = nodes[index]
        active = [i for i in dict.fromkeys(node.inputs) if nodes[i].active]
        several = len(active) > 1
        if (node.op in PRODUCTS and several) or (node.op in SUMS and several and _scaled_streams(active, nodes)):
            state = True
        elif node.op in SCALINGS and several:
            state = state or summed
        elif node.op == "sum":
            summed = True
        elif node.op not in VIEWS | SCALINGS:
            continue
        for i in active:
            before, before_summed = waiting.get(i, (None, False))
            waiting[i] = (before or state, before_summed or summed)
    return found


def _scaled_streams(indices: list[int], nodes: tuple[Node, ...]) -> bool:
    """Whether each is scaled by a parameter of its own."""
    return all(_is_scaled(i, nodes) for i in indices)


def _is_scaled(index: int, nodes: tuple[Node, ...]) -> bool:
    node = nodes[index]
    if node.op in SUMS:
        return all(_is_scaled(i, nodes) for i in node.inputs if nodes[i].active)
    return node.op in SCALINGS and any(nodes[i].parameters and not nodes[i].active for i in node.inputs)


def low_rank(branch: frozenset[int], fork: int, nodes: tuple[Node, ...]) -> int:
    """The rank, where a branch is a map down and a map up again, with nothing but norms around them; else 0."""
    products = sorted(index for index in branch if nodes[index].op in PRODUCTS)
    if len(products) != 2:
        return 0
    down, up = products
    for index in branch - {down, up}:
        allowed = VIEWS | SCALINGS if down < index < up else VIEWS | SCALINGS | NORMS | NORM_PARTS
        if nodes[index].op not in allowed:
            return 0
    width, rank = nodes[fork].shape[-1], nodes[down].shape[-1]
    return rank if nodes[up].shape[-1] == width and 2 * rank <= width else 0
