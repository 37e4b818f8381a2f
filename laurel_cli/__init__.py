"""LAuReL for any PyTorch model: find its residual connections, put LAuReL in their place, count what it adds.

The public API is what `__all__` lists. Names are imported when they are first used, so that `import laurel_cli`
and `laurel --help` start at once, without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from laurel_cli.late import when_imported

if TYPE_CHECKING:
    from laurel_cli.analysis import analyze
    from laurel_cli.api.counted import count
    from laurel_cli.api.opened import load
    from laurel_cli.api.places import apply, residual_map
    from laurel_cli.api.profiled import profile
    from laurel_cli.api.reported import report
    from laurel_cli.api.trained import train
    from laurel_cli.errors import LaurelError
    from laurel_cli.laurel.apply import apply_laurel
    from laurel_cli.laurel.fold import fold
    from laurel_cli.laurel.fold_training import fold_training
    from laurel_cli.laurel.keep import parameters, remove, restore, save
    from laurel_cli.laurel.spec import Spec
    from laurel_cli.laurel.within import unfold_training
    from laurel_cli.models.inputs import as_inputs
    from laurel_cli.residual import find_connections
    from laurel_cli.rivals import add_arms

__version__ = "0.1.0"

__all__ = [
    "LaurelError",
    "Spec",
    "__version__",
    "add_arms",
    "analyze",
    "apply",
    "apply_laurel",
    "as_inputs",
    "count",
    "find_connections",
    "fold",
    "fold_training",
    "load",
    "parameters",
    "profile",
    "remove",
    "report",
    "residual_map",
    "restore",
    "save",
    "train",
    "unfold_training",
]

_HOMES = {
    "LaurelError": "laurel_cli.errors",
    "Spec": "laurel_cli.laurel.spec",
    "add_arms": "laurel_cli.rivals",
    "analyze": "laurel_cli.analysis",
    "apply": "laurel_cli.api.places",
    "apply_laurel": "laurel_cli.laurel.apply",
    "as_inputs": "laurel_cli.models.inputs",
    "count": "laurel_cli.api.counted",
    "find_connections": "laurel_cli.residual",
    "fold": "laurel_cli.laurel.fold",
    "fold_training": "laurel_cli.laurel.fold_training",
    "load": "laurel_cli.api.opened",
    "parameters": "laurel_cli.laurel.keep",
    "profile": "laurel_cli.api.profiled",
    "remove": "laurel_cli.laurel.keep",
    "report": "laurel_cli.api.reported",
    "residual_map": "laurel_cli.api.places",
    "restore": "laurel_cli.laurel.keep",
    "save": "laurel_cli.laurel.keep",
    "train": "laurel_cli.api.trained",
    "unfold_training": "laurel_cli.laurel.within",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _tell_transformers() -> None:
    from laurel_cli.laurel.pretrained import register

    register()


# Folders of transformers models with LAuReL are opened by its Auto classes from then on.
when_imported("transformers.models.auto.configuration_auto", _tell_transformers)
