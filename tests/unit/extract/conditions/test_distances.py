"""Distances as 8 bits hold them."""

import numpy as np
import pytest

from matchkit.extract.conditions.distances import distance_map


def brute(shape: np.ndarray) -> np.ndarray:
    """L1 distances in pixels, by every pair of pixels."""
    places = np.indices(shape.shape).reshape(2, -1).T
    marked = np.argwhere(shape)
    return np.asarray(np.abs(places[:, None] - marked[None]).sum(axis=2).min(axis=1).reshape(shape.shape))


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_l1_distance_in_whole_steps(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = random.random(tuple(random.integers(1, 20, 2))) < 0.05
    shape[tuple(random.integers(0, side) for side in shape.shape)] = True
    for step in (1.0, 3.0, 4.5):
        expected = np.floor(brute(shape) / step) / 255
        np.testing.assert_array_equal(distance_map(shape, step=step), expected.astype(np.float32))


def test_three_pixels_are_a_step_of_8_bits() -> None:
    shape = np.zeros((1, 1000), np.bool_)
    shape[0, 0] = True
    steps = distance_map(shape)[0] * 255
    assert steps[[0, 2, 3, 5, 6, 300]].tolist() == [0, 0, 1, 1, 2, 100]
    assert steps[[764, 765, 999]].tolist() == [254, 255, 255]


def test_what_is_not_there_is_far_from_everywhere() -> None:
    far = distance_map(np.zeros((3, 5), np.bool_))
    assert far.dtype == np.float32
    np.testing.assert_array_equal(far, np.ones((3, 5)))


def test_where_all_is_of_the_shape_nothing_is_far() -> None:
    np.testing.assert_array_equal(distance_map(np.ones((3, 5), np.bool_)), np.zeros((3, 5)))
