"""Arms side by side: their order, a name for each, what a profile's options say of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from laurel_cli.arms import KINDS, Arm
from laurel_cli.text import whole_number

FAMILIES = ("identity", "rw", "lr", "pa", "rw+lr", "rw+pa", "lr+pa", "rw+lr+pa")
_OPTIONS = {
    "--lags": "lags",
    "--history": "history",
    "--normalize": "normalize",
    "--init": "init",
    "--per": "per",
}


def options_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of every spec of a profile: as recorded, in older records from the command line."""
    if isinstance(content.get("spec_options"), dict):
        return dict(content["spec_options"])
    try:
        words = shlex.split(str(content.get("command", "")))
    except ValueError:
        return {}
    found: dict[str, Any] = {"vector_weights": True} if "--vector-weights" in words else {}
    written_together = (word.partition("=")[::2] for word in words if "=" in word)
    for option, value in [*pairwise(words), *written_together]:
        if option in _OPTIONS:
            found[_OPTIONS[option]] = value
    if "lags" in found:
        found["lags"] = None if found["lags"] == "all" else whole_number(found["lags"]) or 3
    return found


def order(arms: Iterable[Arm]) -> list[Arm]:
    """Baseline, copy, naive scaling, LAuReL by formula and rank, its rivals, other models."""

    def key(arm: Arm) -> tuple[Any, ...]:
        kind = list(KINDS).index(arm.kind.name)
        if arm.spec is None:
            return (kind, arm.blocks, 0, arm.name, "")
        family = FAMILIES.index(arm.family) if arm.family in FAMILIES else len(FAMILIES)
        return (kind, family, getattr(arm.spec, "rank", 0), arm.name, str(arm.spec))

    return sorted(arms, key=key)


def labels(arms: Iterable[Arm]) -> dict[Arm, str]:
    """A name for every arm, no two alike: as recorded, with what tells it from others of that name."""
    by_name: dict[str, list[Arm]] = {}
    for arm in dict.fromkeys(arms):
        by_name.setdefault(arm.name, []).append(arm)
    found = {}
    for name, group in by_name.items():
        said = [_difference(arm, group) for arm in group]
        for number, (arm, words) in enumerate(zip(group, said, strict=True), start=1):
            told = words if said.count(words) == 1 else f"{words}, {number}".removeprefix(", ")
            found[arm] = name if len(group) == 1 else f"{name} ({told or number})"
    return found


def _difference(arm: Arm, group: list[Arm]) -> str:
    """`lags 3, init xavier`: the fields in which the specs of `group` are not all alike; the kind without specs."""
    if arm.spec is None or any(other.spec is None for other in group):
        return arm.kind.name
    parts = []
    for field, value in vars(arm.spec).items():
        if len({vars(other.spec).get(field) for other in group}) > 1:
            parts.append(f"{field.replace('_', ' ')} {'all' if value is None else value}")
    return ", ".join(parts)
