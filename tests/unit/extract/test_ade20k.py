"""ADE20K's layout, and what can be wrong with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.conditions import ConditionedDataset
from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.ade20k import CLASSES, open_ade20k
from matchkit.extract.images import load_image

Draw = Callable[[tuple[int, int], int], Image.Image]
TRAIN, OTHER, VAL = "ADE_train_00000001", "ADE_train_00000002", "ADE_val_00000001"
LABELS = np.asarray([[0, 1, 150, 255], [3, 3, 4, 255], [0, 0, 0, 0]], np.uint8)


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    for n, (folder, name) in enumerate((("training", TRAIN), ("training", OTHER), ("validation", VAL))):
        (tmp_path / folder).mkdir(exist_ok=True)
        draw((4, 3), n).save(tmp_path / folder / f"{name}.jpg")
        Image.fromarray(LABELS).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "ade20k_ref.txt").write_text(f"{TRAIN}.jpg,{OTHER}.jpg\n")
    (tmp_path / "ade20k_ref_test.txt").write_text(f"{VAL}.jpg,{OTHER}.jpg,{TRAIN}.jpg\n")
    return tmp_path


def test_photographs_are_of_their_folders_split(root: Path) -> None:
    data = open_ade20k(root)
    assert isinstance(data, ConditionedDataset)
    assert list(data.images) == [TRAIN, OTHER, VAL]
    assert (data.of_split("trn"), data.of_split("val")) == ((TRAIN, OTHER), (VAL,))
    assert load_image(data.images[VAL]).size == (4, 3)
    assert data.group(TRAIN) == TRAIN


def test_there_are_151_classes_and_a_void_pixel_is_of_the_last(root: Path) -> None:
    assert len(set(CLASSES)) == len(CLASSES) == 151
    assert (CLASSES[0], CLASSES[1], CLASSES[13], CLASSES[76], CLASSES[150]) == (
        *("unknown", "wall", "person", "swivel chair", "flag"),
    )
    data = open_ade20k(root)
    spec = data.condition_spec("mask")
    assert (spec.width, spec.outside) == (151, (0.0,))
    assert data.condition(VAL, "mask").tolist() == [[[0, 1, 150, 150], [3, 3, 4, 150], [0, 0, 0, 0]]]
    assert data.condition(f"{VAL}@flip", "mask")[0, 0].tolist() == [150, 150, 1, 0]


def test_validation_images_have_training_images_for_exemplars(root: Path) -> None:
    data = open_ade20k(root)
    assert data.exemplars("val") == {VAL: (OTHER, TRAIN)}
    assert data.exemplars("trn") == {TRAIN: (OTHER,)}
    (root / "ade20k_ref.txt").write_text(f"{TRAIN}.jpg,ADE_train_7.jpg\n")
    with pytest.raises(DatasetError, match=r"ade20k_ref\.txt: line 1: no image 'ADE_train_7\.jpg'"):
        data.exemplars("trn")


def test_a_bad_mask_is_named(root: Path) -> None:
    data, path = open_ade20k(root), root / "validation" / f"{VAL}.png"
    Image.fromarray(LABELS.T.copy()).save(path)
    with pytest.raises(DatasetError, match=rf"{VAL}\.png is 3 x 4 pixels, but its photograph 4 x 3"):
        data.condition(VAL, "mask")
    Image.fromarray(np.where(LABELS == 4, 151, LABELS)).save(path)
    with pytest.raises(DatasetError, match=rf"{VAL}\.png: pixel \(2, 1\) holds label 151"):
        data.condition(VAL, "mask")
    path.unlink()
    with pytest.raises(DatasetError, match=rf"{VAL}\.png is missing"):
        data.condition(VAL, "mask")


def test_a_scene_is_no_object(root: Path) -> None:
    with pytest.raises(DatasetError, match=f"ade20k: image '{VAL}' is a scene"):
        open_ade20k(root).mask(VAL)


def test_what_is_not_there(root: Path, tmp_path: Path) -> None:
    data = open_ade20k(root)
    with pytest.raises(DatasetError, match="ade20k has no split 'test'; there are: trn, val"):
        data.of_split("test")
    with pytest.raises(DatasetError, match=r"no ade20k dataset in .*nowhere: training and validation missing"):
        open_ade20k(tmp_path / "nowhere")
    shutil.rmtree(root / "validation")
    with pytest.raises(DatasetError, match=r"validation: split 'val' of ade20k is empty"):
        open_ade20k(root).of_split("val")
    shutil.rmtree(root / "training")
    (root / "training").mkdir()
    with pytest.raises(DatasetError, match=r"no photograph \(\*\.jpg\) in training and validation"):
        _ = open_ade20k(root).images


def test_two_photographs_of_one_name(root: Path) -> None:
    shutil.copy(root / "training" / f"{TRAIN}.jpg", root / "validation" / f"{TRAIN}.jpg")
    with pytest.raises(DatasetError, match=rf"{TRAIN}\.jpg and .*{TRAIN}\.jpg have one name"):
        _ = open_ade20k(root).images
