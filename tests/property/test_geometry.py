"""The three frames: there and back again, for every fit and size."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from matchkit.core.geometry import (
    cell_index,
    grid_to_image,
    image_to_grid,
    image_to_grid_corner,
    image_to_input,
    input_to_image,
    letterboxed_size,
    place,
)
from matchkit.core.records import Placement

sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
inputs = st.tuples(st.integers(8, 1024), st.integers(8, 1024))
grids = st.tuples(st.integers(1, 128), st.integers(1, 128))
placements = st.builds(
    lambda size, to, fit: place(size, to, fit=fit), sizes, inputs, st.sampled_from(["stretch", "letterbox"])
)
shares = arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(2)), elements=st.floats(0, 1, width=32))
"""Points as shares of the image's width and height."""


def in_image(share: np.ndarray, placement: Placement) -> np.ndarray:
    return (share * np.asarray(placement.image_size) - 0.5).astype(np.float32)


def tolerance(placement: Placement) -> float:
    """Original pixels that float32 loses in the input frame, where a number has 24 bits."""
    return 1e-3 + max(placement.input_size) * 2.0**-21 / min(placement.scale)


@given(placement=placements, share=shares)
def test_image_to_input_and_back(placement: Placement, share: np.ndarray) -> None:
    points = in_image(share, placement)
    back = input_to_image(image_to_input(points, placement), placement)
    np.testing.assert_allclose(back, points, atol=tolerance(placement))


@given(placement=placements, share=shares, grid=grids)
def test_image_to_grid_and_back(placement: Placement, share: np.ndarray, grid: tuple[int, int]) -> None:
    points = in_image(share, placement)
    back = grid_to_image(image_to_grid(points, placement, grid), placement, grid)
    np.testing.assert_allclose(back, points, atol=2 * tolerance(placement))


@given(placement=placements, share=shares, grid=grids)
def test_the_image_lies_within_input_and_grid(placement: Placement, share: np.ndarray, grid: tuple[int, int]) -> None:
    points = in_image(share, placement)
    for moved, (width, height) in (
        (image_to_input(points, placement), placement.input_size),
        (image_to_grid(points, placement, grid), grid[::-1]),
    ):
        assert (moved >= -0.5 - 1e-3).all()
        assert (moved <= np.asarray([width, height]) - 0.5 + 1e-3).all()


@given(size=sizes, to=inputs)
def test_letterbox_keeps_the_ratio_up_to_a_pixel_and_fills_one_side(size: tuple[int, int], to: tuple[int, int]) -> None:
    inner = letterboxed_size(size, to)
    assert all(1 <= side <= room for side, room in zip(inner, to, strict=True))
    assert inner[0] == to[0] or inner[1] == to[1]
    ratio = min(to[0] / size[0], to[1] / size[1])
    for side, original in zip(inner, size, strict=True):
        assert abs(side - original * ratio) <= 0.5 + 1e-6 or side == 1


@given(placement=placements, share=shares, grid=grids)
def test_the_corner_convention_is_half_an_input_pixel_and_half_a_cell_away(
    placement: Placement, share: np.ndarray, grid: tuple[int, int]
) -> None:
    points = in_image(share, placement)
    shift = image_to_grid_corner(points, placement, grid) - image_to_grid(points, placement, grid)
    strides = np.asarray(placement.input_size) / np.asarray(grid[::-1])
    np.testing.assert_allclose(
        shift, np.broadcast_to(0.5 - 0.5 * np.asarray(placement.scale) / strides, shift.shape), atol=1e-3
    )


@given(
    points=arrays.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(2)), elements=st.floats(-1e6, 1e6, width=32)),
    grid=grids,
)
def test_cell_index_is_in_range_and_nearest(points: np.ndarray, grid: tuple[int, int]) -> None:
    index = cell_index(points, grid)
    assert ((index >= 0) & (index < grid[0] * grid[1])).all()
    centres = np.stack([index % grid[1], index // grid[1]], axis=1)
    clipped = np.clip(points, 0, [grid[1] - 1, grid[0] - 1])
    assert (np.abs(centres - clipped) <= 0.5).all()


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@given(share=shares, factor=st.sampled_from([2, 4, 8]))
def test_a_larger_photograph_of_the_same_thing_lands_on_the_same_cells(
    fit: Any, share: np.ndarray, factor: int
) -> None:
    small, large = place((96, 64), (128, 128), fit=fit), place((96 * factor, 64 * factor), (128, 128), fit=fit)
    one = image_to_grid(in_image(share, small), small, (16, 16))
    other = image_to_grid(in_image(share, large), large, (16, 16))
    np.testing.assert_allclose(one, other, atol=1e-3)
