"""How sure a difference is, on hand-made verdicts."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchkit.core.errors import DatasetError
from matchkit.evaluate.intervals import PairedDifference, paired_difference


def verdicts(*pairs: str) -> list[np.ndarray]:
    """`"110"` is a pair of three keypoints of which two are correct."""
    return [np.array([letter == "1" for letter in pair], bool) for pair in pairs]


def test_the_numbers_of_a_hand_made_example() -> None:
    """Nine keypoints: six are correct before and seven after; of the pairs one wins two, one loses one."""
    found = paired_difference(verdicts("1100", "111", "01"), verdicts("1111", "110", "01"))
    assert found.before == pytest.approx(100 * 6 / 9)
    assert found.after == pytest.approx(100 * 7 / 9)
    assert found.difference == pytest.approx(100 / 9)


def test_the_interval_is_that_of_all_resamplings() -> None:
    """Three pairs can be drawn in 27 ways; with 2,000 draws the quantiles of these 27 are found."""
    won, counts = np.array([2, -1, 0]), np.array([4, 3, 2])
    ways = np.array(list(product(range(3), repeat=3)))
    outcomes = 100 * won[ways].sum(axis=1) / counts[ways].sum(axis=1)
    found = paired_difference(verdicts("1100", "111", "01"), verdicts("1111", "110", "01"))
    # each way has 1/27 = 3.7 %, so that 2.5 % and 97.5 % lie within the lowest and within the highest
    assert found.low == pytest.approx(outcomes.min()) == pytest.approx(-100 / 3)
    assert found.high == pytest.approx(outcomes.max()) == pytest.approx(50)


def test_a_pair_counts_by_its_keypoints_and_is_drawn_whole() -> None:
    """A pair of eight that is won against one of two that is not: the difference is 80 %, never above 100 %."""
    found = paired_difference(verdicts("0" * 8, "00"), verdicts("1" * 8, "00"))
    assert (found.difference, found.low, found.high) == (80, 0, 100)


def test_equal_verdicts_differ_by_nothing() -> None:
    same = verdicts("110", "0", "1111")
    assert paired_difference(same, same) == PairedDifference(75.0, 75.0, 0.0, 0.0, 0.0)
    one = verdicts("10")
    assert paired_difference(one, one) == PairedDifference(50.0, 50.0, 0.0, 0.0, 0.0)
    # what one keypoint of a pair wins another one loses: every resampling says the same
    assert paired_difference(verdicts("10", "01"), verdicts("01", "10")) == PairedDifference(50.0, 50.0, 0.0, 0.0, 0.0)


def test_many_equal_pairs_leave_no_doubt_and_few_do() -> None:
    sure = paired_difference(verdicts(*["0"] * 60), verdicts(*["1"] * 60))
    assert (sure.low, sure.high) == (100, 100)
    many, few = (paired_difference(verdicts(*["00", "01"] * n), verdicts(*["01", "01"] * n)) for n in (200, 10))
    assert many.difference == few.difference == 25
    assert few.low < many.low < 25 < many.high < few.high
    # the standard error of the mean of n values of which half are 50 and half 0 is 25 / sqrt(n)
    assert many.high - many.low == pytest.approx(2 * 1.96 * 25 / 400**0.5, rel=0.1)


def test_a_single_pair_says_nothing() -> None:
    found = paired_difference(verdicts("10", ""), verdicts("11", ""))
    assert found == PairedDifference(50.0, 100.0, 50.0, -100.0, 100.0)


def test_pairs_without_keypoints_count_nowhere() -> None:
    full = paired_difference(verdicts("10", "00", "11"), verdicts("11", "01", "01"))
    assert paired_difference(verdicts("10", "", "00", "11"), verdicts("11", "", "01", "01")) == full
    for nothing in ([], verdicts("", "")):
        with pytest.raises(DatasetError, match="none of the pairs to be compared on has a keypoint"):
            paired_difference(nothing, nothing)


def test_the_seed_is_of_the_resampling() -> None:
    generator = np.random.default_rng(0)
    before, after = ([generator.random(5) < share for _ in range(40)] for share in (0.5, 0.6))
    one, same, other = (paired_difference(before, after, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert (one.low, one.high) != (other.low, other.high)
    assert one.low == pytest.approx(other.low, abs=2)


both = st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12), min_size=2, max_size=30)


@settings(max_examples=40, deadline=None, database=None)
@given(pairs=both)
def test_the_interval_contains_the_difference(pairs: list[list[tuple[bool, bool]]]) -> None:
    before, after = ([np.array([told[side] for told in pair]) for pair in pairs] for side in (0, 1))
    found = paired_difference(before, after)
    assert -100 <= found.low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= found.high <= 100
    assert found.difference == pytest.approx(found.after - found.before)
    turned = paired_difference(after, before)
    assert (turned.before, turned.after) == (found.after, found.before)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
