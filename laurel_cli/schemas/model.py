"""laurel.model/1: `laurel.json` in a saved model's folder, which says where LAuReL stands in it."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import LaurelSpec, RivalSpec
from laurel_cli.schemas.marks import Count, Needed

Formula = LaurelSpec | RivalSpec


class SpotJSON(TypedDict):
    """An expression of a function: its qualified name, a digest of its definition, and line, end line, column and end
    column, lines from the function's first."""

    function: str
    text: str
    position: tuple[int, int, int, int]


class MemberJSON(TypedDict):
    """A layer: its formula (null for a partial sum), width D, shape, history; `calls` its (history, position) in a
    pass, `carry` the sum it belongs to with others, -1 for none."""

    number: int
    spec: Formula | None
    width: Count
    shape: list[int]
    channel_dim: int
    skip: int
    lags: int
    scores: bool
    dtype: str
    calls: list[tuple[int, int] | None]
    carry: int
    first: bool
    order: int


class SlotJSON(TypedDict):
    """An expression of the module at `owner`, the layers that take it, and which takes which turn."""

    owner: str
    path: list[SpotJSON]
    members: list[MemberJSON]
    run: list[int]
    rest: int
    others: list[tuple[list[SpotJSON], bool]]


class CourseJSON(TypedDict):
    """A history: the module whose method runs a stream, the stream's connections, its lags (null for all)."""

    home: str
    method: SpotJSON | None
    length: Count
    lags: int | None


class LayoutJSON(TypedDict):
    """All that changes in a part of the model; `checkpoints` are calls of checkpoints that are made non-reentrant."""

    spec: Formula
    slots: list[SlotJSON]
    courses: list[CourseJSON]
    checkpoints: list[tuple[str, list[SpotJSON]]]


class BuiltJSON(TypedDict):
    """What builds the model: a reference, and options of `laurel_cli.load`; `stem` is the total stride of the stem that
    a ResNet was given for small images."""

    reference: Needed[str]
    options: Needed[dict[str, Any]]
    stem: NotRequired[Count]


class ModelJSON(TypedDict):
    """Where LAuReL stands, by the path of the part ("" for the whole model), and the torch that wrote it."""

    schema: Literal["laurel.model/1"]
    torch: str
    layouts: dict[str, LayoutJSON]
    built: NotRequired[BuiltJSON]
