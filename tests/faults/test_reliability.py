"""A short form of `python -m tests.bench.reliability`: the same rounds from a fixed seed, a few of each part."""

from importlib import import_module

import pytest

from tests.bench.reliability.tally import worked

ROUNDS = {"kills": 5, "calls": 8, "parsers": 15, "properties": 9, "crowd": 1, "hostile": 4}
SECONDS = 12.0  # of a part, after which no other round begins: a slow machine tries less


@pytest.mark.slow
@pytest.mark.parametrize("name", ROUNDS)
def test_nothing_is_lost(name, tmp_path):
    part = import_module(f"tests.bench.reliability.{name}").PART
    said = worked(part, tmp_path / name, seed=0, seconds=SECONDS, numbers=iter(range(ROUNDS[name])))
    assert said.problems == []
    assert said.rows or said.notes
