"""laurel.count/1 and laurel.modules/1: what `laurel_cli.count` and its `by_module` answer."""

from __future__ import annotations

from typing import Literal, TypedDict

from laurel_cli.schemas.analyze import Uncounted
from laurel_cli.schemas.marks import Count


class CountedModule(TypedDict):
    """A module with all that is in it: its path ("" for the model), class, elements of its parameters, FLOPs."""

    name: str
    kind: str
    parameters: Count
    flops: Count
    elementwise_flops: Count


class CountedModules(TypedDict):
    """Every module, the model itself first."""

    schema: Literal["laurel.modules/1"]
    modules: list[CountedModule]


class CountedModel(TypedDict):
    """One forward pass. A multiply-add is 1 MAC and 2 FLOPs; `flops` are those of products, a lower bound where
    `uncounted` names operators. `saved_activation_bytes`: kept for the backward pass; `coverage`: share of 1."""

    schema: Literal["laurel.count/1"]
    parameters: Count
    trainable_parameters: Count
    flops: Count
    macs: Count
    elementwise_flops: Count
    reduction_flops: Count
    bytes_moved: Count
    kernels: Count
    saved_activation_bytes: Count | None
    uncounted: list[Uncounted]
    coverage: float
    by_operator: dict[str, Count]
    notes: list[str]
    modules: list[CountedModule]
