"""Arms that an experiment names: what it sets beside the paper's figures must be arms that it has. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from laurel_cli.errors import UsageError
from laurel_cli.settings.base import Settings, flag, options
from laurel_cli.settings.shared import ArmFileSettings, ArmSettings, FormulaSettings, VariantSettings, arm_names
from laurel_cli.text import shortened

if TYPE_CHECKING:
    from laurel_cli.experiments import Experiment, Scale

S = TypeVar("S", bound=Settings)


def check_arms(experiment: Experiment) -> None:
    """Whether every arm of `paper` and `beside` is one.

    Raises:
        UsageError: a name is no arm of any scale, or stands beside one that the paper does not print.
    """
    printed, extra = experiment.printed, experiment.unwritten
    if not printed and extra is None and not any(scale.beside for scale in experiment.scales.values()):
        return
    met: set[str] = set()
    for scale in experiment.scales.values():
        where = f"{experiment.name} {scale.name} beside"
        arms = _arms(scale)
        _check([name for name in scale.beside if not name.startswith("baseline:")], arms, where)
        _check(scale.beside.values(), printed.keys(), where, "no arm of [paper]")
        met |= arms | set(scale.beside.values())
    _check(printed, met, f"{experiment.name} paper", "no arm of any scale, nor beside one")
    _check(extra.arms if extra is not None else (), printed.keys(), f"{experiment.name} paper unwritten")


def made(of: type[S], found: Mapping[str, Any]) -> S:
    """Settings of a class from what was typed, by field; what is no field of it is let be."""
    known = options(of)
    read = {name: (known[name].read, flag(name, known[name]), value) for name, value in found.items() if name in known}
    return of(**{name: value if how is None else how(option, value) for name, (how, option, value) in read.items()})


def _check(names: Iterable[str], known: Collection[str], where: str, what: str = "none of its arms") -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"It has {', '.join(sorted(known))}."
            raise UsageError(f"{where}: {shortened(repr(name))} is {what}.", hint=hint)


def _arms(scale: Scale) -> set[str]:
    """Names of the arms of all its commands, but for controls that a study chooses itself."""
    found = {"baseline", "copy"}
    for command, asked in [*scale.steps.items(), ("train-proxy", scale.cluster)]:
        if asked is not None:
            made(ArmFileSettings, asked).bring()
            found |= _trained(asked) if command == "train-proxy" else _counted(asked)
            found |= {f"against:{PurePath(reference).name}" for reference in asked.get("against") or ()}
    return found


def _counted(asked: Mapping[str, Any]) -> set[str]:
    from laurel_cli.arms import parse_arms

    spec = made(FormulaSettings, asked).of_spec
    names, spec = arm_names(made(ArmSettings, asked), made(VariantSettings, asked), spec)
    return {arm.name for arm in parse_arms(names, **spec)}


def _trained(asked: Mapping[str, Any]) -> set[str]:
    from laurel_cli.proxy import defaults
    from laurel_cli.proxy.contenders import parse_contenders

    spec = made(FormulaSettings, asked).of_spec | {"rank": asked.get("rank", defaults.RANK)}
    return {one.name for one in parse_contenders(asked.get("arms") or defaults.ARMS, **spec)}
