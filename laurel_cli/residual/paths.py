"""Walks through the graph of a forward pass, and what the operators on the way amount to."""

from __future__ import annotations

from dataclasses import dataclass

from laurel_cli.residual.graph import Node
from laurel_cli.residual.operators import CONVOLUTIONS, PRODUCTS, TRANSFORMS, VIEWS, is_mixing, is_nonlinear


@dataclass(frozen=True)
class Works:
    """What a path does.

    Attributes:
        learned: it has parameters and mixes positions or channels, or it is a Fourier transform.
        nonlinear: it has an activation function, or a product of two activations.
    """

    learned: bool
    nonlinear: bool


def root(index: int, nodes: tuple[Node, ...]) -> int:
    """What a tensor is a bare view of."""
    while nodes[index].op in VIEWS and len(set(nodes[index].inputs)) == 1:
        index = nodes[index].inputs[0]
    return index


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


def works(branch: frozenset[int], fork: int, nodes: tuple[Node, ...]) -> Works:
    """What the nodes of `branch`, which begins at `fork`, do together."""
    parametrised = any(
        not nodes[i].active and (nodes[i].parameters or _is_weight(nodes[i], nodes[index]))
        for index in branch
        for i in nodes[index].inputs
        if i not in branch and i != fork
    )
    learned = parametrised and any(is_mixing(nodes[index]) for index in branch)
    transformed = any(nodes[index].op in TRANSFORMS for index in branch)
    return Works(learned or transformed, any(is_nonlinear(nodes[index], nodes) for index in branch))


def _is_weight(operand: Node, node: Node) -> bool:
    """Whether a buffer does a parameter's work: a quantised or frozen weight that mixes channels, no filter on each."""
    if not operand.buffers or len(operand.shape) < 2:
        return False
    return node.op in PRODUCTS or (node.op in CONVOLUTIONS and operand.shape[1] > 1)


def weights_of(branch: frozenset[int], fork: int, nodes: tuple[Node, ...]) -> frozenset[str]:
    """Names of the parameters and buffers that the nodes of `branch` read."""
    read = (nodes[i] for index in branch for i in nodes[index].inputs if i not in branch and i != fork)
    return frozenset(name for node in read if not node.active for name in (*node.parameters, *node.buffers))
