"""A condition lies in an input where its photograph does, and is mirrored with it."""

from typing import Literal

import numpy as np
import pytest
from PIL import Image

from matchkit.core.conditions import ConditionSpec
from matchkit.core.errors import ConfigError
from matchkit.core.geometry import image_to_input, place
from matchkit.core.records import Canvas, Placement
from matchkit.extract.conditions.edges import edge_spec
from matchkit.extract.conditions.masks import mask_spec
from matchkit.extract.conditions.place import mirrored_condition, place_condition
from matchkit.extract.conditions.pose import pose_spec
from matchkit.extract.images import to_input

TWO = ConditionSpec("edge", ("hard", "smooth"), (False, True), (0.25, 0.75))
PLACED = Placement((20, 10), (20, 10), (1.0, 1.0), (0.0, 0.0))


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(40, 30), (30, 40), (200, 90), (32, 32), (9, 7)])
def test_a_smooth_channel_lies_where_the_photograph_does(
    size: tuple[int, int], fit: Literal["stretch", "letterbox", "crop"]
) -> None:
    grey = np.random.default_rng(0).integers(0, 256, size[::-1], dtype=np.uint8)
    photo = Image.fromarray(np.stack([grey] * 3, axis=2))
    pixels, placement = to_input(photo, Canvas((32, 32), fit, bars=0.75))
    values = np.stack([grey, grey]).astype(np.float32) / 255
    placed = place_condition(values, TWO, placement)
    assert placed.dtype == np.float32
    assert np.abs(placed[1] - pixels[0].numpy()).max() < 1.01 / 255  # a photograph has 8 bits


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (200, 90), (9, 7)])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_another_channel_has_the_pixel_on_which_a_centre_lies(
    size: tuple[int, int], fit: Literal["stretch", "letterbox"]
) -> None:
    values = np.arange(2.0 * size[0] * size[1], dtype=np.float32).reshape(2, size[1], size[0])
    placement = place(size, (48, 36), fit=fit)
    placed = place_condition(values, TWO, placement)[0]
    assert placed.shape == (36, 48)
    shown = placed != np.float32(0.25)
    for y, x in np.argwhere(shown)[::7]:
        row, column = np.argwhere(values[0] == placed[y, x])[0]
        point = image_to_input(np.asarray([[column, row]], np.float32), placement)[0]
        reach = np.asarray(placement.scale) / 2 + 1e-3
        assert (np.abs(point - (x, y)) <= reach).all()
    inner = (size[0] * placement.scale[0], size[1] * placement.scale[1])
    assert shown.sum() == round(inner[0]) * round(inner[1])


def test_bars_hold_what_lies_outside() -> None:
    placed = place_condition(np.ones((2, 10, 20), np.float32), TWO, place((20, 10), (40, 40), fit="letterbox"))
    assert (placed[:, 10:30] == 1).all()
    assert (placed[0, :10] == 0.25).all()
    assert (placed[1, 30:] == 0.75).all()


def test_at_its_own_size_nothing_changes() -> None:
    values = np.random.default_rng(1).random((2, 10, 20), np.float32)
    np.testing.assert_array_equal(place_condition(values, TWO, place((20, 10), (20, 10), fit="stretch")), values)


def test_labels_stay_labels() -> None:
    spec = mask_spec([str(n) for n in range(9)], outside=8)
    labels = np.random.default_rng(2).choice([0.0, 7.0], (1, 33, 50)).astype(np.float32)
    placed = place_condition(labels, spec, place((50, 33), (24, 24), fit="letterbox"))
    assert set(np.unique(placed)) == {0, 7, 8}


@pytest.mark.parametrize("shape", [(1, 10, 20), (3, 10, 20)])
def test_other_channels_are_refused(shape: tuple[int, int, int]) -> None:
    values = np.zeros(shape, np.float32)
    message = f"a condition of {shape[0]} channels is none of hard, smooth"
    with pytest.raises(ConfigError, match=message):
        place_condition(values, TWO, PLACED)
    with pytest.raises(ConfigError, match=message):
        mirrored_condition(values, TWO)


def test_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="20 x 11 pixels cannot be placed as a photograph of 20 x 10"):
        place_condition(np.zeros((2, 11, 20), np.float32), TWO, PLACED)


def test_a_mirrored_left_class_is_a_right_one() -> None:
    spec = mask_spec(("background", "dog/left_ear", "dog/right_ear", "dog/nose"))
    labels = np.asarray([[[0, 1, 3], [2, 2, 0]]], np.float32)
    mirrored = mirrored_condition(labels, spec)
    assert mirrored.dtype == np.float32
    assert mirrored.tolist() == [[[3, 2, 0], [0, 1, 1]]]


def test_channels_of_left_and_right_are_exchanged() -> None:
    spec = edge_spec(("l_eye", "nose", "r_eye"))
    values = np.random.default_rng(3).random((5, 4, 6), np.float32)
    mirrored = mirrored_condition(values, spec)
    np.testing.assert_array_equal(mirrored, values[[0, 3, 2, 1, 4], :, ::-1])
    np.testing.assert_array_equal(mirrored_condition(mirrored, spec), values)


def test_limbs_are_exchanged_and_a_picture_of_them_cannot_be() -> None:
    whole = pose_spec()
    limbs = ConditionSpec("pose", whole.channels[3:], whole.smooth[3:], whole.outside[3:])
    values = np.zeros((17, 3, 4), np.float32)
    values[limbs.channels.index("l_hip-l_knee"), 0, 0] = 1
    assert np.argwhere(mirrored_condition(values, limbs)).tolist() == [[limbs.channels.index("r_hip-r_knee"), 0, 3]]
    with pytest.raises(ConfigError, match=r"a skeleton's picture cannot be mirrored.*mirrored_joints.*'<image>@flip'"):
        mirrored_condition(np.zeros((20, 3, 4), np.float32), whole)
