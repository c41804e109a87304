"""Ranks on numbers worked out by hand."""

import numpy as np
import pytest

from matchkit.evaluate.ranking import auroc, average_precisions

ONE = np.zeros(4, np.int64)


def flags(text: str) -> np.ndarray:
    return np.array([letter == "+" for letter in text])


def test_auroc_counts_pairs_in_the_right_order() -> None:
    """Positives .9 and .4 against negatives .8 and .1: three of four pairs are in order."""
    assert auroc(np.array([0.9, 0.8, 0.4, 0.1]), flags("+-+-")) == pytest.approx(0.75)
    assert auroc(np.array([0.1, 0.4]), flags("+-")) == 0.0


def test_equal_scores_count_half() -> None:
    assert auroc(np.array([0.5, 0.5, 0.5]), flags("+--")) == pytest.approx(0.5)
    assert auroc(np.array([0.7, 0.5, 0.5]), flags("-+-")) == pytest.approx(0.25)


def test_one_kind_alone_has_no_rank() -> None:
    assert np.isnan(auroc(np.array([0.1, 0.2]), flags("++")))
    assert np.isnan(auroc(np.array([0.1, 0.2]), flags("--")))


def test_average_precision_is_the_mean_precision_at_the_positives() -> None:
    """In order + - + -: precisions 1 and 2/3."""
    found = average_precisions(np.array([0.9, 0.8, 0.4, 0.1]), flags("+-+-"), ONE)
    assert found.tolist() == pytest.approx([(1 + 2 / 3) / 2])


def test_the_order_of_the_samples_does_not_matter() -> None:
    """Sorted: - + - +, so precisions 1/2 and 2/4."""
    found = average_precisions(np.array([0.1, 0.9, 0.4, 0.2]), flags("+-+-"), ONE)
    assert found.tolist() == pytest.approx([(1 / 2 + 2 / 4) / 2])


def test_equal_scores_are_one_step() -> None:
    """.5 twice, one of them positive: precision 1/2 at recall 1/2, and then 2/3."""
    found = average_precisions(np.array([0.5, 0.5, 0.3, 0.1]), flags("+-+-"), ONE)
    assert found.tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2])
    assert average_precisions(np.array([0.5, 0.5, 0.5]), flags("+--"), ONE[:3]).tolist() == pytest.approx([1 / 3])


def test_each_group_by_itself_in_the_order_of_its_number() -> None:
    scores = np.array([0.2, 0.9, 0.5, 0.5, 0.8, 0.7])
    groups = np.array([3, 1, 3, 1, 1, 7])
    # group 1: + at .9, - at .8, + at .5; group 3: - at .5, + at .2; group 7 has no positive
    found = average_precisions(scores, flags("++-+--"), groups)
    assert found.tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 2, 0])
