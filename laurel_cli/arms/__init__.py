"""The arms that every command compares: the baseline, a copy of it, naive scaling, LAuReL and its rivals, other models.

A new rival is a file in `rivals/`; a new kind of arm is a file here and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from laurel_cli.arms.against import AGAINST
from laurel_cli.arms.base import Arm, Kind, Site
from laurel_cli.arms.baseline import BASELINE, COPY
from laurel_cli.arms.formula import LAUREL, RIVAL
from laurel_cli.arms.naive import NAIVE
from laurel_cli.errors import UsageError
from laurel_cli.laurel import formulas
from laurel_cli.laurel.formula import Formula
from laurel_cli.laurel.spec import Spec
from laurel_cli.rivals.outside import source_sha256

# In the order of tables; and of asking which kind a name is of, LAuReL last: it says what is wrong with any other name.
KINDS: dict[str, Kind] = {kind.name: kind for kind in (BASELINE, COPY, NAIVE, LAUREL, RIVAL, AGAINST)}
_ASKED = (BASELINE, COPY, NAIVE, RIVAL, AGAINST, LAUREL)

__all__ = ["AGAINST", "BASELINE", "KINDS", "Arm", "Kind", "Site", "build", "kind_of", "parse_arm", "parse_arms", "read"]


def kind_of(name: str) -> Kind:
    """The kind that a record names.

    Raises:
        UsageError: there is no such kind.
    """
    if name not in KINDS:
        raise UsageError(f"Arms of kind {name!r} are unknown to this version.", hint=f"Known: {', '.join(KINDS)}.")
    return KINDS[name]


def parse_arm(name: str, **spec_options: Any) -> Arm:
    """Read one arm's name: "naive+1", "rw+lr@16", "rezero".

    Args:
        name: as users type it.
        spec_options: further fields of every `Spec`.

    Raises:
        UsageError: an unknown name.
    """
    wanted = name.strip().lower()
    return next(arm for kind in _ASKED if (arm := kind.parse(wanted, spec_options)) is not None)


def parse_arms(arms: str | Sequence[Arm | Formula | str], **spec_options: Any) -> list[Arm]:
    """Read "baseline,naive+1,rw,rw+lr@16". The baseline comes first, named or not.

    Args:
        arms: names, separated by commas or in a list; arms in it stay as they are, formulas become arms of their name.
        spec_options: further fields of every `Spec`.

    Raises:
        UsageError: an unknown name.
    """
    given: Sequence[Arm | Formula | str] = (
        [part for part in arms.split(",") if part.strip()] if isinstance(arms, str) else arms
    )
    return list(dict.fromkeys(_arm(one, spec_options) for one in ("baseline", *given)))


def _arm(one: Arm | Formula | str, spec_options: Mapping[str, Any]) -> Arm:
    if isinstance(one, Arm):
        return one
    if isinstance(one, str):
        return parse_arm(one, **spec_options)
    return Arm(one.name, LAUREL if isinstance(one, Spec) else RIVAL, spec=one)


def build(arm: Arm, site: Site) -> tuple[str, ...]:
    """Turn the model at a site into `arm`, in place.

    Returns:
        Warnings for the user.

    Raises:
        ModelError: it cannot be built from this model.
    """
    return () if arm.kind.build is None else arm.kind.build(arm, site)


def foreign(arms: Iterable[Arm]) -> dict[str, str]:
    """SHA-256 of the files that arms from outside stand in, by "arm NAME": part of what a measurement depends on."""
    found = {f"arm {arm.family}": source_sha256(arm.spec) for arm in arms if arm.spec is not None}
    return {name: digest for name, digest in found.items() if digest is not None}


def write(arm: Arm) -> dict[str, Any]:
    """What records hold of an arm: its name, its kind, the blocks that it adds, its formula."""
    spec = None if arm.spec is None else formulas.written(arm.spec)
    return {"name": arm.name, "kind": arm.kind.name, "blocks": arm.blocks, "spec": spec}


def read(name: str, plain: Mapping[str, Any], options: Mapping[str, Any]) -> Arm:
    """The arm of a record.

    Args:
        name: as it was recorded.
        plain: what `write` gave, or a part of it: older records tell no kind, or describe a spec and no more.
        options: fields of every spec, where a record does not describe its own.

    Raises:
        UsageError: of a kind or a formula that this version does not know.
    """
    if plain.get("kind"):
        of = kind_of(str(plain["kind"]))
        return of.read(name, plain)
    spec = plain.get("spec")
    if spec is not None:
        return (RIVAL if formulas.KEY in spec else LAUREL).read(name, plain)
    try:
        arm = parse_arm(name, **options)
    except (UsageError, TypeError):
        return Arm(name, AGAINST)
    return arm if arm.spec is None else replace(arm, spec=arm.spec.plain)
