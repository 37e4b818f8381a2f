"""LAuReL for any PyTorch model: find its residual connections, put LAuReL in their place, count what it adds.

The public API is what `__all__` lists. Names are imported when they are first used, so that `import laurel_cli`
and `laurel --help` start at once, without torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laurel_cli.analyze import analyze
    from laurel_cli.cost import count
    from laurel_cli.errors import LaurelError
    from laurel_cli.laurel.apply import apply_laurel
    from laurel_cli.laurel.spec import Spec
    from laurel_cli.models import load
    from laurel_cli.residual import find_connections

__version__ = "0.1.0"

__all__ = [
    "LaurelError",
    "Spec",
    "__version__",
    "analyze",
    "apply_laurel",
    "count",
    "find_connections",
    "load",
]

_HOMES = {
    "LaurelError": "laurel_cli.errors",
    "Spec": "laurel_cli.laurel.spec",
    "analyze": "laurel_cli.analyze",
    "apply_laurel": "laurel_cli.laurel.apply",
    "count": "laurel_cli.cost.count",
    "find_connections": "laurel_cli.residual",
    "load": "laurel_cli.models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """`analyze` is a function and a submodule: importing the submodule must not put it in the function's place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
