"""When two measurements are of the same arm: by what was built, not by what it is called."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from laurel_cli.errors import UsageError
from laurel_cli.laurel.spec import Spec

KINDS = ("baseline", "copy", "naive", "laurel", "against")
FAMILIES = ("identity", "rw", "lr", "pa", "rw+lr", "rw+pa", "lr+pa", "rw+lr+pa")
_OPTIONS = {
    "--lags": "lags",
    "--history": "history",
    "--normalize": "normalize",
    "--init": "init",
    "--per": "per",
}


@dataclass(frozen=True)
class Arm:
    """One way to build the model.

    Attributes:
        kind: of `KINDS`; name: as it was recorded.
        blocks: added by "naive".
        spec: of "laurel", with every field that does not matter to its formula at its default.
    """

    kind: str
    name: str
    blocks: int = 0
    spec: Spec | None = None

    @property
    def form(self) -> tuple[Any, ...]:
        """What its cost depends on: the start of A is no part of it."""
        if self.spec is None:
            return (self.kind, self.blocks or self.name)
        s = self.spec
        return (s.variant, s.rank, s.lags, s.history_map, s.normalize, s.vector_weights, s.per)

    @property
    def family(self) -> str:
        """Its shape and colour in a figure: the variant, or the kind."""
        return self.spec.variant if self.spec is not None else self.kind


def named(name: str, options: Mapping[str, Any]) -> Arm:
    """The arm that commands call `name`, with `options` as fields of every spec."""
    if name in ("baseline", "copy"):
        return Arm(name, name)
    naive = re.fullmatch(r"naive\+(\d+)", name)
    if naive:
        return Arm("naive", name, blocks=int(naive[1]))
    try:
        return Arm("laurel", name, spec=_plain(Spec.parse(name, **options)))
    except (UsageError, TypeError):  # another model, or a formula that this version does not know
        return Arm("against", name)


def described(name: str, fields: Mapping[str, Any] | None, kind: str = "", blocks: int = 0) -> Arm:
    """The arm of a record that describes it: the fields of its spec, as `Spec` or as `laurel analyze` names them."""
    if fields is None:
        found = named(name, {})
        # A model that was given may be called as a variant is; then the kind tells.
        return found if not kind or found.kind == kind else Arm(kind, name, blocks)
    names = ("history", "normalize", "vector_weights", "init", "per", "rank", "lags")
    known = {key: fields[key] for key in names if key in fields}
    variant = fields.get("variant") or "+".join(part for part in ("rw", "lr", "pa") if fields.get(part)) or "identity"
    of_analyze = "variant" in fields
    if known.get("lags") == "all":
        known["lags"] = None
    elif known.get("lags", 0) is None and of_analyze:  # no PA; of a `Spec` None means all
        del known["lags"]
    if known.get("history") == "none":
        del known["history"]
    given = {key: value for key, value in known.items() if value is not None or key == "lags"}
    try:
        return Arm("laurel", name, spec=_plain(Spec.parse(variant, **given)))
    except (UsageError, TypeError):
        return Arm("against", name)


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
        found["lags"] = None if found["lags"] == "all" else int(found["lags"]) if found["lags"].isdigit() else 3
    return found


def order(arms: Iterable[Arm]) -> list[Arm]:
    """Baseline, copy, naive scaling, LAuReL by formula and rank, others."""

    def key(arm: Arm) -> tuple[Any, ...]:
        kind = KINDS.index(arm.kind)
        if arm.spec is None:
            return (kind, arm.blocks, 0, arm.name, "")
        family = FAMILIES.index(arm.spec.variant) if arm.spec.variant in FAMILIES else len(FAMILIES)
        return (kind, family, arm.spec.rank, arm.name, str(arm.spec))

    return sorted(arms, key=key)


def labels(arms: Iterable[Arm]) -> dict[Arm, str]:
    """A name for every arm, no two alike: as recorded, with what tells it from others of that name."""
    by_name: dict[str, list[Arm]] = {}
    for arm in dict.fromkeys(arms):
        by_name.setdefault(arm.name, []).append(arm)
    found = {}
    for name, group in by_name.items():
        for number, arm in enumerate(group):
            found[arm] = name if len(group) == 1 else f"{name} ({_difference(arm, group) or number + 1})"
    return found


def _difference(arm: Arm, group: list[Arm]) -> str:
    """`lags 3, init xavier`: the fields in which the specs of `group` are not all alike; the kind without specs."""
    if arm.spec is None or any(other.spec is None for other in group):
        return arm.kind
    parts = []
    for field, value in vars(arm.spec).items():
        if len({vars(other.spec)[field] for other in group}) > 1:
            parts.append(f"{field.replace('_', ' ')} {'all' if value is None else value}")
    return ", ".join(parts)


def _plain(spec: Spec) -> Spec:
    """The spec with what does not matter to it at its default, so that equal formulas are equal."""
    plain = Spec()
    return Spec(
        rw=spec.rw,
        lr=spec.lr,
        pa=spec.pa,
        rank=spec.rank if spec.low_rank else plain.rank,
        lags=spec.lags if spec.pa else plain.lags,
        history=spec.history_map if spec.history_map != "none" else plain.history,
        normalize=spec.normalize if spec.rw else plain.normalize,
        vector_weights=spec.vector_weights and spec.rw,
        init=spec.init if spec.low_rank else plain.init,
        per=spec.per,
    )
