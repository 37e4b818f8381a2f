"""Copy a model, with what `copy.deepcopy` refuses or leaves behind: computed tensors, closures over its modules."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from types import CellType, FunctionType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer

from laurel_cli.errors import ModelError
from laurel_cli.models.guard import said
from laurel_cli.models.tensors import held

Module = TypeVar("Module", bound=nn.Module)


def copied(module: Module) -> Module:
    """Copy `module`; the copy shares nothing with it but code.

    `copy.deepcopy` alone raises on tensors that were computed from parameters (`weight_norm` and pruning keep the
    weight that they compute in an attribute), and it keeps functions as they are, so that a lambda that closes over
    a submodule (minGPT's `self.mlpf`) would go on calling the original's. Nor does it know compressed sparse tensors.
    Here computed and sparse tensors are copied without their graph, and functions among the attributes, in lists and
    dicts and among the hooks get closures of their own.

    Raises:
        ModelError: it holds what cannot be copied, such as a lock or an open file.
    """
    memo: dict[int, Any] = {}
    for tensor in held(module):
        if isinstance(tensor, UninitializedBuffer):  # the one tensor without a way to be copied
            form = {"device": tensor.data.device, "dtype": tensor.data.dtype}
            memo[id(tensor)] = UninitializedBuffer(**form)  # type: ignore[arg-type]
        elif not isinstance(tensor, nn.Parameter) and (not tensor.is_leaf or tensor.layout is not torch.strided):
            memo[id(tensor)] = tensor.detach().clone()
    try:
        made = copy.deepcopy(module, memo)
    except Exception as error:  # whatever an attribute's own __deepcopy__ or __reduce__ raises
        raise ModelError(
            "The model cannot be copied.", said(error), "Keep what cannot be copied out of its attributes."
        ) from error
    rebinding = _Rebinding(memo)
    for part in made.modules():
        for name, value in list(part.__dict__.items()):
            if name not in ("_parameters", "_buffers", "_modules"):
                part.__dict__[name] = rebinding.within(value)
    return made


class _Rebinding:
    """Makes functions anew whose closures or defaults hold what was copied."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self._memo = memo  # id(original) -> copy, as `copy.deepcopy` leaves it
        self._made: dict[int, FunctionType] = {}
        self._seen: set[int] = set()

    def within(self, value: Any) -> Any:
        """Return `value` with the functions in it made anew; it is an attribute of the copy."""
        if isinstance(value, FunctionType):
            return self._stands_for(value)
        if type(value) is functools.partial:
            return functools.partial(self._stands_for(value.func), *value.args, **value.keywords)
        if type(value) is tuple:
            return tuple(self.within(item) for item in value)
        if id(value) in self._seen or not isinstance(value, dict | list):
            return value
        self._seen.add(id(value))  # a container may hold itself
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            value[key] = self.within(item)
        return value

    def _stands_for(self, original: Any) -> Any:
        """Return what has the place of `original` in the copy: itself where nothing that was copied hangs on it."""
        if not self._leads(original, set()):
            return original
        if isinstance(original, FunctionType):
            return self._function(original)
        if isinstance(original, dict):
            return {key: self._stands_for(item) for key, item in original.items()}
        if type(original) in (list, tuple):
            return type(original)(self._stands_for(item) for item in original)
        return self._memo[id(original)]

    def _leads(self, value: Any, seen: set[int]) -> bool:
        if id(value) in seen:
            return False
        seen.add(id(value))
        if isinstance(value, nn.Module | torch.Tensor):
            return id(value) in self._memo
        return any(self._leads(item, seen) for item in _reached(value))

    def _function(self, old: FunctionType) -> FunctionType:
        if id(old) in self._made:  # it may close over itself
            return self._made[id(old)]
        cells = tuple(CellType() for _ in old.__closure__ or ())
        new = self._made[id(old)] = FunctionType(old.__code__, old.__globals__, old.__name__, closure=cells)
        functools.update_wrapper(new, old)
        new.__dict__.pop("__wrapped__", None)
        new.__dict__.update({name: self._stands_for(value) for name, value in old.__dict__.items()})
        new.__defaults__, new.__kwdefaults__ = self._stands_for(old.__defaults__), self._stands_for(old.__kwdefaults__)
        for cell, before in zip(cells, old.__closure__ or (), strict=True):
            for content in _contents(before):
                cell.cell_contents = self._stands_for(content)
        return new


def _reached(value: Any) -> Iterator[Any]:
    """What a function or a plain container holds."""
    if isinstance(value, FunctionType):
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        yield from value.__dict__.values()
        for cell in value.__closure__ or ():
            yield from _contents(cell)
    elif isinstance(value, dict):
        yield from value.values()
    elif type(value) in (list, tuple):
        yield from value


def _contents(cell: CellType) -> Iterator[Any]:
    try:
        yield cell.cell_contents
    except ValueError:  # an empty cell
        return
