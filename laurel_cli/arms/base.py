"""An arm, one way to build the model, and what its kind says of it: data and functions, no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laurel_cli.laurel.formula import Formula

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.models.inputs import Inputs
    from laurel_cli.residual.find import ResidualMap

LORA = re.compile(r"lora@([1-9]\d{0,5})")
"""How LoRA stands in an arm's name, after `:train=`."""
STEP = re.compile(r":(?:train|grow)=[^:]+")
"""Settings in the name of an arm of which a training step is another: part of its weights, or of its blocks, alone."""


@dataclass(frozen=True)
class Site:
    """Where an arm is built.

    Attributes:
        model: a copy of the baseline, on any device; it is changed in place.
        residual: its map; `inputs` what it runs on.
        seed: of what the arm adds.
        fresh: builds the baseline again from other random numbers: what repeats its blocks starts as they do.
    """

    model: nn.Module
    residual: ResidualMap
    inputs: Inputs
    seed: int = 0
    fresh: Callable[[], nn.Module] | None = None


@dataclass(frozen=True)
class About:
    """An arm, or arms of one name but for a number, for people to read.

    Attributes:
        name: as it is typed.
        equation: x the skip, f the branch, D the width.
        parameters: what it adds at a connection, in words.
        starts: as the baseline: "exact", "near", "to scale" or "no".
        source: where it was published.
        needs: of the model; "" for nothing.
    """

    name: str
    equation: str
    parameters: str
    starts: str
    source: str = ""
    needs: str = ""


@dataclass(frozen=True)
class Kind:
    """What all arms of one kind have in common. One file each; nobody else asks which kind an arm is of.

    Attributes:
        name: in records.
        parse: reads an arm's name, with the fields of every spec; None for a name that is no arm of this kind.
        read: the arm of (name, plain form) as records hold it.
        about: its arms, for people to read.
        build: turns the model at a site into the arm: warnings for the user. None where there is nothing to do.
        optional: a model that cannot have it does without, with a warning.
        own_seeds: it starts from random numbers of its own.
        is_baseline: it is the baseline's model: the baseline itself, or a copy.
        is_scaling: it buys quality with more of the same: what other arms are measured against.
        is_placed: it stands at residual connections: what a recommendation may name.
    """

    name: str
    parse: Callable[[str, Mapping[str, Any]], Arm | None]
    read: Callable[[str, Mapping[str, Any]], Arm]
    about: Callable[[], tuple[About, ...]]
    build: Callable[[Arm, Site], tuple[str, ...]] | None = None
    optional: bool = False
    own_seeds: bool = False
    is_baseline: bool = False
    is_scaling: bool = False
    is_placed: bool = False


@dataclass(frozen=True)
class Arm:
    """One way to build the model.

    Attributes:
        name: "baseline", "copy", "naive+1", "rw+lr@16", "rezero".
        kind: what it is.
        blocks: that naive scaling adds.
        spec: the formula that stands at its residual connections.
    """

    name: str
    kind: Kind
    blocks: int = 0
    spec: Formula | None = None

    @property
    def form(self) -> tuple[Any, ...]:
        """What its cost depends on: of an arm's settings on LoRA, whose parameters and products come on top."""
        own = (self.kind.name, self.blocks or self.name) if self.spec is None else self.spec.form
        lora = LORA.search(self.name)
        return own if lora is None else (*own, lora[0])

    @property
    def step_form(self) -> tuple[Any, ...]:
        """What the time and memory of its training steps depend on: also on what is trained of it, and on growth."""
        return (*self.form, *STEP.findall(self.name))

    @property
    def starts(self) -> str:
        """As the baseline, but for other settings: "exact", "near", "to scale" or "no"."""
        if self.spec is not None:
            return self.spec.starts
        return "no" if self.kind.is_scaling else "exact"

    @property
    def family(self) -> str:
        """Its shape and colour in a figure: the formula's variant, or the kind."""
        return self.kind.name if self.spec is None else self.spec.family
