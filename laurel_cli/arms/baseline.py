"""The model as it is, and a copy of it: the same model with random numbers of its own, which shows the noise."""

from __future__ import annotations

from functools import partial

from laurel_cli.arms.base import About, Arm, Kind


def _arm(kind_of: str, name: str, *_: object) -> Arm | None:
    return Arm(name, KINDS[kind_of]) if name == kind_of else None


def _read(kind_of: str, name: str, *_: object) -> Arm:
    return Arm(name, KINDS[kind_of])


def _kind(about: About, *, own_seeds: bool = False) -> Kind:
    name = about.name
    return Kind(
        name, partial(_arm, name), partial(_read, name), lambda: (about,), own_seeds=own_seeds, is_baseline=True
    )


BASELINE = _kind(About("baseline", "x' = x + f", "0", "exact"))
COPY = _kind(About("copy", "x' = x + f, from other random numbers", "0", "exact"), own_seeds=True)
KINDS = {kind.name: kind for kind in (BASELINE, COPY)}
