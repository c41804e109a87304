"""The three frames, every number worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import (
    KEYPOINT_RULES,
    Fit,
    KeypointRuleName,
    cell_index,
    cell_index_even,
    grid_to_image,
    image_to_grid,
    image_to_grid_corner,
    image_to_input,
    input_to_image,
    letterboxed_size,
    place,
    posed_points,
    stride,
)
from matchkit.core.poses import Pose, posed_size

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
    assert cell_index_even(point(x, y), (64, 64)).tolist() == [index]


@pytest.mark.parametrize(
    ("x", "y", "index"), [(0.49, 0, 0), (0.5, 0, 1), (1.5, 0.5, 66), (2.5, -0.5, 3), (-9, -9, 0), (63.5, 63.5, 4095)]
)
def test_between_two_cells_the_later_one_is_taken(x: float, y: float, index: int) -> None:
    """A cell reaches from its centre - 0.5 up to, and without, its centre + 0.5."""
    assert cell_index(point(x, y), (64, 64)).tolist() == [index]


def test_cell_index_is_row_major_on_any_grid() -> None:
    points = np.asarray([[0, 0], [4, 0], [0, 1], [4, 2], [9, 9]], np.float32)
    assert cell_index(points, (3, 5)).tolist() == [0, 4, 5, 14, 14]
    assert cell_index(points[:0], (3, 5)).shape == (0,)


CANVAS, PATCHES = (840, 840), (60, 60)
"""GeoAware-SC's input of DINOv2 and its cells of 14 pixels."""


@pytest.mark.parametrize(
    ("size", "x", "y", "index"),
    [((500, 375), 250, 187.5, 1830), ((333, 500), 100, 400, 2902), ((840, 840), 0, 0, 0), ((840, 840), 13.9, 14, 60)],
)
def test_the_patch_of_geoaware_sc(size: tuple[int, int], x: float, y: float, index: int) -> None:
    """GeoAware-SC §1.1: (250, 187.5) is (420, 420) of the canvas and (100, 400) is (308, 672); token floor(. / 14).

    333 pixels become 559.44, of which 559 are drawn: the point lies at 100 x 1.68 and not at 100 x 559 / 333.
    """
    rule, placement = KEYPOINT_RULES["patch"], place(size, CANVAS, fit="letterbox")
    found = rule.to_grid(point(x, y), placement, PATCHES)
    assert rule.cells(found, PATCHES).tolist() == [index]


def test_a_patch_is_left_at_its_middle() -> None:
    """GeoAware-SC §4.3: a found token g lies at 14 g + 7 of the canvas."""
    placement = place((500, 375), CANVAS, fit="letterbox")
    expected = point((14 * 10 + 7) / 1.68, (14 * 20 + 7 - 105) / 1.68)
    np.testing.assert_allclose(KEYPOINT_RULES["patch"].to_image(point(10, 20), placement, PATCHES), expected, rtol=1e-6)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("name", KEYPOINT_RULES)
@pytest.mark.parametrize("size", [(500, 375), (333, 500), (64, 64)])
def test_every_rule_leads_back(name: KeypointRuleName, size: tuple[int, int], fit: Fit) -> None:
    rule, placement = KEYPOINT_RULES[name], place(size, CANVAS, fit=fit)
    points = np.asarray([[0, 0], [12.25, 7.5], [size[0], size[1]], [size[0] - 1, 3]], np.float32)
    if name == "align-corners":  # it keeps points within the centres of the input's first and last pixels
        points = points.clip(0, (np.asarray(CANVAS) - 1.5) / placement.scale - (1, 1)).astype(np.float32)
    back = rule.to_image(rule.to_grid(points, placement, (30, 60)), placement, (30, 60))
    np.testing.assert_allclose(back, points, atol=2e-4)


@pytest.mark.parametrize("name", KEYPOINT_RULES)
def test_the_rules_of_a_stretched_image_differ_by_known_shares_of_a_cell(name: KeypointRuleName) -> None:
    """In an image of 120 x 60 pixels on 60 x 60 cells a cell is 2 x 1 pixels."""
    placement = place((120, 60), CANVAS, fit="stretch")
    expected = {
        **{"centre": (10.25 - 0.5, 20.5 - 0.5), "corner": (10.0, 20.0), "patch": (9.5, 19.5)},
        "align-corners": (20 * 7 * 59 / 839, 20 * 14 * 59 / 839),
    }[name]
    found = KEYPOINT_RULES[name].to_grid(point(20, 20), placement, PATCHES)
    np.testing.assert_allclose(found, point(*expected), atol=1e-5)


@pytest.mark.parametrize("name", KEYPOINT_RULES)
@pytest.mark.parametrize("size", [(840, 840), (333, 500), (500, 375)])
def test_keypoints_on_the_right_and_lower_edge_stay_in_the_last_cell(
    name: KeypointRuleName, size: tuple[int, int]
) -> None:
    """Published code takes x = 840 to column 60, the first one of the next row (GeoAware-SC §10)."""
    rule, placement = KEYPOINT_RULES[name], place(size, CANVAS, fit="stretch")
    corners = np.asarray([[size[0], 0], [0, size[1]], list(size), [size[0] - 1, size[1] - 1]], np.float32)
    cells = rule.cells(rule.to_grid(corners, placement, PATCHES), PATCHES)
    assert cells.tolist() == [59, 59 * 60, 3599, 3599]


def test_corners_of_the_input_are_corners_of_the_grid() -> None:
    """SD4Match §3.1: 768 pixels, 48 cells; nothing lies on the edge itself, and nothing beyond it."""
    rule, placement = KEYPOINT_RULES["align-corners"], place((500, 375), (768, 768), fit="stretch")
    found = rule.to_grid(np.asarray([[0, 0], [500, 375], [250, 187.5], [-3, 9999]], np.float32), placement, (48, 48))
    np.testing.assert_allclose(found, [[0, 0], [47, 47], [384 * 47 / 767] * 2, [0, 47]], atol=1e-5)
    assert ((found > 0) & (found < 47)).all()
    np.testing.assert_allclose(rule.to_image(point(47, 23.5), placement, (48, 48)), point(767 / 1.536, 383.5 / 2.048))


def test_a_grid_of_one_cell_has_one_place() -> None:
    rule, placement = KEYPOINT_RULES["align-corners"], place((50, 50), (32, 32), fit="stretch")
    assert rule.to_grid(point(20, 30), placement, (1, 1)).tolist() == [[0, 0]]
    assert rule.to_image(point(0, 0), placement, (1, 1)).tolist() == [[0, 0]]


def test_a_posed_point_lies_where_its_pixel_does() -> None:
    width, height = 7, 4
    turned: dict[Pose, Image.Transpose] = {
        **{"hflip": Image.Transpose.FLIP_LEFT_RIGHT, "rot90": Image.Transpose.ROTATE_90},
        "rot270": Image.Transpose.ROTATE_270,
    }
    for x, y in ((0, 0), (6, 0), (0, 3), (5, 1)):
        picture = Image.new("L", (width, height))
        picture.putpixel((x, y), 255)
        for pose, how in turned.items():
            ((to_x, to_y),) = posed_points(point(x, y), (width, height), pose).astype(int).tolist()
            assert picture.transpose(how).getpixel((to_x, to_y)) == 255
        np.testing.assert_array_equal(posed_points(point(x, y), (width, height), "none"), point(x, y))


@pytest.mark.parametrize(("pose", "back"), [("none", "none"), ("hflip", "hflip"), ("rot90", "rot270")])
def test_a_pose_is_undone_by_its_opposite(pose: Pose, back: Pose) -> None:
    points = np.asarray([[[0, 0], [6.5, 1.25]], [[2, 3], [-0.5, 3.5]]], np.float32)
    for one, other in ((pose, back), (back, pose)):
        there = posed_points(points, (7, 4), one)
        np.testing.assert_array_equal(posed_points(there, posed_size((7, 4), one), other), points)


def test_points_stay_float32() -> None:
    for moved in (image_to_input(point(1, 1), WIDE), grid_to_image(point(1, 1), WIDE, (4, 4))):
        assert moved.dtype == np.float32
