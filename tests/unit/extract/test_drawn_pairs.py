"""Pairs that a rule draws: which ones, which way round, and that no order of names counts."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchkit.extract.datasets.drawn_pairs import Group, drawn_pairs

ALL = np.ones((4, 4), np.bool_)
NAMES = ["b", "a", "d", "c"]


def key(one: str, other: str, seed: int = 42) -> bytes:
    return hashlib.sha256(f"{seed}|{one}|{other}".encode()).digest()


def test_all_pairs_once_without_a_limit() -> None:
    drawn = drawn_pairs(Group("x", NAMES, ALL))
    assert drawn == sorted(drawn)
    assert sorted("".join(sorted(two)) for two in drawn) == ["ab", "ac", "ad", "bc", "bd", "cd"]
    for one, other in drawn:
        lesser, greater = sorted((one, other))
        assert (one == greater) == bool(key(lesser, greater)[-1] % 2)


def test_these_are_drawn() -> None:
    """`printf '42|c|d' | sha256sum` says 24d9...6e, and 2d61...54 of a|d; the others are greater."""
    assert drawn_pairs(Group("x", NAMES, ALL, limit=2)) == [("a", "d"), ("c", "d")]


def test_another_seed_draws_others() -> None:
    names = [str(n) for n in range(20)]
    group = Group("x", names, np.ones((20, 20), np.bool_), limit=30)
    assert drawn_pairs(group, seed=1) != drawn_pairs(group)


def test_only_what_fits_is_drawn() -> None:
    fits = np.zeros((4, 4), np.bool_)
    fits[0, 3] = fits[3, 0] = True
    ((one, other),) = drawn_pairs(Group("x", NAMES, fits, limit=2))
    assert {one, other} == {"b", "c"}
    assert drawn_pairs(Group("x", NAMES, ~ALL)) == []
    assert drawn_pairs(Group("x", ["a"], np.ones((1, 1), np.bool_))) == []


@given(order=st.permutations(range(6)), limit=st.integers(0, 15))
def test_no_order_of_names_counts(order: list[int], limit: int) -> None:
    names = [f"ä{n}" for n in range(6)]
    fits = np.random.default_rng(0).random((6, 6)) < 0.7
    fits |= fits.T
    shuffled = Group("x", [names[n] for n in order], fits[np.ix_(order, order)], limit)
    drawn = drawn_pairs(Group("x", names, fits, limit))
    assert drawn_pairs(shuffled) == drawn
    assert len(drawn) == min(limit, int(np.triu(fits, 1).sum()))


@pytest.mark.parametrize("limit", [1, 3])
def test_a_smaller_draw_is_part_of_a_larger_one(limit: int) -> None:
    assert set(drawn_pairs(Group("x", NAMES, ALL, limit))) < set(drawn_pairs(Group("x", NAMES, ALL, limit + 1)))
