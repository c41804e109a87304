"""CelebAMask-HQ's layout, and what can be wrong with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.conditions import ConditionedDataset
from matchkit.core.errors import DatasetError
from matchkit.extract.conditions.edges import borders
from matchkit.extract.conditions.place import mirrored_condition
from matchkit.extract.datasets.celeba_mask import CLASSES, PARTS, open_celeba_mask

Draw = Callable[[tuple[int, int], int], Image.Image]
SIDE = 32
"""Pixels of the masks; the photographs are twice as large."""


def part_of(top: int, left: int, height: int, width: int) -> np.ndarray:
    part = np.zeros((SIDE, SIDE), np.uint8)
    part[top : top + height, left : left + width] = 255
    return part


SKIN, EYE, HAIR = part_of(8, 6, 20, 20), part_of(12, 8, 3, 5), part_of(1, 4, 7, 24)


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    (tmp_path / "CelebA-HQ-img").mkdir()
    masks = tmp_path / "CelebAMask-HQ-mask-anno"
    for folder in ("all_parts_except_glasses", "0", "2"):
        (masks / folder).mkdir(parents=True)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for part, name in ((SKIN, "skin"), (EYE, "l_eye"), (HAIR, "hair")):
        labels[part > 0] = CLASSES.index(name)
    for n, number in enumerate((7, 12, 4001)):
        draw((2 * SIDE, 2 * SIDE), n).save(tmp_path / "CelebA-HQ-img" / f"{number}.jpg")
        Image.fromarray(labels).save(masks / "all_parts_except_glasses" / f"{number:05}.png")
        for part, name in ((SKIN, "skin"), (EYE, "l_eye"), (HAIR, "hair")):
            Image.fromarray(part).convert("RGB").save(masks / str(number // 2000) / f"{number:05}_{name}.png")
    (tmp_path / "train.txt").write_text("12\n7")
    (tmp_path / "val.txt").write_text("4001\n")
    (tmp_path / "celebahq_ref_test.txt").write_text("4001.jpg,00007.jpg,12.jpg\n")
    return tmp_path


def test_photographs_are_called_by_their_numbers(root: Path) -> None:
    data = open_celeba_mask(root)
    assert isinstance(data, ConditionedDataset)
    assert list(data.images) == ["12", "4001", "7"]
    assert (data.of_split("trn"), data.of_split("val")) == (("12", "7"), ("4001",))
    assert data.exemplars("val") == {"4001": ("7", "12")}
    assert data.group("7") == "7"
    assert data.kinds == ("mask", "edge")


def test_a_mask_is_brought_to_its_photograph_and_glasses_are_put_on(root: Path) -> None:
    data = open_celeba_mask(root)
    assert data.condition_spec("mask").width == 19
    values = data.condition("4001", "mask")
    assert values.shape == (1, 64, 64)
    assert CLASSES[int(values[0, 2 * 13, 2 * 9])] == "l_eye"
    np.testing.assert_array_equal(values[0, ::2, ::2], values[0, 1::2, 1::2])
    np.testing.assert_array_equal(data.mask("4001"), values[0] > 0)
    path = root / "CelebAMask-HQ-mask-anno" / "2" / "04001_eye_g.png"
    Image.fromarray(part_of(11, 7, 5, 18)).save(path)
    values = data.condition("4001", "mask")
    assert (values == 16).sum() == 4 * 5 * 18
    assert CLASSES[16] == "eye_g"


def test_a_mirrored_masks_left_eye_is_a_right_one(root: Path) -> None:
    there, back = (
        open_celeba_mask(root).condition(image_id, "mask")[0, :, ::way] for image_id, way in (("7", 1), ("7@flip", -1))
    )
    changed = there != back
    assert {CLASSES[int(label)] for label in there[changed]} == {"l_eye"}
    assert {CLASSES[int(label)] for label in back[changed]} == {"r_eye"}
    assert changed.sum() == 4 * (EYE > 0).sum()


def test_edges_have_the_published_fifteen_channels(root: Path) -> None:
    data = open_celeba_mask(root)
    spec = data.condition_spec("edge")
    assert spec.channels == ("edges", *PARTS, "part_edges")
    values = data.condition("7", "edge")
    assert values.shape == (15, 64, 64)
    parts = np.stack([SKIN, EYE, HAIR]).repeat(2, axis=1).repeat(2, axis=2) > 0
    np.testing.assert_array_equal(values[14], borders(parts).any(axis=0))
    for part, name in zip(parts, ("skin", "l_eye", "hair"), strict=True):
        distance = values[spec.channels.index(name)]
        assert (distance[borders(part[None])[0]] == 0).all()
        assert distance.max() > 0
    for name in set(PARTS) - {"skin", "l_eye", "hair"}:
        assert (values[spec.channels.index(name)] == 1).all()
    assert (values[0] >= values[14]).all()
    np.testing.assert_array_equal(data.condition("7@flip", "edge"), mirrored_condition(values, spec))


def test_edges_are_drawn_at_256_pixels_and_brought_to_the_photograph(root: Path, draw: Draw) -> None:
    draw((512, 512), 0).save(root / "CelebA-HQ-img" / "7.jpg")
    values = open_celeba_mask(root).condition("7", "edge")
    assert values.shape == (15, 512, 512)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        np.testing.assert_array_equal(values[:, ::2, ::2], values[:, row::2, column::2])
    across = values[14, 20 * 16, :].reshape(-1, 2)[:, 0]
    assert across[46:50].tolist() == [0, 1, 1, 0]  # two pixels of 256 where the skin begins


def test_of_a_photographs_own_edges_those_in_the_hair_stay(root: Path) -> None:
    half = np.zeros((64, 64), np.uint8)
    half[:, 32:] = 255
    Image.fromarray(half).save(root / "CelebA-HQ-img" / "7.jpg", quality=100)
    values = open_celeba_mask(root).condition("7", "edge")
    found = (values[0] - values[14])[:, 30:34].any(axis=1)
    assert found[6:12].all()  # hair lies over rows 2..15
    assert not found[20:50].any()  # skin over rows 16..55


def test_what_has_no_files_of_a_kind_has_no_such_kind(root: Path) -> None:
    masks = root / "CelebAMask-HQ-mask-anno"
    shutil.rmtree(masks / "all_parts_except_glasses")
    data = open_celeba_mask(root)
    assert data.kinds == ("edge",)
    with pytest.raises(DatasetError, match="celeba-mask has no conditions of kind 'mask'; it has: edge"):
        data.condition("7", "mask")


def test_bad_masks_and_parts_are_named(root: Path) -> None:
    data, masks = open_celeba_mask(root), root / "CelebAMask-HQ-mask-anno"
    whole = masks / "all_parts_except_glasses" / "00007.png"
    Image.fromarray(np.full((SIDE, SIDE), 19, np.uint8)).save(whole)
    with pytest.raises(DatasetError, match=r"00007\.png: pixel \(0, 0\) holds label 19"):
        data.condition("7", "mask")
    Image.fromarray(np.zeros((SIDE, SIDE + 1), np.uint8)).save(whole)
    with pytest.raises(DatasetError, match=r"00007\.png is 33 x 32 pixels, which is not the shape .* 64 x 64"):
        data.condition("7", "mask")
    whole.unlink()
    with pytest.raises(DatasetError, match=r"00007\.png is missing"):
        data.condition("7", "mask")
    (masks / "0" / "00007_hair.png").write_text("text")
    with pytest.raises(DatasetError, match=r"00007_hair\.png cannot be decoded"):
        data.condition("7", "edge")
    for path in masks.glob("0/00007_*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no part of image '7' is there; the first looked for: .*00007_skin\.png"):
        data.condition("7", "edge")


def test_what_is_not_there(root: Path, tmp_path: Path) -> None:
    data = open_celeba_mask(root)
    with pytest.raises(DatasetError, match=r"celebahq_ref\.txt is missing: it says which images are exemplars"):
        data.exemplars("trn")
    with pytest.raises(DatasetError, match=r"test\.txt is missing: it lists the images of split 'test'"):
        data.of_split("test")
    (root / "val.txt").write_text("4001\n5\n")
    with pytest.raises(DatasetError, match=r"val\.txt: line 2: no image '5'"):
        data.of_split("val")
    with pytest.raises(
        DatasetError, match=r"no celeba-mask dataset in .*: CelebA-HQ-img, CelebAMask-HQ-mask-anno miss"
    ):
        open_celeba_mask(tmp_path / "nowhere")


def test_photographs_must_be_numbers_and_differ(root: Path) -> None:
    photos = root / "CelebA-HQ-img"
    shutil.copy(photos / "7.jpg", photos / "00007.jpg")
    with pytest.raises(DatasetError, match=r"7\.jpg and .*0*7\.jpg have one number"):
        _ = open_celeba_mask(root).images
    (photos / "00007.jpg").rename(photos / "me.jpg")
    with pytest.raises(DatasetError, match=r"me\.jpg: the name of a photograph of celeba-mask must be its number"):
        _ = open_celeba_mask(root).images
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(DatasetError, match=r"no photograph \(\*\.jpg\) in .*CelebA-HQ-img"):
        _ = open_celeba_mask(root).images
