"""Random numbers against the published sequence, and a permutation against what one is."""

from __future__ import annotations

import numpy as np
import pytest

from laurel_cli.tasks.draws import below, draw, key, permutation


def splitmix64(seed: int):
    """The generator as its authors wrote it, in whole numbers of Python."""
    mask = (1 << 64) - 1
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


def test_the_published_sequence() -> None:
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert draw(np.uint64(1234567), np.arange(4)).tolist() == expected


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_any_place_of_the_sequence(seed: int) -> None:
    sequence = splitmix64(seed)
    expected = [next(sequence) for _ in range(50)]
    places = np.array([[49, 0], [7, 7]])
    assert draw(np.uint64(seed), places).tolist() == [[expected[p] for p in row] for row in places.tolist()]


def test_keys_differ() -> None:
    keys = [key("a", 1), key("a", "1"), key("a1"), key("a", 2), key("b", 1), key(1, "a"), key("a", 1, ""), key()]
    assert len({int(k) for k in keys}) == len(keys)
    assert key("a", 1) == key("a", 1)


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 4096])
def test_a_permutation_holds_every_number_once(count: int) -> None:
    order = permutation(key("x", count), count)
    assert sorted(order.tolist()) == list(range(count))


def test_every_order_comes_equally_often() -> None:
    orders = [tuple(permutation(key("order", i), 4).tolist()) for i in range(4_800)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    # Chi-squared with 23 degrees of freedom is above 60 once in 40,000 times.
    assert ((counts - 200) ** 2 / 200).sum() < 60


def test_below_is_uniform() -> None:
    counts = np.bincount(below(key("below"), np.arange(70_000), 7), minlength=7)
    assert len(counts) == 7
    # Six degrees of freedom: above 30 once in 25,000 times.
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 30
