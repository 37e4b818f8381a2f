"""A file that describes an experiment, as `laurel reproduce` reads it; commands' options are typed elsewhere."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from laurel_cli.schemas.common import Metric
from laurel_cli.schemas.marks import Count, Needed, Positive


class PrintedTOML(TypedDict):
    """What a paper prints of an arm: a count of parameters or percent that it adds, a loss in nats or an accuracy as a
    share of 1, seconds a step, memory in a unit of its own."""

    parameters: NotRequired[Positive]
    added_percent: NotRequired[Positive]
    quality: NotRequired[float]
    step: NotRequired[Positive]
    memory: NotRequired[Positive]


class UnwrittenTOML(TypedDict):
    """Parameters that it seems to count and does not mention: `each` so many, in an arm a number of times."""

    each: Needed[Count]
    arms: Needed[dict[str, Count]]
    why: Needed[str]


class PaperTOML(TypedDict):
    """What a paper prints, by arm."""

    quality: NotRequired[Metric]
    arms: NotRequired[dict[str, PrintedTOML]]
    unwritten: NotRequired[UnwrittenTOML]


Options = dict[str, Any]
ScaleTOML = TypedDict(
    "ScaleTOML",
    {
        "note": NotRequired[str],
        "data": NotRequired[str],
        "papers-model": NotRequired[bool],
        "beside": NotRequired[dict[str, str]],
        "cluster": NotRequired[Options],
        "analyze": NotRequired[Options],
        "profile": NotRequired[Options],
        "train-proxy": NotRequired[Options],
    },
)


class ExperimentTOML(TypedDict):
    """An experiment at each of its scales."""

    title: NotRequired[str]
    source: NotRequired[str]
    notes: NotRequired[list[str]]
    paper: NotRequired[PaperTOML]
    scales: Needed[dict[str, ScaleTOML]]
