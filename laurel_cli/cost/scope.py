"""Which of the named modules is running: hooks that live as long as a count and tell how often its work stands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn


class Scope:
    """The named modules that are running now.

    Attributes:
        weight: how many times the work done now counts: the multiplicity of the innermost named module, else 1.
        watched: the watched modules that are running, outermost first; a module that calls itself stands once.
    """

    def __init__(self) -> None:
        self.weight = 1
        self.watched: list[str] = []
        self._weights: list[int] = []
        self._entries: list[str] = []

    def enter_weight(self, weight: int) -> None:
        """A module with a multiplicity starts."""
        self._weights.append(self.weight)
        self.weight = weight

    def leave_weight(self) -> None:
        """It is done."""
        self.weight = self._weights.pop()

    def enter_watched(self, path: str) -> None:
        """A watched module starts."""
        self._entries.append(path)
        self.watched = list(dict.fromkeys(self._entries))

    def leave_watched(self) -> None:
        """It is done."""
        self._entries.pop()
        self.watched = list(dict.fromkeys(self._entries))


def check_paths(model: nn.Module, multiplicity: Mapping[str, int], watch: Collection[str]) -> None:
    """See that every path names a module of `model`.

    Raises:
        ValueError: a path names none, or a multiplicity is below 1.
    """
    for path, weight in multiplicity.items():
        if weight < 1:
            raise ValueError(f"The multiplicity of {path!r} must be at least 1, got {weight}.")
    for path in (*multiplicity, *watch):
        try:
            model.get_submodule(path)
        except AttributeError as error:
            raise ValueError(f"The model has no module {path!r}.") from error


@contextmanager
def scoped(model: nn.Module, multiplicity: Mapping[str, int], watch: Collection[str]) -> Iterator[Scope]:
    """Hook the modules at the paths of `multiplicity` and `watch`; the hooks are gone at the end."""
    scope = Scope()
    handles: list[Any] = []

    def hook(path: str, enter: Callable[[], None], leave: Callable[[], None]) -> None:
        module = model.get_submodule(path)
        handles.append(module.register_forward_pre_hook(lambda module, args: enter(), prepend=True))
        handles.append(module.register_forward_hook(lambda module, args, output: leave(), always_call=True))

    try:
        for path, weight in multiplicity.items():
            hook(path, partial(scope.enter_weight, weight), scope.leave_weight)
        for path in dict.fromkeys(watch):
            hook(path, partial(scope.enter_watched, path), scope.leave_watched)
        yield scope
    finally:
        for handle in handles:
            handle.remove()
