"""How sure a difference is, on hand-made verdicts."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair
from matchkit.evaluate.intervals import Interval, PairedDifference, gain_interval, paired_difference, pck_interval


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


def pairs_of(*ends: str) -> list[Pair]:
    """`"ab"` is the pair of source a and target b; what else a pair has plays no part."""
    nothing = np.zeros((0, 2), np.float32)
    return [Pair(end, end[0], end[1], "", nothing, nothing, ()) for end in ends]


def test_two_pairs_of_one_image_say_nothing_of_other_images() -> None:
    """Whichever the third image, the share of both pairs may have been that of the one they have in common."""
    found = pck_interval(verdicts("1111", "0"), pairs_of("ab", "bc"))
    assert (found.value, found.low, found.high) == (80, 0, 100)


def test_where_all_are_correct_the_interval_is_that_of_as_many_draws_as_pairs_without_a_common_image() -> None:
    """Of 20 draws that are all correct: 0.025 ** (1 / 20), by Clopper and Pearson."""
    found = pck_interval(verdicts(*["11"] * 20), pairs_of(*(chr(300 + n) + chr(400 + n) for n in range(20))))
    assert (found.value, found.high) == (100, 100)
    assert found.low == pytest.approx(100 * 0.025 ** (1 / 20))


def test_pairs_that_share_an_image_say_less_than_pairs_that_do_not() -> None:
    told = verdicts(*["1", "0"] * 100)
    apart = pck_interval(told, pairs_of(*(chr(300 + 2 * n) + chr(301 + 2 * n) for n in range(200))))
    # every image makes ten pairs, and all pairs of a source have one verdict
    shared = pck_interval(
        verdicts(*["1"] * 10, *["0"] * 10) * 10,
        pairs_of(*(chr(300 + n // 10) + chr(400 + n % 10) for n in range(200))),
    )
    assert apart.value == shared.value == 50
    assert shared.high - shared.low > 1.3 * (apart.high - apart.low)


def test_the_interval_over_images_is_as_wide_as_the_images_vary() -> None:
    """Each source has its own verdict on 20 targets: the error is that of 100 sources, 50 / sqrt(100), and no more."""
    generator = np.random.default_rng(0)
    ends = [(chr(300 + s), chr(600 + t)) for s in range(100) for t in generator.choice(100, 20, replace=False)]
    found = pck_interval(
        verdicts(*["1" if ord(source) % 2 else "0" for source, _ in ends]), pairs_of(*map("".join, ends))
    )
    assert found.value == 50
    assert found.high - found.low == pytest.approx(2 * 1.96 * 50 / 100**0.5, rel=0.15)


def test_a_gain_over_images_is_after_less_before() -> None:
    pairs = pairs_of(*(chr(300 + n) + chr(400 + n) for n in range(60)))
    before, after = verdicts(*["01"] * 60), verdicts(*["11", "01"] * 30)
    found = gain_interval(before, after, pairs)
    assert found.value == 25
    assert found.low < 25 < found.high
    turned = gain_interval(after, before, pairs)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-25, -found.high, -found.low))
    assert gain_interval(after, after, pairs) == Interval(0.0, 0.0, 0.0)


def test_a_single_pair_or_none_says_nothing_of_other_images() -> None:
    assert pck_interval(verdicts("10", ""), pairs_of("ab", "bc")) == Interval(50.0, 0.0, 100.0)
    assert gain_interval(verdicts("10"), verdicts("11"), pairs_of("ab")) == Interval(50.0, -100.0, 100.0)
    with pytest.raises(DatasetError, match="none of the pairs to be compared on has a keypoint"):
        pck_interval(verdicts(""), pairs_of("ab"))


def test_the_seed_is_of_the_images_drawn() -> None:
    told, pairs = verdicts(*["10", "01", "00"] * 10), pairs_of(*(chr(300 + n) + chr(400 + n) for n in range(30)))
    assert pck_interval(told, pairs) == pck_interval(told, pairs, seed=0) != pck_interval(told, pairs, seed=1)
