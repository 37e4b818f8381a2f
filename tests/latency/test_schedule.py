"""What fits into the time, and what is said where the least does not: worked out by hand."""

from __future__ import annotations

import pytest

from laurel_cli.latency.schedule import Forecast, fitted


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (1000.0, (4, 3.0)),
        (60.0, (4, 3.0)),
        (8.0, (4, 2.0)),  # four of six rounds of 0.2 s take 4.8 s: the seconds shrink first
        (4.0, (3, 4.0 / 3)),
        (1.3, (1, 1.3)),
        (0.5, (1, 0.5)),  # one is always made
        (-7.0, (1, -7.0)),
    ],
)
def test_fewer_placements_where_the_time_is_short(left: float, expected: tuple[int, float]) -> None:
    assert fitted(4, 3.0, left, round_seconds=0.2) == pytest.approx(expected)


def forecast(max_time: float, fit: int = 4, demanded: int = 0) -> Forecast:
    """30 s are gone, of which the process took 10 to begin; a round of 2 s, so 12 s a placement."""
    return Forecast(
        max_time=max_time,
        spent=30.0,
        start=10.0,
        round_seconds=2.0,
        placements=4,
        fit=fit,
        processes=5,
        demanded=demanded,
    )


def test_the_least_is_that_of_the_whole_protocol() -> None:
    """20 s before the first process, then five times 10 + 4 * 12."""
    assert forecast(600).least == 20 + 5 * (10 + 48)
    assert forecast(310).said() is None


def test_what_is_too_short_is_said_with_what_it_would_take_and_what_is_done() -> None:
    said = forecast(309, fit=3).said()
    assert said is not None
    assert "takes about 310 s" in said
    assert "5 processes of 3 placements will be run, about 250 s" in said  # 20 + 5 * (10 + 36)


@pytest.mark.parametrize(
    ("max_time", "demanded", "processes", "takes"),
    [
        (88.0, 0, 3, 86),  # 20 + 3 * 22
        (70.0, 0, 2, 64),
        (1.0, 0, 1, 42),  # one is always run, and what it takes is said
        (1.0, 3, 3, 86),  # as are those demanded
    ],
)
def test_no_more_processes_than_fit(max_time: float, demanded: int, processes: int, takes: int) -> None:
    found = forecast(max_time, fit=1, demanded=demanded)
    assert found.affordable == processes
    count = f"{processes} process{'es' * (processes > 1)} of 1 placement"
    assert f"{count} will be run, about {takes} s" in (found.said() or "")
