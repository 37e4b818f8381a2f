"""From a trace to the residual connections, their streams, their blocks and their widths."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from types import CodeType
from typing import Literal

import torch
from torch import nn

from laurel_cli.residual.channels import channel_dims
from laurel_cli.residual.relation import Relation, relate, root
from laurel_cli.residual.trace import Addition, Call, Node, Trace

Place = tuple[tuple[CodeType, tuple[int, int, int, int]], ...]


@dataclass(frozen=True)
class Site:
    """An addition in the source: the expression, the module whose method it stands in, the turn of the loop.

    Attributes:
        owner: path of that module.
        calls: frames from the addition outwards to the owner's method.
        turn: how many times the expression had run in this call of the method; `turns` how often it runs in all.
        skip: which operand is the skip, 0 or 1.
        in_place: whether it overwrites its first operand.
        hand_written: whether it stands in an `autograd.Function`.
    """

    owner: str
    calls: tuple[Call, ...]
    turn: int
    turns: int
    skip: int
    in_place: bool
    hand_written: bool

    @property
    def place(self) -> Place:
        """Equal for all modules that run the same source."""
        return _expressions(self.calls)

    @property
    def key(self) -> tuple[str, Place, int]:
        """Equal for executions that must share one LAuReL: the module itself is called again."""
        return self.owner, self.place, self.turn


@dataclass(frozen=True)
class Connection:
    """A place where a skip path rejoins a branch by addition.

    Attributes:
        name: path of the module whose method adds, and the ordinal of the connection in it: "layer1.0:0".
        kind: "identity" or "projection".
        width: D, the size of the channel dimension.
        shape: of the sum for the example inputs; `channel_dim` its channel dimension (not negative).
        stream: number of the row of connections of one shape to which it belongs, and `position` in that row.
        block: path of the repeated unit around it.
        sites: the addition, preceded by the partial sums that belong to it, as in (x + f(x)) + g(x).
        node: the sum in the trace, and `fork` the node from which skip and branch part.
        dtype: of the skip.
        outer: (path, activation) of the modules' methods that were running, innermost first.
        branches: nodes of the branches that are added, one for each site.
    """

    name: str
    kind: Literal["identity", "projection"]
    width: int
    shape: tuple[int, ...]
    channel_dim: int
    stream: int
    position: int
    block: str
    sites: tuple[Site, ...]
    node: int
    fork: int
    dtype: torch.dtype
    outer: tuple[tuple[str, int], ...]
    branches: tuple[int, ...]

    @property
    def owner(self) -> str:
        """Path of the module whose method adds."""
        return self.sites[-1].owner

    @property
    def tokens(self) -> int:
        """Positions that the sum holds: its elements over its width."""
        elements = 1
        for size in self.shape:
            elements *= size
        return elements // self.width


@dataclass(frozen=True)
class Refused:
    """An addition of two activations that is no residual connection, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ResidualMap:
    """All residual connections of a model in the order of execution, and the additions that are none."""

    connections: tuple[Connection, ...]
    refused: tuple[Refused, ...]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Paths of the blocks that hold a connection, in order."""
        return tuple(dict.fromkeys(connection.block for connection in self.connections))


@dataclass(frozen=True)
class _Found:
    addition: Addition
    relation: Relation
    partial: tuple[_Found, ...] = ()


def find(trace: Trace, model: nn.Module) -> ResidualMap:
    """Find the residual connections of a traced model.

    Args:
        trace: of one forward pass of `model`.
        model: for the names and the nesting of its modules.
    """
    found, reasons = _accept(trace)
    for item in [item for item in found if item.addition.node in trace.unread]:
        found.remove(item)
        reasons[item.addition.node] = "nothing reads the sum: what is learned there would never receive a gradient"
    nested = _nested_in_another(found, trace.nodes)
    for item in nested:
        found.remove(item)
        reasons[item.addition.node] = "the skip is scaled by a parameter inside another connection's branch"
    channels = channel_dims(trace.nodes)
    paths = dict(model.named_modules())
    streams = _streams(found, trace.nodes)
    ordinals: Counter[str] = Counter()
    calls = _calls(trace.additions)
    turns = _turns(trace.additions, calls)
    connections = []
    for item, (stream, position) in zip(found, streams, strict=True):
        node = trace.nodes[item.addition.node]
        skip = item.addition.operands[item.relation.skip]
        sites = tuple(_site(part, calls, turns, trace.nodes) for part in (*item.partial, item))
        owner = sites[-1].owner
        dim = channels.get(skip, channels.get(node.index, len(node.shape) - 1))
        connections.append(
            Connection(
                name=f"{owner or '(root)'}:{ordinals[owner]}",
                kind=item.relation.kind,
                width=node.shape[dim],
                shape=node.shape,
                channel_dim=dim,
                stream=stream,
                position=position,
                block=_block(item, owner, trace.nodes, paths),
                sites=sites,
                node=node.index,
                fork=item.relation.fork,
                dtype=trace.nodes[skip].dtype,
                outer=tuple((call.module, call.activation) for call in item.addition.calls if call.module is not None),
                branches=tuple(part.addition.operands[1 - part.relation.skip] for part in (*item.partial, item)),
            )
        )
        ordinals[owner] += 1
    refused = tuple(
        Refused(_place_name(addition), reasons[addition.node])
        for addition in trace.additions
        if addition.node in reasons
    )
    return ResidualMap(tuple(connections), refused)


def _innermost(addition: Addition) -> tuple[Call, ...]:
    """Frames up to the innermost one that is a method of one of the model's modules."""
    for number, call in enumerate(addition.calls):
        if call.module is not None:
            return addition.calls[: number + 1]
    return addition.calls


def _outermost(addition: Addition) -> tuple[Call, ...]:
    """Frames up to the method that was called from outside of the module that the innermost method belongs to."""
    end = len(_innermost(addition))
    for number, call in enumerate(addition.calls[end:], start=end):
        if call.code.co_name in ("_wrapped_call_impl", "_call_impl"):
            break
        if call.module == addition.calls[end - 1].module:
            end = number + 1
    return addition.calls[:end]


def _calls(additions: tuple[Addition, ...]) -> dict[int, tuple[Call, ...]]:
    """For each addition (by node) the frames that tell it from others of its module.

    The innermost method is enough, unless the module calls it more than once, or from a method that overrides it.
    """
    activations: dict[object, set[int]] = {}
    for addition in additions:
        inner, outer = _innermost(addition), _outermost(addition)
        activations.setdefault((_expressions(inner), inner[-1].module, outer[-1].activation), set()).add(
            inner[-1].activation
        )
    several = {key[:2] for key, inner in activations.items() if len(inner) > 1}  # type: ignore[index]
    calls = {}
    for addition in additions:
        inner, outer = _innermost(addition), _outermost(addition)
        names = [call.code.co_name for call in outer[len(inner) - 1 :] if call.module is not None]
        overridden = len(names) > 1 and len(set(names)) < len(names)
        again = (_expressions(inner), inner[-1].module) in several
        calls[addition.node] = outer if again or overridden else inner
    return calls


def _expressions(calls: tuple[Call, ...]) -> Place:
    return tuple((call.code, call.position) for call in calls)


def _turns(additions: tuple[Addition, ...], calls: dict[int, tuple[Call, ...]]) -> dict[int, tuple[int, int]]:
    """For each addition (by node) its turn in the loops of its method's call, and how many turns there are."""
    runs: dict[object, list[int]] = {}
    for addition in additions:
        frames = calls[addition.node]
        runs.setdefault((_expressions(frames), frames[-1].activation), []).append(addition.node)
    return {node: (turn, len(nodes)) for nodes in runs.values() for turn, node in enumerate(nodes)}


def _site(
    item: _Found, calls: dict[int, tuple[Call, ...]], turns: dict[int, tuple[int, int]], nodes: tuple[Node, ...]
) -> Site:
    node = nodes[item.addition.node]
    frames = calls[node.index]
    return Site(
        frames[-1].module or "",
        frames,
        *turns[node.index],
        skip=item.relation.skip,
        in_place=node.op.endswith("_"),
        hand_written=item.addition.hand_written,
    )


def _accept(trace: Trace) -> tuple[list[_Found], dict[int, str]]:
    readers: Counter[int] = Counter(i for node in trace.nodes for i in dict.fromkeys(node.inputs))
    found: list[_Found] = []
    reasons: dict[int, str] = {}
    sums: dict[int, int] = {}  # partial sums: node -> fork
    spent: set[int] = set()  # masks and biases: what depends on no input and was added to something once already
    by_node: dict[int, _Found] = {}
    for addition in trace.additions:
        relation = relate(addition.operands, trace.nodes, sums, spent)
        if isinstance(relation, str):
            spent.update(root(i, trace.nodes) for i in addition.operands if not trace.nodes[i].active)
            reasons[addition.node] = relation
            continue
        partial: tuple[_Found, ...] = ()
        skip = addition.operands[relation.skip]
        if skip in by_node and relation.fork < skip:  # (x + f(x)) + g(x): one connection, two additions
            inner = by_node[skip]
            found.remove(inner)
            partial = (*inner.partial, replace(inner, partial=()))
            relation = replace(relation, steps=inner.relation.steps, kind=inner.relation.kind)
        item = _Found(addition, relation, partial)
        found.append(item)
        if readers[addition.node] == 1 and (partial or addition.operands[relation.skip] == relation.fork):
            sums[addition.node] = relation.fork
            by_node[addition.node] = item
    return found, reasons


def _nested_in_another(found: list[_Found], nodes: tuple[Node, ...]) -> list[_Found]:
    """Scaled skips within a branch: a state-space scan's D, no residual connection of the stream."""
    return [
        item
        for item in found
        if item.relation.scaled
        and item.relation.kind == "identity"
        and any(item.addition.node in other.relation.branch for other in found if other is not item)
    ]


def _streams(found: list[_Found], nodes: tuple[Node, ...]) -> list[tuple[int, int]]:
    """(stream, position) of each connection: it continues the stream of the nearest one that its skip comes from."""
    sums = {item.addition.node: number for number, item in enumerate(found)}
    partial = {part.addition.node for item in found for part in item.partial}
    places: list[tuple[int, int]] = []
    continued: set[int] = set()
    streams = 0
    for item in found:
        skip = item.relation.fork if item.partial else item.addition.operands[item.relation.skip]
        before = _nearest_sum(skip, nodes, sums, partial)
        shape = nodes[item.addition.node].shape
        same = before is not None and nodes[found[before].addition.node].shape == shape
        if before is not None and same and before not in continued:
            continued.add(before)
            places.append((places[before][0], places[before][1] + 1))
        else:
            places.append((streams, 0))
            streams += 1
    return places


def _nearest_sum(start: int, nodes: tuple[Node, ...], sums: dict[int, int], partial: set[int]) -> int | None:
    """The last connection from which `start` comes, without looking past any connection."""
    waiting, seen, best = [start], {start}, None
    while waiting:
        index = waiting.pop()
        if index in sums and index not in partial:
            best = sums[index] if best is None else max(best, sums[index])
            continue
        for i in nodes[index].inputs:
            if i not in seen and nodes[i].dtype.is_floating_point:
                seen.add(i)
                waiting.append(i)
    return best


def _block(item: _Found, owner: str, nodes: tuple[Node, ...], paths: dict[str, nn.Module]) -> str:
    """The repeated unit: the innermost element of a container that has a sibling of its own class."""
    branch = item.relation.branch
    names = [p for index in branch for i in nodes[index].inputs if i not in branch for p in nodes[i].parameters]
    home = _common_prefix([name.rpartition(".")[0] for name in names]) if names else owner
    inside = home if home.startswith(owner) or not owner else owner
    candidate = path = inside
    while path:
        parent, _, last = path.rpartition(".")
        container = paths.get(parent)
        if re.fullmatch(r"\d+", last) and isinstance(container, (nn.ModuleList, nn.Sequential)):
            siblings = [child for child in container.children() if type(child) is type(paths[path])]
            if len(siblings) > 1:
                return path
        path = parent
    return owner or candidate


def _common_prefix(paths: list[str]) -> str:
    split = [path.split(".") for path in paths]
    prefix = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        prefix.append(parts[0])
    return ".".join(prefix)


def _place_name(addition: Addition) -> str:
    call = addition.calls[0]
    owner = _innermost(addition)[-1].module
    file = call.code.co_filename.rpartition("/")[2]
    return f"{owner or '(root)'} ({file}:{call.position[0]})"
