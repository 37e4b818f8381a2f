"""Formulas in the place of residual additions: LAuReL's own, and those of its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from laurel_cli.arms.base import About, Arm, Kind, Site
from laurel_cli.errors import UsageError
from laurel_cli.laurel import formulas
from laurel_cli.laurel.spec import PARTS, VARIANTS, Spec
from laurel_cli.rivals import BROKEN, RIVALS
from laurel_cli.rivals.static import Static


def _build(arm: Arm, site: Site) -> tuple[str, ...]:
    from laurel_cli.laurel.apply import place  # torch

    assert arm.spec is not None
    return place(site.model, arm.spec, site.residual, site.inputs, seed=site.seed).warnings


def _parse_rival(name: str, options: Mapping[str, Any]) -> Arm | None:
    base = name.partition("@")[0]
    if base in BROKEN:
        raise UsageError(f"Arm {base!r} of an installed package cannot be used.", f"{BROKEN[base]}.")
    if base not in RIVALS:
        return None
    spec = formulas.parse(name, **options)
    return Arm(spec.name, RIVAL, spec=spec)


def _parse_laurel(name: str, options: Mapping[str, Any]) -> Arm | None:
    parts = name.partition("@")[0].split("+")
    if not any(part in (*PARTS, "identity") for part in parts):
        close = get_close_matches(parts[0], (*VARIANTS, *RIVALS, "baseline", "copy", "naive+1"), n=1, cutoff=0.0)
        raise UsageError(
            f"Arm {name!r} is unknown.", "It is no variant of LAuReL, and no rival.", f"Did you mean {close[0]}?"
        )
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
        raise UsageError(f"Arm {name!r} is unknown to this version.", f"{type(error).__name__}: {error}.") from None


def _about(rival: type[Static]) -> About:
    return About(rival.title, rival.equation, rival.in_words(), rival.starts, rival.source, rival.needs)


PAPER = "arXiv 2411.07501, Eq. "
LAUREL = Kind(
    "laurel",
    _parse_laurel,
    _read_laurel,
    about=lambda: (
        About("rw", "x' = a f + b x", "2", "exact", f"{PAPER}5"),
        About("lr@R", "x' = f + x + B A x", "2 R D", "exact", f"{PAPER}3"),
        About("pa", "x' = f + x + sum_j c_j x_(i-j), j < K", "K", "exact", f"{PAPER}4"),
        About("rw+lr@R", "x' = a f + b (x + B A x)", "2 R D + 2", "exact", f"{PAPER}3, 5"),
        About("rw+lr+pa@R", "x' = a f + b (x + sum_j c_j B_j A_j x_(i-j))", "2 R K D + K + 2", "exact", f"{PAPER}6"),
    ),
    build=_build,
    is_placed=True,
)
RIVAL = Kind(
    "rival",
    _parse_rival,
    _read_rival,
    lambda: tuple(map(_about, RIVALS.values())),  # files may bring further ones
    _build,
    optional=True,  # some ask of a model what it may not have
    is_placed=True,
)
