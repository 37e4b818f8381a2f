"""From a trace to the residual connections with their names, widths, streams, blocks and places in the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.residual import around
from laurel_cli.residual.accept import accept
from laurel_cli.residual.channels import ChannelMap, Knowledge
from laurel_cli.residual.graph import Addition, Call, Node, Trace
from laurel_cli.residual.relation import CONSTANT, NEITHER, Found
from laurel_cli.residual.sites import AdditionSite, Place, Sites, innermost
from laurel_cli.residual.streams import block_of, streams
from laurel_cli.results import Result

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "laurel.residual-map/1"
NAMED = 4  # parts that were not run and are named one by one


@dataclass(frozen=True)
class Connection:
    """A place where a skip path rejoins a branch by addition.

    Attributes:
        name: path of the module whose method adds, and the ordinal of the connection in it: "layer1.0:0".
        kind: "identity" or "projection".
        width: D, the size of the channel dimension.
        shape: of the sum for the example inputs; `channel_dim` its channel dimension (not negative).
        channels: whether that is "known"; "positional" where no dimension holds channels (a sum of attention
            scores), "unknown" where nothing tells. Then `channel_dim` is the last one, and only scalars fit.
        skip_shape, branch_shape: of the two terms; one of them may be broadcast.
        stream: number of the row of connections of one shape to which it belongs, and `position` in that row.
        block: path of the repeated unit around it.
        sites: the addition, preceded by the partial sums that belong to it, as in (x + f(x)) + g(x).
        node: the sum in the trace, `skip` its operand on the skip's side, and `fork` the node from which skip and
            branch part: `skip` itself where the skip path does nothing.
        dtype: of the skip.
        branches: nodes of the branches that are added, one for each site.
        frames: all calls that were running, from the addition outwards to the model's forward.
        weights: names of the parameters and buffers that the branch reads.
        scale: what multiplies the terms, "branch by layer1.gamma"; `norm` where norms stand; both "" where none
            is recognised.
        alternatives: other expressions of the same module that make the same sum in other passes.
    """

    name: str
    kind: Literal["identity", "projection"]
    width: int
    shape: tuple[int, ...]
    channel_dim: int
    channels: Knowledge
    skip_shape: tuple[int, ...]
    branch_shape: tuple[int, ...]
    stream: int
    position: int
    block: str
    sites: tuple[AdditionSite, ...]
    node: int
    skip: int
    fork: int
    dtype: torch.dtype
    branches: tuple[int, ...]
    frames: tuple[Call, ...]
    weights: tuple[str, ...] = ()
    scale: str = ""
    norm: str = ""
    alternatives: tuple[AdditionSite, ...] = ()

    @property
    def owner(self) -> str:
        """Path of the module whose method adds."""
        return self.sites[-1].owner

    @property
    def line(self) -> tuple[str, int]:
        """File and line of the addition."""
        call = self.sites[-1].calls[0]
        return call.code.co_filename, call.position[0]

    @property
    def tokens(self) -> int:
        """Positions that the sum holds: its elements over its width."""
        return prod(self.shape) // self.width


@dataclass(frozen=True)
class Refused:
    """An addition of two activations that is no residual connection, and why.

    Attributes:
        name: the module whose method adds, with file and line.
        reason: in words.
        kind: "mixed" for a hyper-connection, whose skip is a mixture of streams; "laurel" for a LAuReL that the model
            brings; else empty.
    """

    name: str
    reason: str
    kind: Literal["", "mixed", "laurel"] = ""


@dataclass(frozen=True)
class NotRun:
    """A part of the model that the inputs never reached: none of its parameters was read.

    Attributes:
        name: path of the module, or of a single parameter.
        parameters: how many numbers it holds.
    """

    name: str
    parameters: int


@dataclass(frozen=True)
class ResidualMap(Result[Connection]):
    """All residual connections of a model in the order of execution, the additions that are none, what was not run."""

    connections: tuple[Connection, ...]
    refused: tuple[Refused, ...]
    not_run: tuple[NotRun, ...] = ()
    ran: frozenset[tuple[CodeType, tuple[int, int, int, int]]] = frozenset()

    def document(self) -> dict[str, Any]:
        """All of it as JSON values, schema "laurel.residual-map/1"."""
        said = ("name", "kind", "scale", "norm", "width", "shape", "stream", "block")
        connections = [
            {key: getattr(c, key) for key in said} | {"module": c.owner, "file": c.line[0], "line": c.line[1]}
            for c in self.connections
        ]
        refused = [{"name": entry.name, "reason": entry.reason} for entry in self.refused]
        return {
            "schema": SCHEMA,
            "connections": connections,
            "refused": refused,
            "not_run": [vars(part) for part in self.not_run],
        }

    def figures(self) -> tuple[Connection, ...]:
        """The connections."""
        return self.connections

    def to_frame(self) -> pd.DataFrame:
        """A row a connection, then a row a refused addition with the reason why it is none; in notebooks a table."""
        from pandas import DataFrame

        said = ("name", "kind", "scale", "norm", "width", "shape", "stream", "block")
        columns = (*said, "module", "file", "line", "reason")
        rows = [(*(getattr(c, key) for key in said), c.owner, *c.line, None) for c in self.connections]
        rows += [(entry.name, *[None] * (len(columns) - 2), entry.reason) for entry in self.refused]
        return DataFrame(rows, columns=list(columns))

    @property
    def blocks(self) -> tuple[str, ...]:
        """Paths of the blocks that hold a connection, in order."""
        return tuple(dict.fromkeys(connection.block for connection in self.connections))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must know: of LAuReL that the model brings, and of the parts that were not run."""
        own = [entry for entry in self.refused if entry.kind == "laurel"]
        brought = [
            "the model has LAuReL of its own, which stays as it is in every arm: "
            f"{len(own)} of its additions, the first in {own[0].name} ({own[0].reason})"
            for _ in own[:1]
        ]
        named = [
            f"{part.name}, {part.parameters:,} parameters, was not run: the inputs do not reach it"
            for part in self.not_run[:NAMED]
        ]
        others = self.not_run[NAMED:]
        if others:
            parameters = sum(part.parameters for part in others)
            named.append(f"{len(others)} more parts, {parameters:,} parameters, were not run either")
        return (*brought, *named)

    def nothing_found(self, model: str) -> ModelError:
        """What to say of a model, called `model`, without a residual connection: what stands there instead."""
        mixed = [entry for entry in self.refused if entry.kind == "mixed"]
        if mixed:
            return ModelError(
                f"{model} has mixed skips (hyper-connections), and no residual connection of one stream.",
                f"{len(mixed)} of its sums mix several streams into their skip, the first in {mixed[0].name}.",
                "LAuReL learns a sum x + f(x) of one stream; here the mixture is learned already.",
            )
        own = [entry for entry in self.refused if entry.kind == "laurel"]
        if own:
            return ModelError(
                f"{model} has LAuReL's own low-rank sums, and no other residual connection.",
                f"{len(own)} of its sums are x + B A x (Eq. 3), the first in {own[0].name}.",
            )
        looked_at = f"{len(self.refused)} additions were looked at and none joins a skip path with its branch"
        constants = (NEITHER.reason, CONSTANT.reason)
        told = sorted(self.refused, key=lambda entry: entry.reason in constants)  # sums of two activations first
        first = f"; in {told[0].name}: {told[0].reason}" if told else ""
        return ModelError(
            f"{model} has no residual connection.",
            f"{looked_at}{first}.",
            "LAuReL replaces residual additions, x + f(x); find_connections(model, inputs).refused lists all reasons.",
        )


def find(trace: Trace, model: nn.Module) -> ResidualMap:
    """Find the residual connections of a traced model.

    Args:
        trace: of one forward pass of `model`.
        model: for the names and the nesting of its modules.
    """
    nodes = trace.nodes
    channels = ChannelMap(nodes)
    found, refusals = accept(trace, channels)
    paths = dict(model.named_modules())
    sites = Sites(trace)
    ordinals: Counter[str] = Counter()
    readers = around.readers_of(nodes)
    connections = []
    for item, (stream, position) in zip(found, streams(found, nodes), strict=True):
        node, relation = nodes[item.addition.node], item.relation
        standing = tuple(sites.of(part.addition, part.relation.skip) for part in (*item.partial, item))
        owner = standing[-1].owner
        held = channels.of(item.skip, node.index)
        block = block_of(item, owner, nodes, paths)
        connections.append(
            Connection(
                name=f"{owner or '(root)'}:{ordinals[owner]}",
                kind=relation.kind,
                width=node.shape[held.dim],
                shape=node.shape,
                channel_dim=held.dim,
                channels=held.knowledge,
                skip_shape=nodes[item.skip].shape,
                branch_shape=nodes[item.addition.operands[relation.branch_end]].shape,
                stream=stream,
                position=position,
                block=block,
                sites=standing,
                node=node.index,
                skip=item.skip,
                fork=relation.fork,
                dtype=nodes[item.skip].dtype,
                branches=tuple(part.addition.operands[1 - part.relation.skip] for part in (*item.partial, item)),
                frames=item.addition.calls,
                weights=_weights(item, nodes),
                scale=around.scale(item, nodes),
                norm=around.norms(item, found, block, nodes, readers),
            )
        )
        ordinals[owner] += 1
    refused = tuple(
        Refused(_place_name(addition), refusals[addition.node].reason, refusals[addition.node].kind)
        for addition in trace.additions
        if addition.node in refusals
    )
    ran = frozenset((item.calls[0].code, item.calls[0].position) for item in (*trace.additions, *trace.numbers))
    return ResidualMap(tuple(connections), refused, tuple(_not_run(model, "", frozenset(trace.unused))), ran)


def _weights(item: Found, nodes: tuple[Node, ...]) -> tuple[str, ...]:
    """Names of what the branch reads of the model."""
    branch = item.relation.branch
    outside = {i for index in branch for i in nodes[index].inputs if i not in branch and not nodes[i].active}
    return tuple(sorted({name for i in outside for name in (*nodes[i].parameters, *nodes[i].buffers)}))


def _place_name(addition: Addition) -> str:
    call = addition.calls[0]
    owner = innermost(addition)[-1].module
    file = call.code.co_filename.rpartition("/")[2]
    return f"{owner or '(root)'} ({file}:{call.position[0]})"


def _not_run(module: nn.Module, path: str, unused: frozenset[str]) -> Iterator[NotRun]:
    """The largest modules of which no parameter was read, and single parameters elsewhere."""
    prefix = f"{path}." if path else ""
    within = {f"{prefix}{name}": parameter for name, parameter in module.named_parameters()}
    if within and path and unused.issuperset(within):
        yield NotRun(path, sum(parameter.numel() for parameter in within.values()))
        return
    if not unused.isdisjoint(within):
        for name, _ in module.named_parameters(recurse=False):
            if f"{prefix}{name}" in unused:
                yield NotRun(f"{prefix}{name}", within[f"{prefix}{name}"].numel())
        for name, child in module.named_children():
            yield from _not_run(child, f"{prefix}{name}", unused)


__all__ = ["AdditionSite", "Connection", "NotRun", "Place", "Refused", "ResidualMap", "find"]
