"""Comparisons of two methods, beside what can be counted by hand and by other formulas."""

import numpy as np
import pytest
from scipy import stats

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair
from matchkit.evaluate.clusters import Ends, Sharing
from matchkit.evaluate.comparison import compare, detectable_difference, holm, swap_test


def pairs_of(ends: list[tuple[int, int]], category: str = "cat") -> list[Pair]:
    nothing = np.zeros((0, 2), np.float32)
    return [Pair(f"{s}-{t}", f"{category}{s:03}", f"{category}{t:03}", category, nothing, nothing, ()) for s, t in ends]


def every(images: int) -> list[tuple[int, int]]:
    return [(s, t) for s in range(images) for t in range(images) if s != t]


def p_value(change: np.ndarray, pairs: list[Pair]) -> float:
    ends = Ends.of(pairs)
    return swap_test(change.astype(np.float64), ends, Sharing(ends, np.ones(len(pairs))))


def test_pairs_that_share_nothing_are_tested_as_by_student() -> None:
    """Without shared images it is the t test of one value a pair."""
    generator = np.random.default_rng(1)
    change = generator.normal(0.25, 1, 60)
    told = p_value(change, pairs_of([(2 * n, 2 * n + 1) for n in range(60)]))
    assert told == pytest.approx(stats.ttest_1samp(change, 0).pvalue, rel=0.15)
    assert 0.01 < told < 0.2


def test_of_few_targets_every_swap_is_tried() -> None:
    """Five targets swap in 32 ways, of which the two without a mixture differ as much as what is found."""
    pairs = pairs_of([(s, 10 + t) for s in range(6) for t in range(5)])
    assert p_value(np.ones(len(pairs)), pairs) == 2 / 32


def test_what_an_image_does_as_a_source_is_no_proof() -> None:
    """Three sources win and five lose, on many targets: swapped targets alone would find the loss certain."""
    pairs = pairs_of([(s, 10 + t) for s in range(8) for t in range(20)])
    change = np.repeat([1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, -1.0], 20) + 0.1 * np.tile(np.arange(20) % 2, 8)
    unscaled = stats.permutation_test(
        (change.reshape(8, 20).sum(axis=0),),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=999,
        rng=np.random.default_rng(0),
    )
    assert unscaled.pvalue < 0.01
    assert p_value(change, pairs) > 0.2


def test_nothing_to_swap_and_nothing_known() -> None:
    pairs = pairs_of(every(8))
    assert p_value(np.zeros(len(pairs)), pairs) == 1
    assert p_value(np.ones(1), pairs_of([(0, 1)])) == 1


def test_what_can_be_detected_is_detected_in_four_of_five_cases() -> None:
    assert detectable_difference(1.0, np.inf) == pytest.approx(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    generator = np.random.default_rng(0)
    detectable = detectable_difference(1 / 30**0.5, 29.0)
    found = stats.ttest_1samp(generator.normal(detectable, 1, (4000, 30)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.02)


def test_holm_by_hand() -> None:
    """The least of four times 4, the next one times 3, never falling, and never above 1."""
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.9, 0.02])), [0.06, 0.04, 0.9, 0.06])
    np.testing.assert_allclose(holm(np.array([0.6, 0.5])), [1, 1])
    assert holm(np.zeros(0)).shape == (0,)


def verdicts(won: np.ndarray) -> list[np.ndarray]:
    return [row.astype(bool) for row in won]


def test_a_comparison_is_of_the_same_keypoints_in_every_part() -> None:
    generator = np.random.default_rng(2)
    pairs = pairs_of(every(8), "cat") + pairs_of(every(7), "dog")
    first = generator.random((len(pairs), 4)) < 0.5
    second = first | (generator.random(first.shape) < 0.3)
    half = np.tile([True, True, False, False], len(pairs))
    told = compare(
        verdicts(first), verdicts(second), pairs, breakdowns={"half": {"left": half, "right": ~half}}, resamples=400
    )
    assert told.overall.difference == pytest.approx(100 * (second.mean() - first.mean()))
    assert told.overall.low < told.overall.difference < told.overall.high
    assert told.overall.p < 0.01
    assert told.overall.detectable == pytest.approx(2.8 / 3.92 * (told.overall.high - told.overall.low), rel=0.2)
    assert told.categories.keys() == {"cat", "dog"}
    assert told.categories["dog"].before == pytest.approx(100 * first[56:].mean())
    left, right = told.breakdowns["half"]["left"], told.breakdowns["half"]["right"]
    assert left.after == pytest.approx(100 * second[:, :2].mean())
    assert (left.pairs, left.keypoints) == (right.pairs, right.keypoints) == (98, 196)
    assert min(left.adjusted, right.adjusted) == 2 * min(left.p, right.p)


def test_the_average_over_pairs_counts_pairs_alike() -> None:
    pairs = pairs_of(every(6))
    first = [np.zeros(1 + 3 * (n % 2), dtype=bool) for n in range(len(pairs))]
    second = [np.ones_like(told) if len(told) == 1 else told for told in first]
    by_keypoint = compare(first, second, pairs, resamples=200).overall
    by_pair = compare(first, second, pairs, average="image", resamples=200).overall
    assert by_keypoint.difference == pytest.approx(20)
    assert by_pair.difference == pytest.approx(50)


def test_without_keypoints_there_is_nothing_to_compare() -> None:
    with pytest.raises(DatasetError, match="none of the pairs to be compared on has a keypoint"):
        compare([np.zeros(0, bool)], [np.zeros(0, bool)], pairs_of([(0, 1)]))
    one = compare([np.zeros(2, bool)], [np.ones(2, bool)], pairs_of([(0, 1)])).overall
    assert (one.difference, one.low, one.high, one.p, one.detectable) == (100, -100, 100, 1, 100)
