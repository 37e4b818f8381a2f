"""Is this addition a residual connection? The graph theory, one addition at a time.

An addition of two tensors of one shape is a residual connection if one of them, the skip, reaches a fork by a path
that is linear (bare views and constant factors: *identity*; convolutions, linear layers, norms, pooling:
*projection*), and the other, the branch, comes from that same fork through at least one operator with parameters.
What a branch is not: a few elementwise operations (the tanh GELU's x + c x^3), another part of the same tensor
(Res2Net's splits), or, beside a projection, one more linear map (LoRA, gates).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from laurel_cli.residual.operators import (
    CONVOLUTIONS,
    NORMS,
    POOLS,
    PRODUCTS,
    SCALINGS,
    TRANSFORMS,
    VIEWS,
    is_attention,
    is_mixing,
    is_nonlinear,
    region,
)
from laurel_cli.residual.trace import Node

Kind = Literal["identity", "projection"]
SHIFTS = {"add", "add_", "sub", "sub_"}  # of one active tensor: by a constant, a parameter
LONGEST_SKIP = 24  # operators on a skip path; a projection shortcut has two or three


@dataclass(frozen=True)
class Relation:
    """Why an addition is a residual connection.

    Attributes:
        skip: which of the two operands (0 or 1) is the skip.
        kind: "identity" or "projection".
        fork: the node from which skip and branch part.
        steps: operators on the skip path between fork and sum.
        scaled: whether a parameter multiplies the skip.
        branch: the nodes on the way from the fork to the branch's end.
    """

    skip: Literal[0, 1]
    kind: Kind
    fork: int
    steps: int
    scaled: bool
    branch: frozenset[int]


@dataclass(frozen=True)
class Step:
    """One operator of a skip path, walked backwards: the node reached, and what the path so far is."""

    node: int
    child: int | None
    linear: bool
    scaled: bool


def relate(
    operands: tuple[int, int], nodes: tuple[Node, ...], partial_sums: dict[int, int], spent: set[int]
) -> Relation | str:
    """Decide on one addition.

    Args:
        operands: node indices of its two terms.
        nodes: the trace.
        partial_sums: residual connections that nothing but one further sum reads, with the fork of each: in
            (x + f(x)) + g(x) the skip of the outer addition is x.
        spent: roots of masks and biases that were added to something before: one tensor for all layers, of which
            each layer's scores depend on it through the layer before. No skips.

    Returns:
        The relation, or the reason for refusing in words.
    """
    first, second = (nodes[i] for i in operands)
    if not (first.active or second.active):
        return "neither operand depends on the input"
    if first.shape != second.shape:
        return f"the operands differ in shape, {list(first.shape)} and {list(second.shape)}"
    attempts = [_attempt(skip, operands, nodes, partial_sums, spent) for skip in (0, 1)]
    accepted = [attempt for attempt in attempts if isinstance(attempt, Relation)]
    if accepted:
        return min(accepted, key=lambda relation: (relation.steps, relation.skip))
    if not (first.active and second.active):
        return "one operand is a parameter or a constant that the other does not depend on"
    reasons = [attempt for attempt in attempts if isinstance(attempt, str) and attempt]
    return reasons[0] if reasons else "neither operand leads back to a common fork by a linear path"


def _attempt(
    skip: int, operands: tuple[int, int], nodes: tuple[Node, ...], sums: dict[int, int], spent: set[int]
) -> Relation | str:
    """Take operand `skip` for the skip. A relation, a reason, or "" where no common fork was found."""
    other = operands[1 - skip]
    for steps, step in enumerate(_skip_path(operands[skip], nodes, sums)):
        if not nodes[step.node].active and root(step.node, nodes) in spent:
            return ""
        if step.node == other:
            return "one operand is a linear function of the other"
        branch = between(step.node, other, nodes)
        if not branch:
            continue
        parametrised, mixing, transformed, nonlinear = _character(branch, step.node, nodes)
        if _disjoint(step, branch, nodes):
            return "the operands come from different parts of one tensor"
        if not ((parametrised and mixing) or transformed):
            return "no operator with parameters between the fork and the sum"
        if _is_gate(other, step.node, branch, nodes):
            return "the other operand is a multiple of it: a gate or a normalisation"
        if step.linear and not nonlinear:
            return "both operands are linear functions of one tensor"
        kind: Kind = "projection" if step.linear else "identity"
        return Relation(skip, kind, step.node, steps, step.scaled, branch)  # type: ignore[arg-type]
    return ""


def _skip_path(start: int, nodes: tuple[Node, ...], sums: dict[int, int]) -> list[Step]:
    """Walk back from `start` for as long as each operator is a linear map of one active tensor."""
    path = [Step(start, None, False, False)]
    while len(path) < LONGEST_SKIP:
        last = path[-1]
        node = nodes[last.node]
        if last.node in sums:
            path.append(Step(sums[last.node], last.node, last.linear, last.scaled))
            continue
        active = [i for i in dict.fromkeys(node.inputs) if nodes[i].active]
        if not active and len(node.inputs) == 1:
            active = list(node.inputs)  # a class token: made of a parameter, no activation yet
        if node.op == "cat" and active and not last.linear:  # a class token before the stream
            active = [max(active, key=lambda i: prod(nodes[i].shape))]
        if len(active) != 1 or node.op in ("input", "parameter", "constant"):
            break
        source = active[0]
        weighted = any(nodes[i].parameters and not nodes[i].active for i in node.inputs)
        if node.op in SCALINGS and (len(node.inputs) == 1 or nodes[source].shape == node.shape):
            path.append(Step(source, last.node, last.linear, last.scaled or weighted))
        elif node.op in VIEWS or (node.op in SHIFTS and nodes[source].shape == node.shape):
            path.append(Step(source, last.node, last.linear, last.scaled))
        elif node.op in CONVOLUTIONS | NORMS | POOLS or _is_linear_layer(node, nodes):
            path.append(Step(source, last.node, True, last.scaled))
        else:
            break
    return path


def _is_linear_layer(node: Node, nodes: tuple[Node, ...]) -> bool:
    """A product with a weight. In a batched one the weight is a parameter itself, not keys made of position vectors."""
    weights = [i for i in node.inputs if nodes[i].parameters and not nodes[i].active]
    if node.op == "bmm":
        weights = [i for i in weights if nodes[root(i, nodes)].op == "parameter"]
    return node.op in ("addmm", "mm", "linear", "bmm") and bool(weights)


def root(index: int, nodes: tuple[Node, ...]) -> int:
    """What a tensor is a bare view of."""
    while nodes[index].op in VIEWS and len(set(nodes[index].inputs)) == 1:
        index = nodes[index].inputs[0]
    return index


def _is_gate(end: int, fork: int, branch: frozenset[int], nodes: tuple[Node, ...]) -> bool:
    """Whether the branch is the fork itself times something, without any product or convolution in it."""
    if any(nodes[index].op in CONVOLUTIONS | PRODUCTS or is_attention(nodes[index]) for index in branch):
        return False
    while end in branch:
        node = nodes[end]
        active = [i for i in node.inputs if nodes[i].active]
        if node.op in SCALINGS and fork in node.inputs:
            return True
        if len(active) != 1 or node.op not in SCALINGS | SHIFTS | VIEWS:
            return False
        end = active[0]
    return False


def between(fork: int, end: int, nodes: tuple[Node, ...]) -> frozenset[int]:
    """Nodes on the paths from `fork` (left out) to `end` (included); empty where `end` does not depend on `fork`."""
    if end <= fork:
        return frozenset()
    seen = {end}
    waiting = [end]
    while waiting:
        for i in nodes[waiting.pop()].inputs:
            if i > fork and i not in seen:
                seen.add(i)
                waiting.append(i)
    reached = {fork}
    for index in sorted(seen):
        if any(i in reached for i in nodes[index].inputs):
            reached.add(index)
    return frozenset(reached - {fork}) if end in reached else frozenset()


def _character(branch: frozenset[int], fork: int, nodes: tuple[Node, ...]) -> tuple[bool, bool, bool, bool]:
    """Whether the branch has parameters, mixes positions or channels, has a Fourier transform, is non-linear."""
    parametrised = any(
        nodes[i].parameters and not nodes[i].active
        for index in branch
        for i in nodes[index].inputs
        if i not in branch and i != fork
    )
    mixing = any(is_mixing(nodes[index]) for index in branch)
    transformed = any(nodes[index].op in TRANSFORMS for index in branch)
    nonlinear = any(is_nonlinear(nodes[index], nodes) for index in branch)
    return parametrised, mixing, transformed, nonlinear


def _disjoint(step: Step, branch: frozenset[int], nodes: tuple[Node, ...]) -> bool:
    """Whether skip and branch leave the fork with parts of it that do not overlap."""
    if step.child is None:
        return False
    ours = region(nodes[step.child], nodes)
    fork = nodes[step.node]
    if ours is None or (fork.op in ("cat", "stack") and len(fork.inputs) > 1 and len(set(fork.inputs)) == 1):
        return False  # the same tensor twice has no different parts
    theirs = [region(nodes[index], nodes) for index in branch if step.node in nodes[index].inputs]
    return bool(theirs) and all(
        part is not None and part[0] == ours[0] and (part[1] >= ours[2] or part[2] <= ours[1]) for part in theirs
    )
