"""What a profile says of an arm, as an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ArmTime:
    """How fast and how large one arm is. None for what is not known: of the baseline every ratio to itself.

    Attributes:
        name: of the arm.
        latency_ratio: time of a call over the baseline's (in mode "train" of a step), the median; `latency_ratio_low`
            and `latency_ratio_high` the ends of its interval, which holds at the level `confidence`.
        verdict: "faster", "slower" or "not separated"; `p` uncorrected, `p_holm` by Holm's method over the arms.
        to_naive, to_naive_low, to_naive_high, to_naive_verdict: the same against naive+1, a family of its own.
        milliseconds, milliseconds_low, milliseconds_high: of a call.
        throughput: samples or tokens a second.
        peak_bytes: most memory at one time; `static_bytes` of it what lives as long as the model.
        predicted_bytes: the peak of a training step by counting.
        first_call_seconds: with compilation, where there is one.
    """

    name: str
    latency_ratio: float | None
    latency_ratio_low: float | None
    latency_ratio_high: float | None
    confidence: float | None
    verdict: str | None
    p: float | None
    p_holm: float | None
    to_naive: float | None
    to_naive_low: float | None
    to_naive_high: float | None
    to_naive_verdict: str | None
    milliseconds: float
    milliseconds_low: float | None
    milliseconds_high: float | None
    throughput: float
    peak_bytes: int | None
    static_bytes: int | None
    predicted_bytes: int | None
    first_call_seconds: float


def arm_time(arm: Mapping[str, Any]) -> ArmTime:
    """Of an arm in the document of a profile."""
    ratio, naive = arm["ratio"] or {}, arm["to_naive"] or {}
    same: dict[str, Any] = {key: ratio.get(key) for key in ("confidence", "verdict", "p", "p_holm")}
    same |= {key: arm[key] for key in ("throughput", "peak_bytes", "static_bytes", "predicted_bytes")}
    return ArmTime(
        name=arm["name"],
        latency_ratio=ratio.get("median"),
        latency_ratio_low=ratio.get("low"),
        latency_ratio_high=ratio.get("high"),
        to_naive=naive.get("median"),
        to_naive_low=naive.get("low"),
        to_naive_high=naive.get("high"),
        to_naive_verdict=naive.get("verdict"),
        milliseconds=arm["milliseconds"]["median"],
        milliseconds_low=arm["milliseconds"]["low"],
        milliseconds_high=arm["milliseconds"]["high"],
        **same,
        first_call_seconds=arm["first_call_seconds"],
    )
