"""laurel.deploy/1: a model whose LAuReL was folded into its weights, as `laurel convert --fold` prints it."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.marks import Count


class Deploy(TypedDict):
    """What was written to `file`. Of `connections` that were learned, `folded` have a factor in the weights now and
    `plain` are the ordinary sum again; `sums` says what is added now, and at how many; `norms` batch norms are part of
    a convolution now. `left` stayed as they were, with reasons. `difference` is the largest of an output over its
    largest value, on the example inputs and in `dtype`; `batch` is how many samples the file takes, 0 for any."""

    schema: Literal["laurel.deploy/1"]
    command: str
    model: str
    arm: str
    file: str
    connections: Count
    folded: Count
    plain: Count
    sums: NotRequired[dict[str, Count]]
    norms: NotRequired[Count]
    left: list[str]
    dtype: str
    difference: float
    batch: Count
    warnings: list[str]
