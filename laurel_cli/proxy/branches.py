"""Where branches begin: the last affine map of every branch, found in the trace, started at zero or at one.

The last affine map is the last operator before the residual addition that multiplies by a parameter: a norm with a
weight, a linear map, a convolution, a layer scale. Dropout, activations, views and gates may follow it. It is found
by walking from the addition back, so no library's names matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from laurel_cli.errors import ModelError
from laurel_cli.models.inputs import Inputs
from laurel_cli.models.run import does_not_run
from laurel_cli.residual.find import Connection, find
from laurel_cli.residual.operators import CONVOLUTIONS, NORMS, PRODUCTS, VIEWS, is_attention
from laurel_cli.residual.trace import Node, Trace, trace

GAINS = NORMS | {"mul", "mul_"}  # by a vector or a scalar: their weight is 1 where they change nothing
SHIFTS = {"add", "add_"}


@dataclass(frozen=True)
class LastMap:
    """One affine map at the end of a branch.

    Attributes:
        gain: whether it multiplies element by element, as a norm or a layer scale does.
        parameters: (name, offset), weight first, then biases: the map works with the parameter plus the offset.
    """

    gain: bool
    parameters: tuple[tuple[str, float], ...]


@dataclass
class _Walk:
    """From the end of a branch back to its last maps."""

    nodes: tuple[Node, ...]
    connection: Connection
    shifts: list[tuple[str, float]] = field(default_factory=list)

    def maps(self) -> Iterator[LastMap]:
        waiting, seen = list(self.connection.branches), set[int]()
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            node = self.nodes[index]
            if index <= self.connection.fork or not node.active:
                raise self._refused("a part of it has no map of its own")
            own = [i for i in node.inputs if self.nodes[i].parameters and not self.nodes[i].active]
            if own and node.op in GAINS | PRODUCTS | CONVOLUTIONS:
                yield LastMap(node.op in GAINS, tuple(self._parameter(i) for i in own))
                continue
            if own and node.op in SHIFTS:
                self.shifts += [self._parameter(i) for i in own]
            waiting += self._onward(node)

    def _onward(self, node: Node) -> list[int]:
        """The inputs in which the branch goes on: of a product one, so that its gradient does not vanish."""
        active = list(dict.fromkeys(i for i in node.inputs if self.nodes[i].active))
        if len(active) < 2:
            return active
        if node.op in PRODUCTS or is_attention(node):  # attention's weights times its values
            return active[-1:]
        if node.op in GAINS:  # a gate is made from what it multiplies
            return [next((i for i in active if all(i == j or self._leads(i, j) for j in active)), active[0])]
        return active

    def _leads(self, start: int, end: int) -> bool:
        waiting, seen = [end], {end}
        while waiting:
            for i in self.nodes[waiting.pop()].inputs:
                if i == start:
                    return True
                if i > start and i not in seen:
                    seen.add(i)
                    waiting.append(i)
        return False

    def _parameter(self, index: int) -> tuple[str, float]:
        """A parameter, or its views, or itself and a constant, as in x (1 + w)."""
        node, offset = self.nodes[index], 0.0
        while node.op != "parameter":
            if node.op in SHIFTS and len(node.inputs) == len(node.constants) == 1:
                offset += float(node.constants[0])
            elif node.op not in VIEWS or len(node.inputs) != 1:
                raise self._refused(f"its weight is computed by {node.op}")
            node = self.nodes[node.inputs[0]]
        return node.parameters[0], offset

    def _refused(self, why: str) -> ModelError:
        name = self.connection.name
        return ModelError(f"The branch at {name} cannot be started.", f"Where it ends, {why}.", "Leave init=... out.")


def last_maps(found: Trace, connection: Connection) -> tuple[LastMap, ...]:
    """The affine maps in which the branches of one connection end; biases that are added apart are a map of their own.

    Raises:
        ModelError: a branch ends in something else.
    """
    walk = _Walk(found.nodes, connection)
    maps = list(walk.maps())
    return (*maps, *(LastMap(False, (shift,)) for shift in walk.shifts))


def begin(model: nn.Module, inputs: Inputs, how: str) -> None:
    """Start the last affine map of every branch, in place: weight and bias at zero, or a norm's weight at one.

    Args:
        model: with real weights, before LAuReL is placed; `inputs` what it runs on.
        how: "zero", or "one", which leaves a branch as it is that ends in no norm (nor layer scale).

    Raises:
        ModelError: the model does not run or has no residual connection; a branch ends in no affine map ("zero"), no
            branch in a norm ("one").
    """
    try:
        seen = trace(model, inputs)
    except Exception:  # noqa: BLE001 - the model's own code, e.g. its control flow depends on values
        try:
            seen = trace(model, inputs, real=True)
        except Exception as error:
            raise does_not_run(error) from error
    connections = find(seen, model).connections
    parameters = dict(model.named_parameters(remove_duplicate=False))
    maps = [one for connection in connections for one in last_maps(seen, connection)]
    chosen = [one.parameters[:1] for one in maps if one.gain] if how == "one" else [one.parameters for one in maps]
    if not chosen:
        why = "None of its branches ends in a norm." if connections else "It has no residual connection."
        raise ModelError(f"The model's branches cannot be started at {how}.", why, "Leave init=... out.")
    with torch.no_grad():
        for name, offset in (pair for one in chosen for pair in one):
            parameters[name].fill_(float(how == "one") - offset)
