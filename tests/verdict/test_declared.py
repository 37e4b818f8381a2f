"""What a study may claim in all, however it is looked at: levels, looks, and what older studies declared."""

from __future__ import annotations

from itertools import islice

import pytest

from laurel_cli.verdict.declared import Controls, Declared, declared
from laurel_cli.verdict.paired import ALPHA

from .studies import trial


def of(first=5, most=0, families=(("rw",),), seeds=5):
    return Declared(families, tuple(range(seeds)), first, most)


@pytest.mark.parametrize(("first", "most"), [(1, 0), (2, 0), (3, 0), (5, 0), (5, 20), (3, 50), (5, 6)])
def test_all_looks_at_all_families_spend_less_than_five_percent(first, most):
    said = of(first, most)
    spent = sum(look.alpha for family in range(30) for look in said.looks(family))
    assert 0.04 < spent <= ALPHA
    sizes = [look.n for look in said.looks()]
    assert sizes == sorted(set(sizes))
    assert sizes[0] == (6 if most == 6 else max(first, 2))  # hardly more: one look, at the most


def test_the_levels_of_a_plain_study():
    """90 % of 5 % for the first family, of which the first look has 80 %, the second half of what is left."""
    first, second, third = islice(of().looks(), 3)
    assert (first.n, second.n, third.n) == (5, 10, 20)
    assert first.alpha == pytest.approx(0.05 * 0.9 * 0.8)
    assert second.alpha == pytest.approx(0.05 * 0.9 * 0.1)
    assert third.alpha == pytest.approx(0.05 * 0.9 * 0.05)
    assert next(of().looks(1)).alpha == pytest.approx(0.05 * 0.05 * 0.8)


@pytest.mark.parametrize(("blocks", "look"), [(0, None), (4, None), (5, 5), (9, 5), (10, 10), (39, 20), (5000, 2560)])
def test_a_look_is_the_last_one_reached(blocks, look):
    found = of().look(blocks)
    assert (found and found.n) == look
    assert of().next_look(blocks).n > blocks


def test_what_is_written_down_is_read():
    written = {
        "arms": [["rw", "lr@4"], ["pa"]],
        "first": 5,
        "most": 20,
        "metric": "accuracy",
        "worth": 0.02,
        "controls": {"positive": "baseline:width=2", "recipe": ["baseline:lr=2"], "budget": None},
    }
    earlier = {"arms": ["baseline", "rw", "lr@4"], "seeds": [0, 1], "declared": written | {"arms": written["arms"][:1]}}
    later = {"arms": ["baseline", "rw", "lr@4", "pa"], "seeds": [0, 1, 7], "declared": written}
    for definitions in ([earlier, later], [later, earlier]):
        found = declared(definitions, [])
        assert found.families == (("rw", "lr@4"), ("pa",))
        assert (found.first, found.most, found.metric, found.worth) == (5, 20, "accuracy", 0.02)
        assert found.controls == Controls("baseline:width=2", ("baseline:lr=2",), None)
        assert found.seeds == (0, 1, 7)


def test_an_older_study_declared_what_its_earliest_definition_names():
    first = {"arms": ["baseline", "copy", "rw"], "seeds": [0, 1, 2]}
    then = {"arms": ["baseline", "copy", "rw", "lr@4"], "seeds": [0, 1, 2, 3, 4, 5]}
    found = declared([then, first], [])
    assert found.families == (("rw",), ("lr@4",))
    assert found.first == 3
    assert found.seeds == (0, 1, 2, 3, 4, 5)
    assert found.controls == Controls()
    # Records that somebody wrote by hand name their number of seeds, or nothing.
    assert declared([{"seeds": 5}], [trial("rw", 3, 0.8)]).first == 5
    bare = declared([], [trial("rw", seed, 0.8) for seed in (3, 1)])
    assert (bare.families, bare.first, bare.seeds) == ((("rw",),), 2, (1, 3))


def test_what_was_run_without_being_declared_is_a_family_of_its_own():
    found = declared([{"arms": ["baseline", "rw"], "seeds": [0]}], [trial("pa", 0, 0.8), trial("baseline", 0, 0.8)])
    assert found.families == (("rw",), ("pa",))
