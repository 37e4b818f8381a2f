"""Formulas in the place of residual additions: LAuReL's own, and those of its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laurel_cli.arms.base import Arm, Kind, Site
from laurel_cli.errors import UsageError
from laurel_cli.laurel import formulas
from laurel_cli.laurel.spec import Spec
from laurel_cli.rivals import RIVALS


def _build(arm: Arm, site: Site) -> tuple[str, ...]:
    from laurel_cli.laurel.apply import place  # torch

    assert arm.spec is not None
    return place(site.model, arm.spec, site.residual, site.inputs, seed=site.seed).warnings


def _parse_rival(name: str, options: Mapping[str, Any]) -> Arm | None:
    if name.partition("@")[0] not in RIVALS:
        return None
    spec = formulas.parse(name, **options)
    return Arm(spec.name, RIVAL, spec=spec)


def _parse_laurel(name: str, options: Mapping[str, Any]) -> Arm | None:
    spec = Spec.parse(name, **options)
    return Arm(spec.name, LAUREL, spec=spec)


def _read_laurel(name: str, plain: Mapping[str, Any]) -> Arm:
    return Arm(name, LAUREL, spec=_of_fields(plain["spec"]).plain)


def _of_fields(fields: Mapping[str, Any]) -> Spec:
    """The spec of a record: its fields as `Spec` has them, or as `laurel analyze` names them."""
    names = ("history", "normalize", "vector_weights", "init", "per", "rank", "lags")
    known = {key: fields[key] for key in names if key in fields}
    variant = fields.get("variant") or "+".join(part for part in ("rw", "lr", "pa") if fields.get(part)) or "identity"
    if known.get("lags") == "all":
        known["lags"] = None
    elif known.get("lags", 0) is None and "variant" in fields:  # no PA; of a `Spec` None means all
        del known["lags"]
    if known.get("history") == "none":
        del known["history"]
    return Spec.parse(variant, **{key: value for key, value in known.items() if value is not None or key == "lags"})


def _read_rival(name: str, plain: Mapping[str, Any]) -> Arm:
    try:
        return Arm(name, RIVAL, spec=formulas.read(plain["spec"]))
    except (KeyError, TypeError) as error:
        raise UsageError(f"Arm {name!r} is unknown to this version.", f"{type(error).__name__}: {error}") from None


RIVAL = Kind("rival", _parse_rival, _read_rival, _build, is_placed=True)
LAUREL = Kind("laurel", _parse_laurel, _read_laurel, _build, is_placed=True)
