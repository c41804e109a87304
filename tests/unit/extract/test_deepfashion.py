"""DeepFashion's layout, and what can be wrong with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.conditions import ConditionedDataset
from matchkit.core.errors import DatasetError
from matchkit.extract.conditions.pose import mirrored_joints, render_pose
from matchkit.extract.datasets.deepfashion import open_deepfashion

Draw = Callable[[tuple[int, int], int], Image.Image]
FRONT, SIDE, RED, OTHER = (
    *("WOMEN/Dresses/id_00000001/01_1_front", "WOMEN/Dresses/id_00000001/01_2_side"),
    *("WOMEN/Dresses/id_00000001/02_1_front", "MEN/Denim/id_00000002/01_1_front"),
)
SIZE = (48, 64)


def listed(*images: str) -> str:
    """Images as the published lists name them."""
    return ",".join(f"img\\{image}.jpg".replace("/", "\\") for image in images)


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    for n, image in enumerate((FRONT, SIDE, RED, OTHER)):
        for folder in ("img", "pose"):
            (tmp_path / folder / image).parent.mkdir(parents=True, exist_ok=True)
        draw(SIZE, n).save(tmp_path / "img" / f"{image}.jpg")
        (tmp_path / "pose" / f"{image}_candidate.txt").write_text("10 8 .9 0\n24 20 .9 1\n40 60 .8 2\n")
        subset = [0, 1, -1, -1, -1, 2, *[-1] * 12, 2.6, 3]
        (tmp_path / "pose" / f"{image}_subset.txt").write_text(" ".join(map(str, subset)))
    (tmp_path / "train.txt").write_bytes(f"{listed(FRONT)}\r\n{listed(SIDE)}\r\n".encode())
    (tmp_path / "val.txt").write_text(listed(OTHER))
    (tmp_path / "test.txt").write_text(listed(RED))
    (tmp_path / "deepfashion_ref_test.txt").write_text(f"{listed(OTHER, FRONT, RED)}\n{listed(RED, OTHER)}\n")
    (tmp_path / "deepfashion_self_pair.txt").write_text(f"{listed(FRONT, SIDE)}\n{listed(SIDE, FRONT)}\n")
    return tmp_path


def test_images_splits_and_exemplars_are_named_with_backslashes(root: Path) -> None:
    data = open_deepfashion(root)
    assert isinstance(data, ConditionedDataset)
    assert list(data.images) == sorted((FRONT, SIDE, RED, OTHER))
    assert [data.of_split(split) for split in ("trn", "val", "test")] == [(FRONT, SIDE), (OTHER,), (RED,)]
    assert data.exemplars("val") == {OTHER: (FRONT, RED)}
    assert data.exemplars("test") == {RED: (OTHER,)}
    with pytest.raises(DatasetError, match=r"deepfashion_ref\.txt is missing"):
        data.exemplars("trn")


def test_a_group_is_a_garment_in_one_colour(root: Path) -> None:
    data = open_deepfashion(root)
    assert data.group(FRONT) == data.group(SIDE) == "WOMEN/Dresses/id_00000001/01"
    assert len({data.group(image) for image in data.images}) == 3
    shutil.copy(root / "img" / f"{FRONT}.jpg", root / "img" / "me.jpg")
    assert open_deepfashion(root).group("me") == "me"


def test_self_pairs_are_of_one_garment(root: Path) -> None:
    assert open_deepfashion(root).self_pairs() == {FRONT: (SIDE,), SIDE: (FRONT,)}
    (root / "deepfashion_self_pair.txt").write_text(listed(FRONT, SIDE, OTHER))
    with pytest.raises(DatasetError, match=rf"self_pair\.txt: the line of '{FRONT}' names '{OTHER}', which is another"):
        open_deepfashion(root).self_pairs()


def test_a_pose_is_drawn_to_the_photographs_scale(root: Path, draw: Draw) -> None:
    data = open_deepfashion(root)
    assert data.condition_spec("pose").width == 20
    joints = data.joints(FRONT)
    assert joints[[0, 1, 5]].tolist() == [[10, 8], [24, 20], [40, 60]]
    values = data.condition(FRONT, "pose")
    assert values.shape == (20, 64, 48)
    np.testing.assert_array_equal(values, render_pose(joints, size=SIZE, zoom=0.25))
    draw((512, 512), 0).save(root / "img" / f"{FRONT}.jpg")
    large = open_deepfashion(root).condition(FRONT, "pose")
    assert large[:3, 0, 10].any()  # the disc of the nose has a radius of 8 pixels here
    assert not large[:3, 17, 2].any()


def test_a_mirrored_pose_is_that_of_the_mirrored_joints(root: Path) -> None:
    data = open_deepfashion(root)
    joints = mirrored_joints(data.joints(FRONT), size=SIZE)
    assert joints[2].tolist() == [7, 60]  # the left shoulder is a right one
    np.testing.assert_array_equal(data.joints(f"{FRONT}@flip"), joints)
    np.testing.assert_array_equal(data.condition(f"{FRONT}@flip", "pose"), render_pose(joints, size=SIZE, zoom=0.25))


def test_a_bad_pose_is_named(root: Path) -> None:
    data, stem = open_deepfashion(root), root / "pose" / FRONT
    subset = stem.with_name(f"{stem.name}_subset.txt")
    subset.write_text(f"{subset.read_text()}\n" * 2)
    with pytest.raises(DatasetError, match=r"01_1_front_subset\.txt holds 2 persons"):
        data.condition(FRONT, "pose")
    subset.unlink()
    with pytest.raises(DatasetError, match=r"01_1_front_subset\.txt is not a readable text file"):
        data.condition(FRONT, "pose")


def test_what_is_not_there(root: Path, tmp_path: Path) -> None:
    data = open_deepfashion(root)
    with pytest.raises(DatasetError, match=f"deepfashion has no segmentation of image '{FRONT}'"):
        data.mask(FRONT)
    (root / "val.txt").write_text(listed("MEN/Denim/id_9/01_1_front"))
    with pytest.raises(DatasetError, match=r"val\.txt: line 1: no image 'img\\MEN\\Denim\\id_9\\01_1_front\.jpg'"):
        data.of_split("val")
    with pytest.raises(DatasetError, match=r"no deepfashion dataset in .*: img, pose missing"):
        open_deepfashion(tmp_path / "nowhere")
    shutil.rmtree(root / "img")
    (root / "img").mkdir()
    with pytest.raises(DatasetError, match=r"no photograph \(\*\.jpg\) in .*img"):
        _ = open_deepfashion(root).images
