"""Which models there are by name, read from the packages' own files: listing them imports no package."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from laurel_cli.models import shapes

SOURCES = ("torchvision", "timm", "shape")

# `@register_model`, `@register_model()` or `@register_model(name="...")`, further decorators, then the function.
_REGISTERED = re.compile(
    r"^@register_model(?:\((?:name=)?(?:[\"'](?P<name>[^\"']+)[\"'])?\))?[^\n]*\n"
    r"(?:[@ )][^\n]*\n)*def (?P<function>\w+)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class ModelName:
    """One model that can be loaded: what to type, and where it comes from with the version."""

    reference: str
    source: str


def find_names(pattern: str | None = None) -> list[ModelName]:
    """The models whose name, bare or prefixed, contains `pattern` or matches it as a glob; all for None.

    A name that two sources have is listed bare for the one that a bare name means, with its prefix for the other.
    """
    found: list[ModelName] = []
    taken: set[str] = set()
    for source in SOURCES:
        for name in listed(source):
            reference = f"{source}:{name}" if name in taken else name
            if pattern is None or _matches(pattern, name, f"{source}:{name}"):
                found.append(ModelName(reference, title(source)))
        taken.update(listed(source))
    return found


def has(source: str, name: str) -> bool:
    """Whether `source` has a model `name` (timm's may carry a tag after a dot, which fixes the configuration)."""
    bare = name.partition(".")[0] if source == "timm" else name
    return bare in listed(source)


def bare_names() -> Iterable[str]:
    """Every name that can be typed without a prefix."""
    return dict.fromkeys(name for source in SOURCES for name in listed(source))


@cache
def listed(source: str) -> tuple[str, ...]:
    """The names of one source, sorted; empty where the package is not installed."""
    if source == "shape":
        return tuple(shapes.names())
    spec = importlib.util.find_spec(source)
    if spec is None or not spec.submodule_search_locations:
        return ()
    names: set[str] = set()
    for file in Path(spec.submodule_search_locations[0], "models").rglob("*.py"):
        for match in _REGISTERED.finditer(file.read_text(encoding="utf-8")):
            names.add(match["name"] or match["function"])
    return tuple(sorted(names))


@cache
def title(source: str) -> str:
    """The source with its version, e.g. "torchvision 0.29.2"."""
    if source == "shape":
        return "shipped shape"
    try:
        return f"{source} {importlib.metadata.version(source)}"
    except importlib.metadata.PackageNotFoundError:
        return source


def _matches(pattern: str, name: str, prefixed: str) -> bool:
    wanted = pattern.lower()
    if any(sign in wanted for sign in "*?["):
        return fnmatch.fnmatchcase(name.lower(), wanted) or fnmatch.fnmatchcase(prefixed.lower(), wanted)
    return wanted in name.lower() or wanted in prefixed.lower()
