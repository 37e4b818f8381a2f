"""laurel.convert/1: a trained model that was given a formula, as `laurel convert` prints it."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.marks import Count


class Convert(TypedDict):
    """What was written to `folder`. `difference` is the largest of an output over its largest value, on the example
    inputs and in `dtype`, null where the model returns no finite number for them; `added` counts the parameters of the
    learned sums; `architecture` is the class of a model that an Auto class of transformers opens."""

    schema: Literal["laurel.convert/1"]
    command: str
    model: str
    arm: str
    weights: str
    folder: str
    connections: Count
    parameters: Count
    added: Count
    dtype: str
    difference: float | None
    architecture: NotRequired[str | None]
    warnings: list[str]
