"""Do something once a library has been imported, without importing it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every start of the command runs this file
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_imported(name: str, act: Callable[[], None]) -> None:
    """Call `act` right after the module called `name` is imported for the first time; now, where it has been."""
    if name in sys.modules:
        act()
    else:
        sys.meta_path.insert(0, _Awaited(name, act))


class _Awaited:
    """Finds one module as the other finders do, and lets its loader call `act` when it has run it."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.name, self.act = name, act

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name or self not in sys.meta_path:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]  # another that awaits it asks those behind itself
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            self.act()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
