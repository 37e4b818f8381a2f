"""Arms of a study: what is built, how its recipe differs from that of the others, names as they are typed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from laurel_cli.arms import AGAINST, Arm, Kind, parse_arm
from laurel_cli.arms.base import LORA
from laurel_cli.errors import UsageError
from laurel_cli.proxy.recipe import Recipe

FACTORS = ("width", "lr", "steps")  # in the order in which they stand in an arm's name, before `CHOICES`
STARTS = ("zero", "one")
GROWTHS = ("stack", "subnets")
CHOICES = {"init": STARTS, "train": ("added",), "grow": GROWTHS}
_FACTOR = re.compile(r"(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?")


@dataclass(frozen=True)
class Contender:
    """An arm of a study: what is built, and how its recipe differs from that of the others.

    Attributes:
        name: "rw+lr@16", "baseline:lr=0.5", "baseline:init=zero", "against:wide.py:build".
        arm: what is built.
        lr: factor on the learning rate.
        width: factor on the model's width.
        reference: another model in the baseline's place, else "".
        steps: factor on the number of updates; the rate falls to zero at the arm's own end.
        init: how the last affine map of every branch starts, "zero" or "one"; "" as the model has it.
        train: "added" where only what the arm adds is trained, and the model's own weights stay; "lora@RANK" where LoRA
            is trained beside it, see `laurel_cli.proxy.lora`; "" for all.
        grow: "stack" or "subnets", see `laurel_cli.proxy.grow`: early steps run a part of the blocks, and there are as
            many more of them as the FLOPs of the arm's own steps pay for; "" for the whole model in every step.
    """

    name: str
    arm: Arm
    lr: float = 1.0
    width: float = 1.0
    reference: str = ""
    steps: float = 1.0
    init: str = ""
    train: str = ""
    grow: str = ""

    @property
    def kind(self) -> Kind:
        """The arm's own kind; "against" for a baseline with settings, and for whatever is wider."""
        typed = self.name != self.arm.name  # not by the rate, which a search may have found
        other = self.width != 1 or (typed and self.arm.kind.is_baseline)
        return AGAINST if other else self.arm.kind

    @property
    def lora(self) -> int | None:
        """The rank of LoRA; None where all weights are trained, or the arm's own alone."""
        found = LORA.fullmatch(self.train)
        return int(found[1]) if found else None

    @property
    def recorded(self) -> Arm:
        """The arm as records have it."""
        return replace(self.arm, name=self.name) if self.kind is self.arm.kind else Arm(self.name, self.kind)

    def recipe(self, shared: Recipe) -> Recipe:
        """The recipe of this arm; one that grows has more steps than it, which are known where its model is built.

        Raises:
            UsageError: a width is multiplied that is not named, too few steps are left, trained weights are to be
                those of a model of another width, of another model, of another start or of one that grows, a model that
                is compiled or trained by several processes is to grow, or LoRA is to be trained by muP's rates, in
                parts or by Muon.
        """
        model = shared.model
        if self.grow and (shared.compile or shared.world > 1):
            raise UsageError(
                f"Arm {self.name!r} cannot be compiled, nor trained by several processes.",
                "Which of its blocks run is another choice from step to step.",
                "Leave the arm out, or `compile` and `world`.",
            )
        if self.lora and (model.mup_base is not None or shared.parallel != "ddp" or shared.optimizer == "muon"):
            raise UsageError(
                f"Arm {self.name!r} needs rates of the model's own, and maps that are whole.",
                "LoRA is not trained by muP's rates, in parts of parameters or by Muon: no test says what it would do.",
                "Leave the arm out, or `ladder_lr='mup'`, `parallel='fsdp'` and `optimizer='muon'`.",
            )
        if model.weights and (self.reference or self.width != 1 or self.init or self.grow):
            raise UsageError(
                f"Arm {self.name!r} cannot start from {model.weights!r}.",
                "These are the weights of the baseline as it is.",
                "Leave the arm out, or `weights`.",
            )
        if self.reference:
            model = replace(model, reference=self.reference, args=(), layers=(), width=None, stem=None)
        if self.width != 1:
            if model.width is None:
                raise UsageError(f"Arm {self.name!r} needs `width`.", "It multiplies it.", "Name the baseline's width.")
            model = replace(model, width=round(model.width * self.width), unwidened=model.width)
        steps = round(shared.steps * self.steps)
        if steps < 1:
            raise UsageError(
                f"Arm {self.name!r} has no step to train for.", hint="Name a larger factor or more `steps`."
            )
        return replace(shared, model=model, lr=shared.lr * self.lr, steps=steps)


def parse_contenders(text: str, against: tuple[str, ...] = (), **spec: Any) -> list[Contender]:
    """Read "baseline,naive+1,rw+lr@16,baseline:lr=0.5"; the baseline comes first, named or not.

    Args:
        text: arms, separated by commas. Settings after a name change that arm alone: ":width=FACTOR", ":lr=FACTOR",
            ":steps=FACTOR", ":init=zero", ":init=one", ":train=added", ":train=lora@RANK", ":grow=stack" or
            ":grow=subnets". An arm has one name, however its settings are typed.
        against: references of other models.
        spec: fields of every `Spec`.

    Raises:
        UsageError: an unknown name or setting.
    """
    found: dict[str, Contender] = {}
    for part in ["baseline", *text.split(",")]:
        base, *settings = part.strip().lower().split(":")
        if not base:
            continue
        factors, words = _settings(part.strip(), base, settings)
        arm = parse_arm(base, **spec)
        said = [f"{key}={factors[key]:g}" for key in FACTORS if key in factors]
        name = ":".join([arm.name, *said, *(f"{key}={words[key]}" for key in CHOICES if key in words)])
        if "train" in words and (arm.kind.is_scaling or (arm.kind.is_baseline and words["train"] == "added")):
            raise UsageError(f"Arm {name!r} adds nothing that could be trained alone.", hint="Try rw:train=added.")
        if "grow" in words:
            _check_growth(name, arm, words)
        lr, width, steps = (factors.get(key, 1.0) for key in ("lr", "width", "steps"))
        found.setdefault(name, Contender(name, arm, lr, width, steps=steps, **words))
    for reference in against:
        name = f"against:{PurePath(reference).name}"  # where it lies is no part of its name
        if name in found:
            raise UsageError(f"Two arms are called {name!r}.", hint="Name each of `against` once, or rename a factory.")
        found[name] = Contender(name, Arm(name, AGAINST), reference=reference)
    return list(found.values())


def _check_growth(name: str, arm: Arm, words: Mapping[str, str]) -> None:
    """Whether blocks can be left out of an arm.

    Raises:
        UsageError: it reads what blocks before gave, or trains nothing of its blocks.
    """
    if arm.spec is not None and arm.spec.reads_history:
        raise UsageError(
            f"Arm {name!r} cannot grow.",
            "It reads what earlier blocks were given, and which these are changes as the model grows.",
            "Try rw:grow=stack or rw+lr:grow=stack.",
        )
    if "train" in words:
        what = f"Arm {name!r} contradicts itself."
        raise UsageError(
            what, "Growth trains the model's own blocks.", f"Leave `:train={words['train']}` or `:grow` out."
        )


def _settings(arm: str, base: str, settings: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """(factors, words) of an arm by name, its factors as its name gives them."""
    factors: dict[str, float] = {}
    words: dict[str, str] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if value in CHOICES.get(key, ()) or (key == "train" and LORA.fullmatch(value)):
            words[key] = value
        elif key in FACTORS and _FACTOR.fullmatch(value) and 0 < float(f"{float(value):g}") < math.inf:
            factors[key] = float(f"{float(value):g}")  # the name is all that a study on disk has of it
        else:
            raise UsageError(
                f"Arm {arm!r} cannot be read.",
                f"{setting!r} is none of lr=FACTOR, width=FACTOR, steps=FACTOR, init=zero, init=one, train=added, "
                "train=lora@RANK, grow=stack and grow=subnets.",
                f"Try {base}:lr=0.5.",
            )
    return factors, words
