"""laurel.models/1: models by name, as `laurel models` prints them."""

from __future__ import annotations

from typing import Literal, TypedDict


class ModelNameJSON(TypedDict):
    """A reference, and the package that has the model."""

    reference: str
    source: str


class Models(TypedDict):
    """The models that match a pattern; null for all."""

    schema: Literal["laurel.models/1"]
    pattern: str | None
    models: list[ModelNameJSON]
