"""laurel.evaluate/1: a language model on tasks of lm-evaluation-harness, as `laurel evaluate` prints it."""

from __future__ import annotations

from typing import Literal, TypedDict

from laurel_cli.schemas.marks import Count, Sha256, Share


class Metric(TypedDict):
    """A metric behind a filter of the harness; `stderr` is over the task's samples, null where it gives none."""

    metric: str
    filter: str
    value: float | None
    stderr: Share | None
    higher_is_better: bool | None


class Scored(TypedDict):
    """A task or a group: its version, the examples in each prompt, how many of how many samples, and the harness's hash
    of its documents, prompts and targets. A group has no samples of its own."""

    task: str
    is_group: bool
    version: str | None
    shots: Count | None
    samples: Count | None
    of: Count | None
    hash: Sha256 | None
    metrics: list[Metric]


class Evaluate(TypedDict):
    """`weights_sha256` and `tokenizer_sha256` are of the files that were read; `limit` is null for all samples."""

    schema: Literal["laurel.evaluate/1"]
    command: str
    model: str
    arm: str | None
    parameters: Count
    dtype: str
    device: str
    weights_sha256: Sha256
    tokenizer: str
    tokenizer_sha256: Sha256
    batch: Count
    limit: Count | None
    seeds: dict[str, int]
    versions: dict[str, str | None]
    rows: list[Scored]
    warnings: list[str]
