"""Look at repeated layers once: of a deep stack of equal layers a few are traced, stand-ins take the others' place.

Two layers are equal if their classes, the shapes of all they hold and all their settings are equal, a layer's own
number aside. A stack may repeat with a period (sliding and full attention in turn) and begin or end irregularly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from laurel_cli.residual.find import Connection, Refused, ResidualMap
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
    def dropped(self) -> int:
        """Layers left out."""
        return (self.repeats - self.kept) * self.period

    @property
    def multiplicity(self) -> int:
        """Repeats for which the last kept one stands."""
        return self.repeats - self.kept + 1


def stacks(model: nn.Module, kept: int) -> list[Stack]:
    """The containers of `model` deep enough that leaving layers out saves at least half of them."""
    found: list[Stack] = []
    for path, container in model.named_modules():
        inside = any(path.startswith(f"{stack.path}.") for stack in found)
        if inside or not isinstance(container, nn.ModuleList | nn.Sequential) or len(container) <= 2 * kept:
            continue
        if list(container._modules) == [str(index) for index in range(len(container))]:  # else named children
            stack = _stack(path, container, kept)
            if stack is not None:
                found.append(stack)
    return found


@contextmanager
def shortened(model: nn.Module, found: list[Stack]) -> Iterator[None]:
    """Put a stand-in for each surplus layer of `found`; put the layers back at the end.

    A stand-in answers as the layer that it stands for did, for inputs of the same shapes; for others it raises
    `ValueError`: the layers are then not called alike, and the model must be looked at as a whole.
    """
    whole: list[tuple[nn.Module, dict[str, nn.Module | None]]] = []
    hooks = []
    try:
        for stack in found:
            container = model.get_submodule(stack.path)
            whole.append((container, dict(container._modules)))
            for index in stack.last:
                hooks.append(container[index].register_forward_hook(remember, with_kwargs=True))  # type: ignore[index]
            for index in range(stack.last.stop, stack.last.stop + stack.dropped):
                model_layer = container[stack.last[(index - stack.last.stop) % stack.period]]  # type: ignore[index]
                container._modules[str(index)] = stand_in(container[index], model_layer)  # type: ignore[index]
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for container, before in whole:
            container._modules.clear()
            container._modules.update(before)


def written_out(residual: ResidualMap, found: list[Stack]) -> ResidualMap | None:
    """The map of the whole model from that of the shortened one; None where its layers are not so regular."""
    for stack in found:
        extended = _write_out(residual, stack)
        if extended is None:
            return None
        residual = extended
    return residual


def _write_out(residual: ResidualMap, stack: Stack) -> ResidualMap | None:
    inside = [_layer(connection.block, stack) for connection in residual.connections]
    last = [c for c, layer in zip(residual.connections, inside, strict=True) if layer in stack.last]
    before = range(stack.last.start - stack.period, stack.last.start)
    previous = [c for c, layer in zip(residual.connections, inside, strict=True) if layer in before]
    if not last:
        return residual
    if [_pattern(c, stack) for c in last] != [_pattern(c, stack, stack.period) for c in previous]:
        return None
    if any(_layer(site.owner, stack) is None for c in last for site in c.sites):
        return None
    nodes = last[0].node - previous[0].node
    streams = {c.stream for c in last}
    per_repeat = {stream: sum(c.stream == stream for c in last) for stream in streams}
    repeats = stack.repeats - stack.kept
    first, end = residual.connections.index(last[0]), residual.connections.index(last[-1]) + 1
    copies = [_shifted(c, stack, r, nodes, per_repeat[c.stream]) for r in range(1, repeats + 1) for c in last]
    tail = [replace(c, position=c.position + repeats * per_repeat.get(c.stream, 0)) for c in residual.connections[end:]]
    if any(c not in last for c in residual.connections[first:end]):
        return None
    connections = (*residual.connections[:end], *copies, *tail)
    return ResidualMap(connections, _refused(residual.refused, stack))


def _shifted(connection: Connection, stack: Stack, repeat: int, nodes: int, per_repeat: int) -> Connection:
    """The same connection `repeat` repeats further on."""

    def rename(path: str) -> str:
        return _raised(path, stack, repeat * stack.period)

    return replace(
        connection,
        name=rename(connection.name),
        block=rename(connection.block),
        sites=tuple(replace(site, owner=rename(site.owner)) for site in connection.sites),
        outer=tuple((rename(path), activation) for path, activation in connection.outer),
        position=connection.position + repeat * per_repeat,
        node=connection.node + repeat * nodes,
        fork=connection.fork + repeat * nodes,
    )


def _refused(refused: tuple[Refused, ...], stack: Stack) -> tuple[Refused, ...]:
    result: list[Refused] = []
    last = [entry for entry in refused if _layer(entry.name, stack) in stack.last]
    for entry in refused:
        result.append(entry)
        if last and entry is last[-1]:
            for repeat in range(1, stack.repeats - stack.kept + 1):
                result.extend(replace(e, name=_raised(e.name, stack, repeat * stack.period)) for e in last)
    return tuple(result)


def _layer(path: str, stack: Stack) -> int | None:
    match = re.match(re.escape(stack.path) + r"\.(\d+)(?=\D|$)", path)
    return int(match[1]) if match else None


def _raised(path: str, stack: Stack, by: int) -> str:
    """`path` with the number of a layer of the last kept repeat raised by `by`."""
    layer = _layer(path, stack)
    if layer not in stack.last or layer is None:
        return path
    return f"{stack.path}.{layer + by}" + path[len(f"{stack.path}.{layer}") :]


def _pattern(connection: Connection, stack: Stack, by: int = 0) -> tuple[Any, ...]:
    """What must be equal in two repeats, layer numbers raised by `by`."""

    def rename(path: str) -> str:
        layer = _layer(path, stack)
        return path if layer is None else re.sub(r"\.\d+", f".{layer + by}", path[len(stack.path) :], count=1)

    sites = tuple((rename(site.owner), site.place, site.turn, site.skip) for site in connection.sites)
    return rename(connection.name), connection.kind, connection.shape, connection.channel_dim, connection.stream, sites


def _stack(path: str, container: nn.ModuleList | nn.Sequential, kept: int) -> Stack | None:
    """The longest regular part, by the shortest period that leaves enough out."""
    signs = [sign(child, index) for index, child in enumerate(container)]
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
        (name, "its number" if value == index and LAYER_NUMBERS.match(name) else _value(value))
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


__all__ = ["Stack", "shortened", "sign", "stacks", "written_out"]
