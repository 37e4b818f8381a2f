"""How an arm grows that does: its stages, from FLOPs that are counted where its trial begins.

The counter is no part of the code that trains. A study with such an arm holds a hash of it beside that code's, so that
all trials of the arm are counted alike.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from laurel_cli.models.inputs import Inputs
    from laurel_cli.proxy.contenders import Contender
    from laurel_cli.proxy.recipe import Recipe
    from laurel_cli.proxy.start import Start


def grown(begun: Start, contender: Contender, recipe: Recipe) -> tuple[Start, Recipe]:
    """The start with the stages that its growth has, and the recipe with their steps; as they were where none grows.

    Args:
        begun: of `contender`; `recipe` its own.

    Raises:
        ModelError, UsageError: it cannot grow, as `laurel_cli.proxy.grow.planned` says.
    """
    if begun.parts is None:
        return begun, recipe
    from laurel_cli.cost.count import count
    from laurel_cli.proxy.grow import planned
    from laurel_cli.proxy.start import examples

    def flops(model: nn.Module, inputs: Inputs = begun.inputs) -> int:
        return count(model, inputs, saved=False).flops

    (example,), beside = examples(begun.inputs), 0
    if (teacher := begun.teacher) is not None:  # its own forward may call its inputs otherwise, and have more of them
        (seen,) = examples(teacher.inputs)
        beside = flops(teacher.model, teacher.inputs) * len(example) // len(seen)
    growth = planned(
        begun.model,
        contender.grow,
        begun.parts,
        begun.inputs,
        flops,
        steps=recipe.steps,
        scale=Fraction(recipe.batch, len(example)),
        beside=beside,
    )
    return replace(begun, growth=growth), replace(recipe, steps=growth.steps)
