"""What is asked of a dataset of conditions, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord
from matchkit.extract.conditions.answers import facing, is_mirrored, no_pairs, no_scheme, photograph, require_kind
from matchkit.extract.conditions.masks import mask_spec

IMAGES = {name: ImageRecord(name, Path(f"{name}.png"), (4, 3)) for name in ("tom", "a@b")}


def test_a_photograph_and_its_mirrored_copy_are_of_one_record() -> None:
    for image_id in ("tom", "tom@flip"):
        assert photograph(IMAGES, image_id, name="mine") is IMAGES["tom"]
    assert photograph(IMAGES, "a@b", name="mine").id == "a@b"
    assert (is_mirrored("tom@flip"), is_mirrored("tom"), is_mirrored("tom@rot90")) == (True, False, False)


@pytest.mark.parametrize("image_id", ["rex", "rex@flip", "tom@flip@flip", ""])
def test_no_such_image(image_id: str) -> None:
    with pytest.raises(DatasetError, match=f"mine has no image '{image_id}'"):
        photograph(IMAGES, image_id, name="mine")


def test_a_copy_turned_by_a_quarter_has_no_condition() -> None:
    with pytest.raises(DatasetError, match="mine: 'tom@rot90' is turned by a quarter"):
        photograph(IMAGES, "tom@rot90", name="mine")


def test_a_mirrored_copys_condition_is_the_mirrored_one() -> None:
    spec, labels = mask_spec(("wall", "l_eye", "r_eye")), np.asarray([[[0, 1]]], np.float32)
    assert facing(labels, spec, "tom") is labels
    assert facing(labels, spec, "tom@flip").tolist() == [[[2, 0]]]


def test_a_kind_that_is_not_there() -> None:
    require_kind("mask", ("pose", "mask"), name="mine")
    with pytest.raises(DatasetError, match="mine has no conditions of kind 'edge'; it has: pose, mask"):
        require_kind("edge", ("pose", "mask"), name="mine")
    with pytest.raises(DatasetError, match="mine has no conditions of kind 'edge'; it has none"):
        require_kind("edge", (), name="mine")


def test_what_photographs_without_keypoints_lack() -> None:
    assert "mine has no keypoint pairs, so none of split 'trn'" in str(no_pairs("mine", "trn"))
    assert "mine: category 'cat' has no flip table" in str(no_scheme("mine", "cat"))
