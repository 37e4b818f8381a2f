"""What stands around a sum: what multiplies its skip and its branch, and where norms stand."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence

from laurel_cli.residual.graph import Node
from laurel_cli.residual.operators import NORMS, SCALINGS, VIEWS
from laurel_cli.residual.relation import Found
from laurel_cli.residual.rivals import NORM_PARTS

CASTS = {"_to_copy", "to"}
ROOTS = {"rsqrt", "sqrt", "reciprocal"}
WRITTEN_OUT = 12  # operators that a norm written out takes at most
BEFORE, AFTER, SUM = "before the branch", "after the branch", "after the sum"
Readers = Mapping[int, Sequence[int]]


def readers_of(nodes: Sequence[Node]) -> dict[int, list[int]]:
    """By node, who reads it."""
    found: dict[int, list[int]] = defaultdict(list)
    for node in nodes:
        for index in dict.fromkeys(node.inputs):
            found[index].append(node.index)
    return found


def scale(item: Found, nodes: Sequence[Node]) -> str:
    """What multiplies the terms of a sum: `branch by layer1.gamma`, `skip by 0.5`; "" where nothing is recognised."""
    skip, end = item.skip, item.addition.operands[item.relation.branch_end]
    found = [f"branch by {by}" for by in _factors(end, item.relation.branch, nodes)]
    found += [f"skip by {by}" for by in _factors(skip, range(item.relation.fork + 1, skip + 1), nodes)]
    return ", ".join(found)


def norms(item: Found, others: Sequence[Found], block: str, nodes: Sequence[Node], readers: Readers) -> str:
    """Where norms stand: before the branch (its first work), after the branch (its last), after the sum (post-norm:
    the next connection goes on from the normed sum; of the last one the norm is the block's own). "" where none is
    recognised.
    """
    branch = item.relation.branch
    end = item.addition.operands[item.relation.branch_end]
    later = [other for other in others if other.addition.node > item.addition.node]
    forks = {index for other in later for index in (other.relation.fork, other.skip)}
    own = bool(block) and not later
    places = {
        BEFORE: any(index in branch for index in _normed(item.relation.fork, nodes, readers)),
        AFTER: _is_normed(end, branch, nodes),
        SUM: any(
            _carried(index, forks, nodes, readers) or (own and _belongs(index, block, nodes, readers))
            for index in _normed(item.addition.node, nodes, readers)
        ),
    }
    return ", ".join(place for place, stands in places.items() if stands)


def _factors(end: int, within: Collection[int], nodes: Sequence[Node]) -> list[str]:
    """Parameters and numbers that multiply at the end of a path, the last one first."""
    found: list[str] = []
    while end in within and nodes[end].op in SCALINGS | VIEWS | CASTS:
        node = nodes[end]
        active = [index for index in node.inputs if nodes[index].active]
        if len(active) != 1:  # a gate, which depends on the input; or a norm written out, whose own scale came last
            return found[:-1] if any(_is_root(index, nodes) for index in active) else found
        if node.op in SCALINGS:
            held = [name for i in node.inputs if i != active[0] for name in (*nodes[i].parameters, *nodes[i].buffers)]
            numbers = [value for value in node.constants if isinstance(value, int | float) and value != 1]
            over = "1/" if node.op.startswith("div") else ""
            found += [f"{over}{name}" for name in held]
            found += [f"{over}{value:.6g}" for value in numbers[:1] if not held]
            if node.op == "neg":
                found.append("-1")
        end = active[0]
    return found


def _normed(start: int, nodes: Sequence[Node], readers: Readers) -> list[int]:
    """The results of the norms that read a tensor, whole operators or written out."""
    found: list[int] = []
    waiting = list(readers.get(start, ()))
    while waiting:
        node = nodes[waiting.pop()]
        if node.op in NORMS:
            found += [node.index] if node.output == 0 else []
        elif node.op in VIEWS | CASTS and len({i for i in node.inputs if nodes[i].active}) == 1:
            found += _written_out(node.index, nodes, readers)
            waiting += readers.get(node.index, ())
    return found + _written_out(start, nodes, readers)


def _written_out(start: int, nodes: Sequence[Node], readers: Readers) -> list[int]:
    """The product of a tensor with one over its own spread: a norm whose operators are all written out."""
    spread, waiting = {start}, deque([start])
    for _ in range(WRITTEN_OUT):
        if not waiting:
            break
        for index in readers.get(waiting.popleft(), ()):
            node = nodes[index]
            own = all(i in spread for i in node.inputs if nodes[i].active)
            if own and index not in spread and node.op in NORM_PARTS | CASTS:
                spread.add(index)
                waiting.append(index)
    roots = [index for index in spread if nodes[index].op in ROOTS]
    found = [reader for index in roots for reader in readers.get(index, ()) if nodes[reader].op in SCALINGS]
    return [index for index in found if {i for i in nodes[index].inputs if nodes[i].active} <= spread]


def _is_normed(end: int, branch: Collection[int], nodes: Sequence[Node]) -> bool:
    """Whether a branch ends in a norm, times whatever."""
    while end in branch:
        node = nodes[end]
        if node.op in NORMS:
            return True
        active = [index for index in node.inputs if nodes[index].active]
        if node.op in SCALINGS and len(active) == 2:
            return any(_is_root(index, nodes) for index in active)
        if len(active) != 1 or node.op not in SCALINGS | VIEWS | CASTS | {"add", "add_"}:
            return False
        end = active[0]
    return False


def _is_root(index: int, nodes: Sequence[Node]) -> bool:
    while nodes[index].op in VIEWS | CASTS:
        index = nodes[index].inputs[0]
    return nodes[index].op in ROOTS


def _carried(start: int, forks: Collection[int], nodes: Sequence[Node], readers: Readers) -> bool:
    """Whether a later connection's skip is this tensor, but for views, casts and a norm's own scale and shift."""
    waiting, seen = [start], {start}
    while waiting:
        index = waiting.pop()
        if index in forks:
            return True
        for reader in readers.get(index, ()):
            node = nodes[reader]
            own = sum(nodes[i].active for i in node.inputs) == 1
            if own and reader not in seen and node.op in SCALINGS | VIEWS | CASTS | {"add", "add_"}:
                seen.add(reader)
                waiting.append(reader)
    return False


def _belongs(norm: int, block: str, nodes: Sequence[Node], readers: Readers) -> bool:
    """Whether a norm's parameters are a block's."""
    near = {norm, *(index for index in readers.get(norm, ()) if nodes[index].op in SCALINGS)}
    names = [name for index in near for i in nodes[index].inputs for name in nodes[i].parameters]
    return bool(names) and all(name.startswith(f"{block}.") for name in names)
