"""A skeleton drawn, and the distances to its limbs."""

import numpy as np
import pytest

from matchkit.core.errors import ConfigError
from matchkit.extract.conditions.pose import mirrored_joints, pose_spec, render_pose, zoom_of
from matchkit.extract.conditions.sides import partners
from matchkit.extract.conditions.skeletons import OPENPOSE_18, Skeleton

STICK = Skeleton(("l_end", "r_end", "middle"), ((0, 1),))
SIZE = (40, 30)


def stick(*, left: tuple[float, float] = (10, 15), right: tuple[float, float] = (30, 15)) -> np.ndarray:
    return np.asarray([left, right, (np.nan, np.nan)], np.float32)


def some_pose(seed: int, *, size: tuple[int, int]) -> np.ndarray:
    random = np.random.default_rng(seed)
    joints = random.integers(0, size, (18, 2)).astype(np.float32)
    joints[random.random(18) < 0.3] = np.nan
    return joints


def test_the_spec_is_the_published_twenty_channels() -> None:
    spec = pose_spec()
    assert (spec.kind, spec.width, spec.classes) == ("pose", 20, ())
    assert spec.channels[:4] == ("red", "green", "blue", "neck-r_shoulder")
    assert spec.smooth == (False,) * 3 + (True,) * 17
    assert spec.outside == (0.0,) * 3 + (1.0,) * 17
    assert pose_spec(STICK).channels == ("red", "green", "blue", "l_end-r_end")


def test_a_joint_alone_is_a_disc_of_radius_four_in_its_colour() -> None:
    joints = np.full((18, 2), np.nan, np.float32)
    joints[1] = 20, 15
    values = render_pose(joints, size=SIZE)
    y, x = np.mgrid[:30, :40]
    disc = (x - 20) ** 2 + (y - 15) ** 2 <= 16
    np.testing.assert_allclose(values[:3, disc], np.tile([[0], [85 / 255], [1]], disc.sum()))
    assert not values[:3, ~disc].any()
    np.testing.assert_array_equal(values[3:], np.ones_like(values[3:]))


def test_a_limb_is_an_ellipse_blended_over_its_joints() -> None:
    values = render_pose(stick(), size=SIZE, skeleton=STICK)
    y, x = np.mgrid[:30, :40]
    ellipse = ((x - 20) / 10) ** 2 + ((y - 15) / 4) ** 2 <= 1
    np.testing.assert_array_equal(values[3] == 0, np.abs(_l1(ellipse)) < 3)
    assert values[:3, 15, 20].tolist() == pytest.approx([0, 0, 0.6])  # blue over black
    assert values[:3, 15, 28].tolist() == pytest.approx([0, 0.4, 0.6])  # over the disc of the green joint
    assert values[:3, 15, 32].tolist() == pytest.approx([0, 1, 0])  # that disc beside it
    lit = np.asarray(values[:3].any(axis=0))
    assert lit[11:20, 20].all()
    assert not lit[[10, 20], 20].any()


def _l1(shape: np.ndarray) -> np.ndarray:
    marked = np.argwhere(shape)
    places = np.indices(shape.shape).reshape(2, -1).T
    return np.asarray(np.abs(places[:, None] - marked[None]).sum(axis=2).min(axis=1).reshape(shape.shape))


def test_distances_grow_by_a_step_every_three_pixels() -> None:
    steps = render_pose(stick(), size=SIZE, skeleton=STICK)[3, :, 20] * 255
    assert steps[[19, 21, 22, 24, 25, 28]].tolist() == pytest.approx([0, 0, 1, 1, 2, 3])  # the edge is at 19


def test_a_slanting_limb_lies_along_its_joints() -> None:
    values = render_pose(stick(left=(10, 5), right=(30, 25)), size=SIZE, skeleton=STICK)
    inside = values[2] == np.float32(0.6)
    assert inside[10, 15]
    assert inside[20, 25]
    assert not inside[20, 15]
    assert not inside[10, 25]


@pytest.mark.parametrize("seed", range(5))
def test_a_limb_without_one_of_its_joints_is_far(seed: int) -> None:
    joints = some_pose(seed, size=(64, 48))
    values = render_pose(joints, size=(64, 48))
    assert values.shape == (20, 48, 64)
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.max() <= 1
    for limb, distance in zip(OPENPOSE_18.limbs, values[3:], strict=True):
        missing = np.isnan(joints[list(limb)]).any()
        assert (distance == 1).all() == missing
        assert (distance == 0).any() != missing
    np.testing.assert_array_equal(values[:3] * 255, np.rint(values[:3] * 255))


def test_two_joints_on_one_spot_are_a_disc() -> None:
    values = render_pose(stick(left=(20, 15), right=(20, 15)), size=SIZE, skeleton=STICK)
    assert values[3, 15, 20] == 0
    assert values[2, 15, 24] == pytest.approx(0.6)
    assert not values[:3, 15, 25].any()


def test_joints_on_the_canvas_edge_are_cut_off() -> None:
    values = render_pose(stick(left=(0, 0), right=(40, 30)), size=SIZE, skeleton=STICK)
    assert values[:3, 0, :5].any(axis=0).all()
    assert not values[:3, 0, 6:].any()
    assert (values[3] == 0).any()


def test_zoom_enlarges_the_drawing_and_the_steps() -> None:
    joints = some_pose(3, size=(64, 48))
    small = render_pose(joints, size=(64, 48))
    large = render_pose(joints * 4 + 1.5, size=(256, 192), zoom=4.0)
    centres = large[:, 2::4, 2::4]
    assert np.abs(centres[3:] - small[3:]).max() < 1.5 / 255
    assert (centres[:3] != small[:3]).any(axis=0).mean() < 0.05


def test_the_zoom_of_a_photograph_is_that_of_its_longer_side() -> None:
    assert zoom_of((256, 256)) == 1
    assert zoom_of((512, 1024)) == 4
    assert zoom_of((12, 9)) == 0.25


@pytest.mark.parametrize("seed", range(5))
def test_mirrored_joints_are_drawn_as_the_mirrored_pose(seed: int) -> None:
    joints = some_pose(seed, size=(64, 48))
    mirrored = mirrored_joints(joints, size=(64, 48))
    np.testing.assert_array_equal(mirrored_joints(mirrored, size=(64, 48)), joints)
    there, back = (render_pose(some, size=(64, 48)) for some in (joints, mirrored))
    np.testing.assert_array_equal(back[3:], there[3:, :, ::-1][partners(OPENPOSE_18.limb_names)])
    np.testing.assert_array_equal(back[:3].any(axis=0), there[:3, :, ::-1].any(axis=0))


def test_a_mirrored_left_hand_is_the_right_one() -> None:
    joints = np.full((18, 2), np.nan, np.float32)
    joints[OPENPOSE_18.joints.index("l_wrist")] = 3, 7
    mirrored = mirrored_joints(joints, size=(40, 30))
    assert mirrored[OPENPOSE_18.joints.index("r_wrist")].tolist() == [36, 7]
    assert np.isnan(mirrored).sum() == 34


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ConfigError, match="has 18 joints, not 3"):
        render_pose(stick(), size=SIZE)
    for zoom in (0.2, 0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"zoom must be 0\.25 or more"):
            render_pose(stick(), size=SIZE, skeleton=STICK, zoom=zoom)
