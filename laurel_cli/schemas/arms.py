"""laurel.arms/1: the arms there are, as `laurel arms` prints them."""

from __future__ import annotations

from typing import Literal, TypedDict


class AboutArm(TypedDict):
    """An arm: x the skip, f the branch, D the width; how it starts beside the baseline, what it needs of a model."""

    kind: str
    name: str
    equation: str
    parameters: str
    starts: Literal["exact", "near", "to scale", "no"]
    source: str
    needs: str


class Arms(TypedDict):
    """Every arm."""

    schema: Literal["laurel.arms/1"]
    arms: list[AboutArm]
