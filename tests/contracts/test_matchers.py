"""Every matcher: points in the target's grid, and a map matched with itself gives back what was asked."""

import numpy as np
import pytest
import torch

from matchkit.core.interfaces import Matcher
from matchkit.evaluate import MATCHERS

pytestmark = pytest.mark.parametrize("name", list(MATCHERS.table()))
GRID = (5, 7)
"""(height, width) in cells."""


def build(name: str) -> Matcher:
    matcher: Matcher = MATCHERS.build(name, {}, where=name)
    return matcher


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cell_of(points: np.ndarray) -> list[tuple[int, int]]:
    return [(round(float(x)), round(float(y))) for x, y in points]


def test_shape_type_and_range(name: str) -> None:
    matcher = build(name)
    assert isinstance(matcher, Matcher)
    points = np.asarray([[0, 0], [6, 4], [2.5, 1.25], [-0.4, 4.4]], np.float32)
    found = matcher.match(drawn(16, *GRID), drawn(16, 4, 9, seed=1), points)
    assert (found.shape, found.dtype) == ((4, 2), np.float32)
    assert np.isfinite(found).all()
    # the target's grid is 9 x 4 cells, whose edges lie half a cell beyond the outer centres
    assert (found >= -0.5).all()
    assert (found <= np.asarray([8.5, 3.5])).all()


def test_a_map_matched_with_itself_gives_the_cells_of_the_keypoints(name: str) -> None:
    """Orthogonal descriptors, so that no other cell comes near."""
    descriptors = torch.eye(GRID[0] * GRID[1]).reshape(-1, *GRID) * (1 + drawn(*GRID).abs())
    points = np.asarray([[x, y] for y in range(GRID[0]) for x in range(GRID[1])], np.float32)
    assert cell_of(build(name).match(descriptors, descriptors, points)) == cell_of(points)


def test_the_length_of_descriptors_does_not_count(name: str) -> None:
    source, target = drawn(16, *GRID), drawn(16, *GRID, seed=1)
    points = np.asarray([[1, 1], [5, 3]], np.float32)
    lengths = 1 + drawn(*GRID, seed=2).abs()
    one = build(name).match(source, source, points)
    assert cell_of(build(name).match(source * lengths, source * 7, points)) == cell_of(one)
    np.testing.assert_array_equal(
        build(name).match(source, target, points), build(name).match(source, target * 4, points)
    )


def test_the_order_of_the_keypoints_is_kept(name: str) -> None:
    source, target = drawn(16, *GRID), drawn(16, *GRID, seed=1)
    points = np.asarray([[1, 1], [5, 3], [0, 4]], np.float32)
    matcher = build(name)
    backwards = matcher.match(source, target, points[::-1])
    # a product of matrices may sum another row's channels in another order
    np.testing.assert_allclose(backwards, matcher.match(source, target, points)[::-1], rtol=1e-5)


def test_no_keypoints_have_no_matches(name: str) -> None:
    found = build(name).match(drawn(16, *GRID), drawn(16, *GRID), np.zeros((0, 2), np.float32))
    assert (found.shape, found.dtype) == ((0, 2), np.float32)
