"""The three frames, every number worked out by hand."""

import numpy as np
import pytest

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import (
    cell_index,
    grid_to_image,
    image_to_grid,
    image_to_grid_corner,
    image_to_input,
    input_to_image,
    letterboxed_size,
    place,
    stride,
)

WIDE = place((400, 200), (64, 64), fit="letterbox")
"""Scale 0.16: 64 x 32 pixels between bars of 16 above and below."""


def point(x: float, y: float) -> np.ndarray:
    return np.asarray([[x, y]], np.float32)


def test_stretch_scales_each_axis_by_itself() -> None:
    placement = place((400, 200), (100, 100), fit="stretch")
    assert (placement.scale, placement.offset) == ((0.25, 0.5), (0, 0))
    # centres: 0.5 * 0.25 - 0.5 and 0.5 * 0.5 - 0.5
    np.testing.assert_allclose(image_to_input(point(0, 0), placement), point(-0.375, -0.25))
    # the image's far corner (399.5, 199.5) is the input's (99.5, 99.5)
    np.testing.assert_allclose(image_to_input(point(399.5, 199.5), placement), point(99.5, 99.5))
    np.testing.assert_allclose(image_to_input(point(-0.5, -0.5), placement), point(-0.5, -0.5))


def test_letterbox_keeps_the_ratio_and_centres() -> None:
    assert (WIDE.scale, WIDE.offset) == ((0.16, 0.16), (0, 16))
    np.testing.assert_allclose(image_to_input(point(-0.5, -0.5), WIDE), point(-0.5, 15.5))
    np.testing.assert_allclose(image_to_input(point(399.5, 199.5), WIDE), point(63.5, 47.5), rtol=1e-6)
    # (12 + 0.5) * 0.16 - 0.5 = 1.5
    np.testing.assert_allclose(image_to_input(point(12, 12), WIDE), point(1.5, 17.5))
    np.testing.assert_allclose(input_to_image(point(1.5, 17.5), WIDE), point(12, 12), rtol=1e-6)


def test_a_point_on_a_bar_falls_outside_the_image() -> None:
    assert input_to_image(point(10, 3), WIDE)[0, 1] < -0.5
    assert input_to_image(point(10, 60), WIDE)[0, 1] > 199.5


def test_bars_are_whole_pixels() -> None:
    placement = place((100, 33), (64, 64), fit="letterbox")
    assert letterboxed_size((100, 33), (64, 64)) == (64, 21)
    assert placement.offset == (0, 21)  # 43 pixels of bars: 21 above, 22 below
    assert placement.scale == (0.64, 21 / 33)


def test_a_sliver_keeps_one_pixel() -> None:
    assert letterboxed_size((1000, 2), (64, 64)) == (64, 1)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"an image of {size[0]} x {size[1]} pixels cannot be placed"):
        place(size, (64, 64), fit="stretch")


def test_stride_is_input_pixels_a_cell_for_x_and_y() -> None:
    assert stride(place((10, 10), (64, 32), fit="stretch"), (4, 16)) == (4, 8)


def test_grid_frame_has_cell_centres_at_integers() -> None:
    """`x_input = (x_grid + 0.5) * stride - 0.5`: the first of cells of 8 has its centre at 3.5."""
    placement = place((64, 64), (64, 64), fit="stretch")
    np.testing.assert_allclose(image_to_grid(point(3.5, 11.5), placement, (8, 8)), point(0, 1))
    np.testing.assert_allclose(grid_to_image(point(0, 1), placement, (8, 8)), point(3.5, 11.5))
    np.testing.assert_allclose(image_to_grid(point(-0.5, 63.5), placement, (8, 8)), point(-0.5, 7.5))


def test_a_grid_need_not_be_square() -> None:
    placement = place((128, 32), (64, 64), fit="stretch")
    # x: 128 px on 16 cells, 8 each; y: 32 px on 4 cells, 8 each
    np.testing.assert_allclose(grid_to_image(point(15, 3), placement, (4, 16)), point(123.5, 27.5))


def test_the_published_corner_convention_has_no_half_pixel() -> None:
    """Hyperfeatures §5.1: y * 64 / H, x * 64 / W; half a cell right of and below the centre convention."""
    placement = place((500, 333), (512, 512), fit="stretch")
    corner = image_to_grid_corner(point(250, 111), placement, (64, 64))
    np.testing.assert_allclose(corner, point(250 * 64 / 500, 111 * 64 / 333), rtol=1e-6)
    centre = image_to_grid(point(250 - 0.5, 111 - 0.5), placement, (64, 64))
    np.testing.assert_allclose(corner - centre, point(0.5, 0.5), atol=1e-5)


@pytest.mark.parametrize(("y", "x", "index"), [(0.5, 1.5, 2), (63.9, 2.5, 4034), (-3, 70.2, 63), (31.49, 31.51, 2016)])
def test_cell_index_of_the_published_loss(y: float, x: float, index: int) -> None:
    """Hyperfeatures §5.1, index check: clipped first, then rounded half to even."""
    assert cell_index(point(x, y), (64, 64)).tolist() == [index]


def test_cell_index_is_row_major_on_any_grid() -> None:
    points = np.asarray([[0, 0], [4, 0], [0, 1], [4, 2], [9, 9]], np.float32)
    assert cell_index(points, (3, 5)).tolist() == [0, 4, 5, 14, 14]
    assert cell_index(points[:0], (3, 5)).shape == (0,)


def test_points_stay_float32() -> None:
    for moved in (image_to_input(point(1, 1), WIDE), grid_to_image(point(1, 1), WIDE, (4, 4))):
        assert moved.dtype == np.float32
