"""What is known of tensors that have no data: what follows from the inputs alone, and choices spread evenly.

A model on the meta device runs on shapes. Where its own code asks for a value, such as how many tokens an expert is
given, shapes do not do. Two things do without weights: whatever is computed from the example inputs and from
constants alone is computed beside the shapes, exactly; and a choice among scores (the k largest, their order) is taken
to spread evenly, as a balanced router would choose. What Python learns of either is told apart: `Values.looks`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten

LIMIT = 1 << 22
"""Elements of the largest tensor whose values are kept: masks, indices and counts are below it, activations above."""

WITHOUT_DATA = (DataDependentOutputException, DynamicOutputShapeException)


class Basis(IntEnum):
    """What a value follows from; of several, the last one is what it rests on."""

    CONSTANTS = 0
    INPUTS = 1
    CHOICES = 2


class _Known(NamedTuple):
    value: torch.Tensor
    source: Basis


class Values:
    """The values of stand-ins, kept by their storage: so views, and what is written through them, are one.

    Args:
        stand_in: makes a stand-in of the shape, strides and dtype of a tensor.
        limit: elements of the largest tensor whose values are kept.

    Attributes:
        looks: calls by which Python learned a value or a number of elements, by what it rests on and by operator.
    """

    def __init__(self, stand_in: Callable[[torch.Tensor], torch.Tensor], limit: int = LIMIT) -> None:
        self.looks: dict[Basis, Counter[str]] = {source: Counter() for source in Basis}
        self._stand_in, self._limit = stand_in, limit
        self._memory: WeakKeyDictionary[torch.UntypedStorage, _Known] = WeakKeyDictionary()

    def learn(self, fake: torch.Tensor, value: torch.Tensor, source: Basis) -> None:
        """From now on `fake` holds `value`, unless it is too large or of a kind that has no plain memory."""
        storage = fake.untyped_storage() if _is_plain(fake) else None
        if storage is None or storage.nbytes() > self._limit * fake.element_size():
            return
        memory = torch.zeros(storage.nbytes(), dtype=torch.uint8, device="cpu")
        self._memory[storage] = _Known(memory, source)
        _seen(fake, memory).copy_(value)

    def forget(self) -> None:
        """Let go of all values: the run is over, and stand-ins live on in cycles until they are collected."""
        self._memory.clear()

    def dispatch(self, func: Any, args: Any, kwargs: Any, shapes: Callable[[Any, Any], Any]) -> Any:
        """What `func` gives on stand-ins: `shapes(args, kwargs)`, to which the values are added that are known.

        Returns:
            Stand-ins; a number where `func` gives one and its arguments are known.

        Raises:
            DataDependentOutputException, DynamicOutputShapeException: it takes data that nothing is known of.
        """
        known = None if _is_drawn(func) else self._all_known(_tensors(args, kwargs))
        if known is None:
            if func._overloadpacket in _OVERWRITES and self._overwritten(func, args):
                return args[0]
            try:
                return self._of_shapes(func, args, kwargs, shapes)
            finally:
                self._forget_written(func, args, kwargs)
        source, result = max((entry.source for entry in known.values()), default=Basis.CONSTANTS), None
        try:
            result = shapes(args, kwargs)
        except WITHOUT_DATA:
            self.looks[source][str(func)] += 1
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if any(leaf.numel() > self._limit for leaf in made):
            self._forget_written(func, args, kwargs)
            return result
        values = tree_map_only(torch.Tensor, lambda leaf: known[id(leaf)].value, (args, kwargs))
        if values[1].get("device") is not None:
            values[1]["device"] = torch.device("cpu")
        try:
            real = func(*values[0], **values[1])
        except (NotImplementedError, RuntimeError):  # it has no kernel for data: what it gives stays unknown
            self._forget_written(func, args, kwargs)
            if result is None:
                raise
            return result
        if result is None:  # a number, or as many elements as the data says
            result = tree_map_only(torch.Tensor, self._stand_in, real)
        for fake, value in zip(tree_leaves(result), tree_leaves(real), strict=True):
            if isinstance(fake, torch.Tensor) and _is_plain(fake):
                before = self._memory.get(fake.untyped_storage())
                if before is None:
                    self.learn(fake, value, source)
                elif source > before.source:  # written in place
                    self._memory[fake.untyped_storage()] = _Known(before.value, source)
        return result

    def _of_shapes(self, func: Any, args: Any, kwargs: Any, shapes: Any) -> Any:
        """What `func` gives where not all of its arguments are known."""
        if func is aten.index.Tensor:
            places = [place for index in args[1] for place in self._places(index)]
            return shapes((args[0], places), kwargs)
        if func is aten.masked_select.default and (mask := self._known(args[1])) is not None:
            value, source = mask
            self.looks[source][str(func)] += 1
            shape = torch.broadcast_shapes(args[0].shape, value.shape)
            return self._stand_in(torch.empty(int(value.expand(shape).sum()), dtype=args[0].dtype, device="cpu"))
        result = shapes(args, kwargs)
        if func in _CHOICES:
            indices = result if isinstance(result, torch.Tensor) else result[1]
            self.learn(indices, _evenly(indices.shape, args[0].shape, _dimension(func, args, kwargs)), Basis.CHOICES)
        return result

    def _overwritten(self, func: Any, args: Any) -> bool:
        """Whether all of a tensor's memory is known from now on, since known values were written over all of it."""
        fake, others = args[0], self._all_known(_tensors(args[1:], {}))
        whole = _is_plain(fake) and fake.untyped_storage().nbytes() == fake.numel() * fake.element_size()
        if not whole or others is None or fake.numel() > self._limit:
            return False
        given = [others[id(value)].value if isinstance(value, torch.Tensor) else value for value in args[1:]]
        value = func(torch.empty(fake.shape, dtype=fake.dtype, device="cpu"), *given)
        self.learn(fake, value, max((entry.source for entry in others.values()), default=Basis.CONSTANTS))
        return True

    def _places(self, index: torch.Tensor | None) -> list[torch.Tensor | None]:
        """A known mask as the numbers of its places, one tensor a dimension; what else indexes as it is."""
        if index is None or index.dtype not in (torch.bool, torch.uint8) or (mask := self._known(index)) is None:
            return [index]
        value, source = mask
        self.looks[source]["aten.index.Tensor"] += 1
        return [self._stand_in(place) for place in value.nonzero(as_tuple=True)]

    def value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What `tensor` holds, None where that is not known."""
        found = self._known(tensor)
        return None if found is None else found.value

    def _all_known(self, tensors: list[torch.Tensor]) -> dict[int, _Known] | None:
        """The values of `tensors` by id; None from the first one on that is not known."""
        known = {}
        for tensor in tensors:
            found = self._known(tensor)
            if found is None:
                return None
            known[id(tensor)] = found
        return known

    def _known(self, tensor: torch.Tensor) -> _Known | None:
        if not isinstance(tensor, FakeTensor) and not tensor.is_meta:  # a constant in the model's code
            return None if tensor.numel() > self._limit else _Known(tensor, Basis.CONSTANTS)
        found = self._memory.get(tensor.untyped_storage()) if _is_plain(tensor) else None
        return None if found is None else _Known(_seen(tensor, found.value), found.source)

    def _forget_written(self, func: Any, args: Any, kwargs: Any) -> None:
        """What an operator writes of unknown values into known memory makes all of it unknown."""
        for place, name in _written(func):
            for leaf in _tensors((args[place] if place < len(args) else kwargs.get(name),), {}):
                if _is_plain(leaf):
                    self._memory.pop(leaf.untyped_storage(), None)


CONSTANT = "_laurel_value"
"""The attribute by which a buffer without memory holds its value; a copy of the buffer has it too."""

SMALL = 1 << 16
"""Elements of the largest buffer whose value is kept for as long as the model lives."""


class Constants(TorchDispatchMode):
    """While a model is built without memory: what its constructor computes of constants is known."""

    def __init__(self) -> None:
        super().__init__()
        self._values = Values(lambda real: real.to("meta"), SMALL)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not isinstance(func, OpOverload):
            return func(*args, **(kwargs or {}))
        return self._values.dispatch(func, args, kwargs or {}, lambda args, kwargs: func(*args, **kwargs))

    def keep(self, model: nn.Module) -> None:
        """Give the buffers of `model` their values, so far as they are known."""
        for buffer in model.buffers():
            value = self._values.value(buffer) if buffer.is_meta and buffer.numel() <= SMALL else None
            if value is not None:
                setattr(buffer, CONSTANT, value.clone())


# What makes room and nothing else.
_EMPTY = (aten.empty, aten.empty_strided, aten.empty_like, aten.new_empty, aten.new_empty_strided, aten.empty_permuted)

# What writes every element, whatever stood there.
_OVERWRITES = (aten.fill_, aten.zero_, aten.copy_)

# Which of many scores are chosen, or in which order they stand: their last result is places. `max()` alone is a score.
_CHOICES = {
    *(aten.topk.default, aten.sort.default, aten.sort.stable, aten.kthvalue.default, aten.multinomial.default),
    *(aten.argmax.default, aten.argmin.default, aten.max.dim, aten.min.dim),
}


def _tensors(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors among an operator's arguments, which hold them as they are or in a list."""
    found = []
    for argument in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(argument, torch.Tensor):
            found.append(argument)
        elif isinstance(argument, (list, tuple)):
            found += [entry for entry in argument if isinstance(entry, torch.Tensor)]
    return found


@cache
def _is_drawn(func: OpOverload) -> bool:
    """Whether its result follows from no argument: random numbers, or whatever memory held."""
    return torch.Tag.nondeterministic_seeded in func.tags or func._overloadpacket in _EMPTY


@cache
def _written(func: OpOverload) -> tuple[tuple[int, str], ...]:
    """The arguments that it writes into, by place and name."""
    arguments = enumerate(func._schema.arguments)
    return tuple((place, entry.name) for place, entry in arguments if entry.alias_info and entry.alias_info.is_write)


def _dimension(func: Any, args: Any, kwargs: Any) -> int | None:
    """The dimension along which is chosen; None: of all numbers together."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == "dim":
            chosen = args[place] if place < len(args) else kwargs.get("dim", argument.default_value)
            return None if chosen is None else int(chosen)
    return -1


def _evenly(shape: torch.Size, scores: torch.Size, dim: int | None) -> torch.Tensor:
    """Whole numbers of `shape`: each place along `dim` of `scores` is chosen equally often, none twice in a row."""
    if dim is None or not scores:
        return torch.zeros(shape, dtype=torch.int64, device="cpu")
    chosen = shape[dim] if len(shape) == len(scores) else 1
    rows = torch.Size(size for place, size in enumerate(scores) if place != dim % len(scores))
    first = torch.arange(rows.numel(), device="cpu") * (chosen if chosen < scores[dim] else 1)
    places = (first[:, None] + torch.arange(chosen, device="cpu")) % scores[dim]
    return places.reshape(*rows, chosen).movedim(-1, dim).reshape(shape)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether it is a view of memory, element by element."""
    return tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_complex()


def _seen(fake: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
    """The part of `memory` that `fake` shows."""
    plain = torch.empty(0, dtype=fake.dtype, device="cpu")
    return plain.set_(memory.untyped_storage(), int(fake.storage_offset()), fake.shape, fake.stride())
