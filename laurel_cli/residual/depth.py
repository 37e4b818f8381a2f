"""Count repeated layers once: stand-ins take the place of layers that were seen to do what a kept one does.

Layers of equal form are candidates: equal classes, shapes and settings, a layer's own number aside. Whether they also
work alike is not concluded from that but seen: the trace of the whole model must hold, for every layer that is left
out, the operators of the kept layer that stands for it, one by one on the same shapes, and the shortened model must
then run what the whole one runs, the layers left out aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from laurel_cli.residual.find import ResidualMap
from laurel_cli.residual.graph import Node, Trace
from laurel_cli.residual.standin import remember, stand_in

LONGEST_PERIOD = 8
# What a layer calls its own number.
LAYER_NUMBERS = re.compile(r"^_?(layer|block|depth)?_?(idx|index|id|number|num|i)$")


@dataclass(frozen=True)
class Stack:
    """Equal layers in a container.

    Attributes:
        path: of the container.
        start: index of the first layer of the regular part.
        period: layers after which the pattern repeats; `repeats` how often it stands there in full.
        kept: how many repeats are looked at.
    """

    path: str
    start: int
    period: int
    repeats: int
    kept: int

    @property
    def last(self) -> range:
        """Indices of the last repeat that is kept: it stands for itself and for those left out."""
        end = self.start + self.kept * self.period
        return range(end - self.period, end)

    @property
    def dropped(self) -> range:
        """Indices of the layers left out."""
        return range(self.last.stop, self.start + self.repeats * self.period)

    @property
    def multiplicity(self) -> int:
        """Repeats for which the last kept one stands."""
        return self.repeats - self.kept + 1

    def stands_for(self, index: int) -> int:
        """Index of the kept layer that stands for a dropped one."""
        return self.last[(index - self.last.stop) % self.period]

    def layer(self, index: int) -> str:
        """Path of a layer."""
        return f"{self.path}.{index}" if self.path else str(index)


def multiplicities(stacks: Sequence[Stack]) -> dict[str, int]:
    """For how many layers each kept one stands, by its path; those that stand for themselves alone are left out."""
    return {stack.layer(index): stack.multiplicity for stack in stacks for index in stack.last}


def stood_for(name: str, stacks: Sequence[Stack]) -> str:
    """`name`, of something in the model, in the layer that is kept for it; itself where its own layer is kept."""
    for stack in stacks:
        for index in stack.dropped:
            if name.startswith((f"{stack.layer(index)}.", f"{stack.layer(index)}:")):
                return stack.layer(stack.stands_for(index)) + name[len(stack.layer(index)) :]
    return name


def candidates(model: nn.Module, kept: int) -> list[Stack]:
    """The containers of `model` deep enough that leaving layers out saves at least half of them.

    Their layers are equal in form and share no module and no parameter, neither with each other nor with the rest.
    """
    found: list[Stack] = []
    for path, container in model.named_modules():
        inside = any(not stack.path or path.startswith(f"{stack.path}.") for stack in found)
        if inside or not isinstance(container, nn.ModuleList | nn.Sequential) or len(container) <= 2 * kept:
            continue
        if list(container._modules) == [str(index) for index in range(len(container))]:  # else named children
            stack = _stack(path, container, kept)
            if stack is not None:
                found.append(stack)
    return found if _apart(model, found) else []


def watched(stacks: Sequence[Stack]) -> list[str]:
    """Paths of the layers whose work must be seen: those left out, and those that stand for them."""
    return [stack.layer(index) for stack in stacks for index in (*stack.last, *stack.dropped)]


def alike(whole: Trace, stacks: Sequence[Stack]) -> list[Stack]:
    """Those of `stacks` of which every layer left out was seen to do what the layer that stands for it does.

    Args:
        whole: a trace of the whole model, with the layers `watched`.
    """
    work = {path: [_work(whole.nodes[start:stop]) for start, stop in spans] for path, spans in whole.spans.items()}
    return [
        stack
        for stack in stacks
        if all(work[stack.layer(index)] == work[stack.layer(stack.stands_for(index))] for index in stack.dropped)
        and all(work[stack.layer(index)] for index in stack.last)
    ]


def agree(whole: Trace, short: Trace, stacks: Sequence[Stack]) -> bool:
    """Whether the shortened model ran what the whole one ran, what the layers left out do aside."""
    dropped = [stack.layer(index) for stack in stacks for index in stack.dropped]
    return _work(_outside(whole, dropped)) == _work(_outside(short, dropped))


@contextmanager
def shortened(model: nn.Module, stacks: Sequence[Stack]) -> Iterator[None]:
    """Put a stand-in for each surplus layer of `stacks`; put the layers back at the end.

    A stand-in answers as the layer that it stands for did, for inputs of the same shapes; for others it raises
    `ValueError`: the layers are then not called alike, and the model must be looked at as a whole.
    """
    whole: list[tuple[nn.Module, dict[str, nn.Module | None]]] = []
    hooks = []
    try:
        for stack in stacks:
            container = model.get_submodule(stack.path)
            whole.append((container, dict(container._modules)))
            for index in stack.last:
                hooks.append(container[index].register_forward_hook(remember, with_kwargs=True))  # type: ignore[index]
            for index in stack.dropped:
                equal = container[stack.stands_for(index)]  # type: ignore[index]
                container._modules[str(index)] = stand_in(container[index], equal)  # type: ignore[index]
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for container, before in whole:
            container._modules.clear()
            container._modules.update(before)


def shortened_map(residual: ResidualMap, stacks: Sequence[Stack]) -> ResidualMap:
    """The map of the shortened model: without what stands in the layers that are left out."""
    gone = tuple(f"{stack.layer(index)}." for stack in stacks for index in stack.dropped)
    connections = tuple(c for c in residual.connections if not f"{c.owner}.".startswith(gone))
    return replace(residual, connections=connections)


def _outside(trace: Trace, paths: Sequence[str]) -> list[Node]:
    inside = [False] * len(trace.nodes)
    for path in paths:
        for start, stop in trace.spans[path]:
            inside[start:stop] = [True] * (stop - start)
    return [node for node in trace.nodes if not inside[node.index]]


def _work(nodes: Sequence[Node]) -> list[tuple[Any, ...]]:
    """What the operators do as far as it costs anything: names, shapes, whole numbers among the arguments.

    Numbers with a fraction steer no work. Nor does where a part begins, which may follow from a layer's number.
    """
    work = []
    for node in nodes:
        if not node.is_leaf:
            plain = node.constants if node.op not in ("select", "slice") else ()
            constants = tuple(c for c in plain if isinstance(c, bool | int | str | torch.dtype))
            work.append((node.op, node.shape, node.dtype, len(node.inputs), constants))
    return work


def _apart(model: nn.Module, stacks: Sequence[Stack]) -> bool:
    """Whether no module and no parameter stands at two places of which one is in a layer of `stacks`."""
    layers = {stack.layer(index) for stack in stacks for index in range(stack.start, stack.dropped.stop)}

    def home(path: str) -> str:
        parts = path.split(".")
        return next((p for n in range(1, len(parts) + 1) if (p := ".".join(parts[:n])) in layers), "")

    homes: dict[int, set[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        homes.setdefault(id(module), set()).add(home(path))
    for path, parameter in model.named_parameters(remove_duplicate=False):
        homes.setdefault(id(parameter), set()).add(home(path))
    return all(len(places) == 1 for places in homes.values())


def _stack(path: str, container: nn.ModuleList | nn.Sequential, kept: int) -> Stack | None:
    """The longest regular part, by the shortest period that leaves enough out."""
    # A list may hold None where a layer has no such part; that is equal to nothing, and stands for nothing.
    signs = [object() if child is None else sign(child, index) for index, child in enumerate(container)]
    for period in range(1, LONGEST_PERIOD + 1):
        for start in range(len(signs) - 2 * kept * period + 1):
            end = start + period
            while end < len(signs) and signs[end] == signs[end - period]:
                end += 1
            repeats = (end - start) // period
            if repeats > 2 * kept:
                return Stack(path, start, period, repeats, kept)
    return None


def sign(layer: nn.Module, index: int) -> Any:
    """All that makes a layer what it is, its number (`index`) aside: equal for equal layers."""
    return tuple((name, type(module), _settings(module, index)) for name, module in layer.named_modules())


def _settings(module: nn.Module, index: int) -> Any:
    tensors = tuple(
        (name, None if tensor is None else (tuple(tensor.shape), tensor.dtype, tensor.requires_grad))
        for store in (module._parameters, module._buffers)
        for name, tensor in store.items()
    )
    plain = tuple(
        (name, "its number" if type(value) is int and value == index and LAYER_NUMBERS.match(name) else _value(value))
        for name, value in sorted(vars(module).items())
        if name not in _OWN
    )
    return tensors, plain


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | torch.dtype | torch.device | torch.Size):
        return value
    if isinstance(value, tuple | list):
        return type(value), tuple(_value(item) for item in value)
    if isinstance(value, partial):
        return id(value.func), _value(value.args), _value(list(value.keywords.items()))
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    return id(value)


_OWN = {*vars(nn.Module()), "_parameters", "_buffers", "_modules"}
