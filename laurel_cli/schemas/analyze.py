"""laurel.analyze/1: what `laurel analyze` prints, and what --save keeps of it."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import DescribedSpec, LaurelSpec, Options, RivalSpec, SpecOptions, Versions
from laurel_cli.schemas.marks import Count, Name, Needed, Sha256, Unread


class AnalyzedModel(TypedDict):
    """The model; `architecture` is a hash of its structure, `input` what one call takes. Parameters are counted."""

    reference: str
    source: str
    architecture: str
    parameters: Count
    trainable_parameters: Count
    input: str
    blocks: Count
    notes: list[str]


class ConnectionJSON(TypedDict):
    """A residual connection: its width D, the shape of its sum, the number of its stream, the block it stands in."""

    name: Needed[str]
    kind: str
    width: int
    shape: list[int]
    stream: int | None
    block: str | None


class RefusedJSON(TypedDict):
    """An addition that is no residual connection, or cannot be replaced, and why."""

    name: str
    reason: str


class Uncounted(TypedDict):
    """An operator that no rule counts, and how often it was called: FLOPs are then a lower bound."""

    operator: str
    calls: Count


class Differing(TypedDict):
    """MACs of an operator by our count and by theirs."""

    operator: str
    macs: int | None
    theirs: int | None


class CounterCheck(TypedDict):
    """What another counter says of the same arm, in MACs and parameters; null where it was not run."""

    counter: str
    macs: int | None
    parameters: int | None
    agrees: bool
    incomplete: NotRequired[bool]  # older documents have none
    differences: list[Differing]
    note: str


class Printed(TypedDict):
    """The parameters added that the paper prints, in percent of the baseline's, and what to know of that figure."""

    added_percent: Needed[float]
    remark: Needed[str]


class AnalyzedArm(TypedDict):
    """What one arm costs in all and beyond the baseline, for a batch of the inputs; null for an arm that is left out.

    A multiply-add is 1 MAC and 2 FLOPs; `flops` are those of products. Elementwise work, `bytes_moved` (read, written
    by all operators without fusion) and `kernels` (operators that run) are those of the plain formula, which a compiler
    sees; `saved_activation_bytes` are kept for the backward pass in eager mode on a CPU; `history_bytes` are of earlier
    inputs, most at one time, without low-rank products beside them. `fewer_than_naive`: how many times fewer parameters
    than naive scaling adds. `coverage`: share of the operators' calls, views aside, that some rule counts, of 1.
    """

    name: Needed[Name]
    spec: DescribedSpec | LaurelSpec | RivalSpec | None
    parameters: Count | None
    added_parameters: int | None
    added_parameters_percent: float | None
    fewer_than_naive: NotRequired[float | None]
    macs: Count | None
    flops: Count | None
    added_macs: NotRequired[int | None]
    added_flops: int | None
    elementwise_flops: NotRequired[Count]
    added_elementwise_flops: int | None
    reduction_flops: NotRequired[Count]
    bytes_moved: Count | None
    kernels: NotRequired[Count]
    saved_activation_bytes: Count | None
    history_bytes: Count | None
    uncounted: NotRequired[list[Uncounted]]
    coverage: NotRequired[float]
    checks: Unread[list[CounterCheck]]
    paper: NotRequired[Printed | None]
    note: str


class Place(TypedDict):
    """How many parameters an arm has at a connection."""

    connection: Needed[str]
    parameters: Needed[int]


class AnalyzeHashes(TypedDict):
    """Of the model's structure and of laurel's sources."""

    model: str
    code: Sha256


class Analyze(TypedDict):
    """Every arm of a model, counted. What begins with `where` stands in records alone."""

    schema: Literal["laurel.analyze/1"]
    command: str
    model: Needed[AnalyzedModel]
    connections: list[ConnectionJSON]
    refused: Unread[list[RefusedJSON]]
    arms: Needed[list[AnalyzedArm]]
    warnings: list[str]
    where: NotRequired[dict[str, list[Place]]]
    options: NotRequired[Unread[Options]]
    spec_options: NotRequired[SpecOptions]
    versions: NotRequired[Versions]
    hashes: NotRequired[AnalyzeHashes]
