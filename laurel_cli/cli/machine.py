"""What is installed."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

PACKAGES = ("torch", "torchvision", "timm", "transformers", "fvcore", "thop", "torch_xla")


def versions() -> dict[str, str | None]:
    """Python, laurel and the packages that matter, None where one is absent. Imports none of them."""
    from laurel_cli import __version__

    found: dict[str, str | None] = {"python": f"{platform.python_version()} ({sys.platform})", "laurel": __version__}
    return found | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
