"""Doubts are raised where they were planted, and nowhere else."""

from __future__ import annotations

import random

from laurel_cli.latency.stability import doubts


def series(spread: float = 0.01, drift: float = 0.0, spikes: int = 0) -> list[float]:
    draw = random.Random(0)
    samples = [(1 + drift * i / 60) * (1 + draw.gauss(0, spread)) for i in range(60)]
    for i in range(spikes):
        samples[10 * i] *= 1.8
    return samples


def test_quiet() -> None:
    assert doubts({"baseline": [series(), series()], "rw": [series()]}) == []


def test_each_is_seen_at_its_arm() -> None:
    said = doubts({"baseline": [series()], "rw": [series(), series(drift=0.1)], "pa": [series(spikes=4)]})
    assert [
        (text.partition(":")[0], word) for text in said for word in ("unstable", "outliers", "drifts") if word in text
    ]
    assert any(text.startswith("rw:") and "drifts" in text for text in said)
    assert any(text.startswith("pa:") and "outliers" in text for text in said)
    assert not any("baseline" in text for text in said)


def test_unstable() -> None:
    assert any("unstable" in text for text in doubts({"rw": [series(spread=0.2)]}))
