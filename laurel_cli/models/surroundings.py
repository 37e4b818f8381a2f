"""What a model's code keeps outside of the model: in its classes, in their source files, in `functools.lru_cache`.

A table of positions that is computed once for all calls may stand in any of them. A pass that finds it there does less
than the pass before, and one on stand-ins leaves stand-ins behind.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import nn

Place = type | ModuleType
_Cache = type(lru_cache(len))
_OURS = ("torch", "laurel_cli", "builtins", "typing", "abc", "collections", "dataclasses", "enum")
_MISSING = object()
_CLOSE = 5
"""How far a cache's entries are from the cache: its table, a link of the list by age, a key, a tuple in it, a list."""


@contextmanager
def names_kept(places: Sequence[Place]) -> Iterator[None]:
    """Within it nothing is remembered from earlier calls by `lru_cache`; at the end names hold what they held.

    Caches are those among the names of `places`, decorated methods too, that hold tensors or modules: they are emptied.
    """
    before = [(place, dict(vars(place))) for place in places]
    _empty_caches(before)
    try:
        yield
    finally:
        now = [(place, dict(vars(place))) for place in places]
        _empty_caches(now)
        for (place, names), (_, changed) in zip(before, now, strict=True):
            for name in names.keys() | changed.keys():
                old, new = names.get(name, _MISSING), changed.get(name, _MISSING)
                if old is new or name.startswith("__"):
                    continue
                if old is _MISSING:
                    delattr(place, name)
                else:
                    setattr(place, name, old)


def containers_of(places: Sequence[Place]) -> Iterator[Any]:
    """What the names hold that a pass may write to: containers, and objects of classes from the same files."""
    files = {place.__name__ for place in places if isinstance(place, ModuleType)}
    for place in places:
        for name, value in list(vars(place).items()):
            own = type(value).__module__ in files or isinstance(value, WeakKeyDictionary | WeakValueDictionary)
            if not name.startswith("__") and (own or isinstance(value, dict | list | set | deque)):
                yield value


def surroundings(model: nn.Module) -> list[Place]:
    """The classes of the model's modules and the source files that define them, torch's aside."""
    classes = dict.fromkeys(base for kind in {type(module) for module in model.modules()} for base in kind.__mro__)
    own = [kind for kind in classes if kind.__module__.partition(".")[0] not in _OURS]
    files = dict.fromkeys(sys.modules[kind.__module__] for kind in own if kind.__module__ in sys.modules)
    return [*own, *files]


def _empty_caches(places: list[tuple[Place, dict[str, Any]]]) -> None:
    for _, names in places:
        for value in names.values():
            for cache in _caches(value):
                if _holds_state(cache):
                    cache.cache_clear()


def _caches(value: Any) -> Iterator[Any]:
    """`value` itself where it is a cache; the cache within a method of a class or behind a decorator."""
    value = getattr(value, "__func__", value) if isinstance(value, staticmethod | classmethod) else value
    if isinstance(value, _Cache):
        yield value
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # empty
                continue
            if isinstance(content, _Cache):
                yield content


def _holds_state(cache: Any) -> bool:
    """Whether a tensor or a module is among its keys or values."""
    if cache.cache_info().currsize == 0:
        return False
    seen: set[int] = {id(cache.__wrapped__)}
    level = [cache]
    for _ in range(_CLOSE):
        found = []
        for value in level:
            for entry in gc.get_referents(value):
                if isinstance(entry, torch.Tensor | nn.Module):
                    return True
                if id(entry) not in seen and not isinstance(entry, type | ModuleType | FunctionType | MappingProxyType):
                    seen.add(id(entry))
                    found.append(entry)
        level = found
    return False
