"""From single additions to connections: what a sum is besides its two terms.

Sums of three terms are one connection; a sum that takes its own skip away again is none, nor is one that lies unread
or belongs to the inner workings of another connection's branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from laurel_cli.residual.channels import ChannelMap
from laurel_cli.residual.graph import Addition, Node, Trace
from laurel_cli.residual.operators import NORMS, PRODUCTS, SCALINGS, SUMS, VIEWS
from laurel_cli.residual.paths import root
from laurel_cli.residual.relation import NEITHER, Found, Relation, relate, skip_path
from laurel_cli.residual.rivals import GATED, Refusal

SAME = {"detach", "alias", "clone", "_to_copy"}  # the same values
FARTHEST = 8  # sums within sums that are written out

UNREAD = Refusal("nothing reads the sum: what is learned there would never receive a gradient")
INSIDE = Refusal("the skip is scaled by a parameter inside another connection's branch")
TAKEN_AWAY = Refusal("its skip is taken away again: a straight-through estimator, which hands on a gradient alone")
SCORES = Refusal("attention scores and a bias that is computed beside them: no skip leads around the attention")
DIFFERENCE = Refusal("a difference that is added to what it was taken from: that sum is the connection")


def accept(trace: Trace, channels: ChannelMap) -> tuple[list[Found], dict[int, Refusal]]:
    """The connections of a trace, in the order of execution, and for every other addition (by node) the reason."""
    found, refusals = _one_by_one(trace, channels)

    def refuse(nodes: Iterable[int], refusal: Refusal) -> None:
        for node in nodes:
            refusals[node] = refusal
        found[:] = [item for item in found if item.addition.node not in refusals]

    by_node = {addition.node: addition for addition in trace.additions}
    for item in list(found):
        if (taken := _taken_away(item, by_node, trace.nodes)) is not None:
            refuse(taken, TAKEN_AWAY)
    for node, refusal in _differences(found, by_node, trace.nodes).items():
        refuse([node], refusal)
    refuse([item.addition.node for item in found if item.addition.node in trace.unread], UNREAD)
    refuse(_inside_another(found, trace.nodes), INSIDE)
    return found, refusals


def _one_by_one(trace: Trace, channels: ChannelMap) -> tuple[list[Found], dict[int, Refusal]]:
    nodes = trace.nodes
    readers: Counter[int] = Counter(i for node in nodes for i in dict.fromkeys(node.inputs))
    signals = _signals(nodes)
    found: list[Found] = []
    refusals: dict[int, Refusal] = {}
    sums: dict[int, int] = {}  # partial sums: node -> fork
    spent: set[int] = set()  # masks and biases that were added to something once already
    by_node: dict[int, Found] = {}
    for addition in trace.additions:
        relation = relate(addition, nodes, sums, spent)
        if isinstance(relation, Relation) and _are_scores(relation, addition, channels):
            relation = SCORES
        if isinstance(relation, Refusal):
            masks = {root(i, nodes) for i in addition.operands if _is_mask(i, addition, nodes, signals, channels)}
            # Learned queries that a layer has worked on are a stream before they have seen the input.
            spent |= {i for i in masks if relation is not NEITHER or nodes[i].op not in NORMS | PRODUCTS}
            refusals[addition.node] = relation
            continue
        partial: tuple[Found, ...] = ()
        skip = addition.operands[relation.skip]
        if skip in by_node and relation.fork < skip:  # (x + f(x)) + g(x): one connection, two additions
            inner = by_node[skip]
            found.remove(inner)
            partial = (*inner.partial, replace(inner, partial=()))
            relation = replace(relation, steps=inner.relation.steps, kind=inner.relation.kind)
        item = Found(addition, relation, partial)
        found.append(item)
        if readers[addition.node] == 1 and (partial or _without_zero(skip, nodes) == relation.fork):
            sums[addition.node] = relation.fork
            by_node[addition.node] = item
    return found, refusals


def _are_scores(relation: Relation, addition: Addition, channels: ChannelMap) -> bool:
    """Whether positions stand where channels would, of a skip that is computed anew; scores that go on are a stream."""
    skip = addition.operands[relation.skip]
    return relation.kind == "projection" and channels.of(skip, addition.node).knowledge == "positional"


def _without_zero(index: int, nodes: tuple[Node, ...]) -> int:
    """What `sum()` added its 0 to."""
    node = nodes[index]
    return node.inputs[0] if node.op == "add" and node.constants == (0,) and len(node.inputs) == 1 else index


def _signals(nodes: tuple[Node, ...]) -> set[int]:
    """Nodes that carry numbers from the inputs or from parameters, by no way through whole numbers or truth values."""
    signals: set[int] = set()
    for node in nodes:
        numbers = node.dtype.is_floating_point or node.dtype.is_complex
        if numbers and (node.op in ("input", "parameter") or any(i in signals for i in node.inputs)):
            signals.add(node.index)
    return signals


def _is_mask(
    operand: int, addition: Addition, nodes: tuple[Node, ...], signals: set[int], channels: ChannelMap
) -> bool:
    """Whether an operand of a refused addition is a mask or a bias: of later sums it is no skip."""
    if not nodes[operand].active or operand not in signals:
        return True
    given = nodes[root(operand, nodes)].op == "input"
    return given and channels.of(operand, addition.node).knowledge == "positional"


def _taken_away(item: Found, by_node: dict[int, Addition], nodes: tuple[Node, ...]) -> set[int] | None:
    """Where the terms of the sum, written out, hold the skip as often added as subtracted: all sums written out."""
    addition = item.addition
    signs = (1, -1 if addition.sign == "-" else 1)
    if len(addition.operands) > 2 or not _adds_plainly(nodes[addition.node]):
        return None  # x + 0.5 (f(x) - x) in one operator takes a part of the skip away, not all of it
    skip = _same(item.skip, nodes)
    written: set[int] = {addition.node}
    count = signs[item.relation.skip]
    waiting = [(addition.operands[item.relation.branch_end], signs[item.relation.branch_end], 0)]
    while waiting:
        index, sign, depth = waiting.pop()
        index = _same(index, nodes)
        if index == skip:
            count += sign
        elif nodes[index].op == "neg":
            waiting.append((nodes[index].inputs[0], -sign, depth))
        elif _adds_plainly(nodes[index]) and index in by_node and depth < FARTHEST:
            written.add(index)
            inner = by_node[index]
            waiting.append((inner.operands[0], sign, depth + 1))
            waiting.append((inner.operands[1], -sign if inner.sign == "-" else sign, depth + 1))
    return written if count == 0 else None


def _adds_plainly(node: Node) -> bool:
    """Whether it adds (or subtracts) its terms as they are: no factor `alpha`, no product of its own."""
    return node.op in SUMS and all(constant == 1 for constant in node.constants)


def _same(index: int, nodes: tuple[Node, ...]) -> int:
    while nodes[index].op in SAME and len(nodes[index].inputs) == 1:
        index = nodes[index].inputs[0]
    return index


def _differences(found: list[Found], additions: dict[int, Addition], nodes: tuple[Node, ...]) -> dict[int, Refusal]:
    """The a - b of means: f(x) - x in x + g (f(x) - x), whose outer sum is the connection; h - n in n + z (h - n)."""
    subtracted = [item for item in found if item.addition.sign == "-" and not item.partial]
    if not subtracted:
        return {}
    readers: dict[int, list[int]] = {}
    for node in nodes:
        for i in dict.fromkeys(node.inputs):
            readers.setdefault(i, []).append(node.index)
    connections = {item.addition.node for item in found}
    differences: dict[int, Refusal] = {}
    for item in subtracted:
        end, gated = item.addition.node, False
        while len(readers.get(end, ())) == 1 and nodes[readers[end][0]].op in SCALINGS | VIEWS:
            end = readers[end][0]
            gated = gated or sum(nodes[i].active for i in nodes[end].inputs) > 1
        total = additions.get(readers[end][0]) if len(readers.get(end, ())) == 1 else None
        terms = {root(i, nodes) for i in item.addition.operands}
        if total is not None and any(root(i, nodes) in terms for i in total.operands if i != end):
            if total.node in connections:
                differences[item.addition.node] = DIFFERENCE
            elif gated:
                differences[item.addition.node] = Refusal(GATED)
    return differences


def _inside_another(found: list[Found], nodes: tuple[Node, ...]) -> list[int]:
    """Scaled skips within a branch that go on with no stream: a state-space scan's D.

    Scaled skips of a stream inside a long skip are connections: they come from the long skip's own fork, or follow
    one another.
    """
    forks = {item.addition.node: item.relation.fork for item in found}
    inside = []
    for item in found:
        if not item.relation.scaled or item.relation.kind != "identity":
            continue
        around = [other for other in found if other is not item and item.addition.node in other.relation.branch]
        if any(not _goes_on(item, other, found, forks, nodes) for other in around):
            inside.append(item.addition.node)
    return inside


def _goes_on(item: Found, around: Found, found: list[Found], forks: dict[int, int], nodes: tuple[Node, ...]) -> bool:
    behind = _stream(item.skip, nodes, forks)
    if around.relation.fork in behind:
        return True
    within = [other for other in found if other is not item and other.addition.node in around.relation.branch]
    if any(other.addition.node in behind for other in within):
        return True
    return any(item.addition.node in _stream(other.skip, nodes, forks) for other in within)


def _stream(start: int, nodes: tuple[Node, ...], forks: dict[int, int]) -> set[int]:
    """What `start` comes from by linear paths and by the skips of connections."""
    reached = {start}
    while True:
        path = skip_path(start, nodes, forks)
        start = path[-1].node
        if len(path) == 1:
            return reached
        reached.update(step.node for step in path)
