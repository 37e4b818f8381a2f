"""The interval holds the true ratio as often as it says: simulated placements, drift, outliers, odd processes."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from laurel_cli.latency.estimate import Interval, Ratio, centre, milliseconds, ratio

RUNS = 2000


def simulated(
    rng: np.random.Generator,
    *,
    processes: int = 3,
    placements: int = 4,
    rounds: int = 15,
    true: float = 0.0,
    placement_sd: float = 0.005,
    process_sd: float = 0.0,
    noise_sd: float = 0.01,
    correlation: float = 0.0,
    spikes: float = 0.0,
) -> dict[tuple[int, int], list[float]]:
    """Log-ratios of an arm that is `true` slower: every effect drawn apart, rounds an AR(1) series."""
    samples = {}
    for process in range(processes):
        of_process = rng.normal(0, process_sd)
        for placement in range(placements):
            noise = rng.normal(0, noise_sd, rounds)
            for i in range(1, rounds):
                noise[i] = correlation * noise[i - 1] + math.sqrt(1 - correlation**2) * noise[i]
            noise += rng.choice([0.0, 0.3], rounds, p=[1 - spikes, spikes]) * rng.choice([-1, 1], rounds)
            samples[process, placement] = list(true + of_process + rng.normal(0, placement_sd) + noise)
    return samples


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"placement_sd": 0.0, "correlation": 0.9},
        {"correlation": 0.8, "spikes": 0.1},
        {"process_sd": 0.003},
        {"process_sd": 0.005},
        {"process_sd": 0.01},
        {"process_sd": 0.02, "placement_sd": 0.001},
        {"processes": 6, "placements": 2},
        {"processes": 3, "placements": 1},
        {"true": math.log(1.05), "correlation": 0.5},
    ],
    ids=str,
)
def test_the_interval_covers_the_truth(options: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    true = math.exp(options.get("true", 0.0))
    held = sum(r.low <= true <= r.high for r in (ratio(simulated(rng, **options)) for _ in range(RUNS)))
    # A little short of 95 % where three processes differ about as much as placements do: they look alike too often.
    assert 0.925 < held / RUNS < 0.985


def test_an_interval_from_one_placement_alone_would_not_cover() -> None:
    """Why placements are counted, not rounds: sixty rounds at one place are sure of the wrong ratio."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(RUNS):
        rounds = np.array(simulated(rng, processes=1, placements=1, rounds=60)[0, 0])
        error = NormalDist().inv_cdf(0.975) * rounds.std(ddof=1) / math.sqrt(len(rounds))
        held += abs(rounds.mean()) <= error
    assert held / RUNS < 0.6


def test_a_planted_slowdown_is_seen() -> None:
    rng = np.random.default_rng(1)
    verdicts = [ratio(simulated(rng, true=math.log(1.05), correlation=0.5)).verdict for _ in range(200)]
    assert verdicts.count("slower") >= 198


def test_verdicts() -> None:
    assert Ratio(1.02, 1.001, 1.04).verdict == "slower"
    assert Ratio(0.98, 0.97, 0.999).verdict == "faster"
    assert Ratio(1.02, 1.0, 1.04).verdict == "not separated"


def test_by_hand() -> None:
    """Four placements of a process: medians 1, 2, 3, 6; t(3, 0.975) = 3.1824, standard error sqrt(14 / 3 / 4)."""
    samples = {(0, 0): [1, 0, 9], (0, 1): [2], (0, 2): [3, 3], (0, 3): [5, 7]}
    middle, half = centre(samples)
    assert middle == 3
    assert half == pytest.approx(3.182446 * math.sqrt(14 / 3 / 4), rel=1e-6)


def test_processes_that_differ_are_what_is_counted() -> None:
    samples = {(p, i): [10.0 * p + 0.01 * i] for p in range(3) for i in range(4)}
    middle, half = centre(samples)
    assert middle == pytest.approx(10.015)
    assert half == pytest.approx(4.302653 * 10 / math.sqrt(3), rel=1e-6)


def test_one_placement_has_no_interval() -> None:
    assert ratio({(0, 0): [0.1, 0.1]}).high == math.inf
    assert ratio({(0, 0): [0.1, 0.1]}).verdict == "not separated"
    assert ratio({(0, 0): [0.1]}).width == math.inf


def test_milliseconds() -> None:
    found = milliseconds({(0, 0): [0.001, 0.001], (0, 1): [0.004]})
    assert found.median == pytest.approx(2.0)
    assert isinstance(found, Interval)
