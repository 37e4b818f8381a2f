"""laurel.residual-map/1: what `laurel_cli.residual_map` answers."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.analyze import RefusedJSON
from laurel_cli.schemas.marks import Count


class FoundConnection(TypedDict):
    """A residual connection: width D, shape of its sum, number of its stream, block; the module and line that add.

    `scale` names what multiplies its terms, `norm` where norms stand; both are empty where none is recognised.
    """

    name: str
    kind: Literal["identity", "projection"]
    scale: NotRequired[str]
    norm: NotRequired[str]
    width: Count
    shape: list[Count]
    stream: Count | None
    block: str
    module: str
    file: str
    line: int


class NotRunPart(TypedDict):
    """A module, or a parameter, that the inputs do not reach, and how many numbers it holds."""

    name: str
    parameters: Count


class FoundConnections(TypedDict):
    """All connections in the order of execution, the additions that are none, and the parts that were not run."""

    schema: Literal["laurel.residual-map/1"]
    connections: list[FoundConnection]
    refused: list[RefusedJSON]
    not_run: list[NotRunPart]
