"""laurel.profile/1: what `laurel profile` prints, and its record, which holds every sample."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from laurel_cli.schemas.common import IntervalJSON, Level, Options, SpecOptions, Versions
from laurel_cli.schemas.marks import Count, Name, Needed, Positive, Unread


class ProfiledModel(TypedDict):
    """The model, and examples a call (`batch`)."""

    reference: str
    source: str
    architecture: NotRequired[str]  # older documents have none
    input: str
    batch: Count


class FactsJSON(TypedDict):
    """What a process found of its device: the model of its `cpu` or `gpu`, load as the system gives it, clocks in MHz,
    memory in bytes, heat in degrees Celsius, power in watts."""

    cpu: NotRequired[str]
    threads: NotRequired[int | None]
    cores: NotRequired[int | None]
    load: NotRequired[float | None]
    megahertz: NotRequired[float | list[float]]
    memory_megahertz: NotRequired[float]
    celsius: NotRequired[float]
    watts: NotRequired[float]
    gpu: NotRequired[str]
    bytes: NotRequired[Count]
    accelerator: NotRequired[str]
    tested_on_hardware: NotRequired[bool]
    runtime: NotRequired[str]
    devices: NotRequired[Count]


class ProfiledDevice(FactsJSON):
    """Where it ran, and what the first process found of it."""

    name: str


class RatioJSON(IntervalJSON):
    """The ratio of an arm's time to another one's; `p_holm` is corrected after Holm over the arms that are judged."""

    verdict: str
    p: NotRequired[float | None]
    p_holm: NotRequired[float | None]


class ArmTiming(TypedDict):
    """How long one call of an arm takes, and how much memory.

    `ratio` is to the baseline. `throughput` counts the profile's unit a second. `page_faults` are those of one call,
    `system_share` the kernel's seconds of the processors, of one second of its time: above 1 where several threads are
    there at once. `peak_bytes` were measured, `static_bytes` are weights and gradients, `predicted_bytes` follow from
    the operators.
    """

    name: Needed[Name]
    ratio: RatioJSON | None
    milliseconds: IntervalJSON
    throughput: float
    first_call_seconds: float
    page_faults: NotRequired[float | None]
    system_share: NotRequired[float | None]
    peak_bytes: float | None
    static_bytes: float | None
    predicted_bytes: float | None


class ProfiledArm(ArmTiming):
    """An arm as it is trained and tried; `to_naive` is its ratio to `naive+1`."""

    to_naive: NotRequired[RatioJSON | None]


class FoldedArm(ArmTiming):
    """An arm as it would be deployed; `ratio` is to the folded baseline, never to one that is not folded.

    `merged` of its `norms` batch norms are part of convolutions; `sums` counts what its learned sums are now. Its
    outputs are `difference` from those of the arm before, over the largest value, where rounding explains `allowed`.
    """

    norms: Count
    merged: Count
    sums: dict[str, Count]
    difference: float
    allowed: float


class FoldedJSON(TypedDict):
    """The arms as they would be deployed: what they are compared with, which are judged together."""

    baseline: Name
    family: list[str]
    arms: Needed[list[FoldedArm]]


class Protocol(TypedDict):
    """How it was measured: fresh processes, placements of the arms in memory, rounds of calls.

    `precision` is the width of the ratio's interval that was asked for, `max_time` in seconds; `families` names the
    arms that are judged together.
    """

    processes: Count
    placements: Count
    rounds: Count
    first_look: NotRequired[Count | None]
    processes_needed: NotRequired[Count | None]
    precision: float
    max_time: NotRequired[float]
    confidence: Level
    alpha: NotRequired[float]
    correction: NotRequired[str]
    families: NotRequired[dict[str, list[str]]]
    seed: int


class Allocator(TypedDict):
    """The memory allocator: its setting ("own": the user's), the variables that set it, the C library, what was loaded
    in its place."""

    name: str
    variables: dict[str, str]
    libc: str
    preloaded: list[str]


class UsageJSON(TypedDict):
    """What an arm's calls asked of the system: how many, seconds, page faults, seconds in the kernel."""

    calls: Count
    seconds: float
    page_faults: Count
    system_seconds: float


class Sample(TypedDict):
    """Seconds of every call by arm, in one placement of one process."""

    process: int
    placement: int
    seconds: dict[str, list[Positive]]


class ProfileJSON(TypedDict):
    """Every arm of a model, timed. What begins with `samples` stands in records alone."""

    schema: Literal["laurel.profile/1"]
    command: str
    status: Literal["complete", "partial"]
    model: Needed[ProfiledModel]
    device: Needed[ProfiledDevice]
    allocator: NotRequired[Unread[Allocator]]
    mode: Needed[Literal["infer", "train", "prefill", "decode"]]
    dtype: Needed[str]
    compile: bool
    channels_last: bool
    protocol: Unread[Protocol]
    unit: str
    noise_floor: RatioJSON | None
    arms: Needed[list[ProfiledArm]]
    folded: NotRequired[FoldedJSON]
    warnings: list[str]
    notes: list[str]
    samples: NotRequired[list[Sample]]
    orders: NotRequired[Unread[list[list[str]]]]
    builds: NotRequired[Unread[list[list[str]]]]
    first_calls: NotRequired[Unread[dict[str, list[float]]]]
    usage: NotRequired[Unread[list[dict[str, UsageJSON]]]]
    facts: NotRequired[Unread[list[FactsJSON]]]
    options: NotRequired[Unread[Options]]
    spec_options: NotRequired[SpecOptions]
    versions: NotRequired[Versions]
