"""Conditions below a folder of your own images, and tables about these."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.conditions import ConditionedDataset
from matchkit.core.errors import DatasetError
from matchkit.extract.conditions.edges import render_drawing
from matchkit.extract.conditions.pose import mirrored_joints, render_pose
from matchkit.extract.datasets.folder import open_folder

Draw = Callable[[tuple[int, int], int], Image.Image]
CLASSES = "background\nleft_ear\nright_ear\n"


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    (tmp_path / "cats").mkdir()
    draw((20, 10), 0).save(tmp_path / "cats" / "tom.png")
    draw((12, 16), 1).save(tmp_path / "rex.v2.JPG")
    return tmp_path


def put(root: Path, kind: str, name: str, content: str | np.ndarray) -> Path:
    path = root / "conditions" / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        Image.fromarray(content).save(path)
    return path


def pose_json(*joints: tuple[int, float, float]) -> str:
    rows = np.zeros((18, 3))
    for joint, x, y in joints:
        rows[joint] = x, y, 1
    return json.dumps({"people": [{"pose_keypoints_2d": rows.ravel().tolist()}]})


def test_a_folder_without_conditions_has_none(root: Path) -> None:
    data = open_folder(root)
    assert isinstance(data, ConditionedDataset)
    assert data.kinds == ()
    assert data.group("cats/tom") == "cats/tom"
    with pytest.raises(DatasetError, match="folder has no conditions of kind 'mask'; it has none"):
        data.condition("cats/tom", "mask")


def test_what_lies_in_conditions_is_no_photograph(root: Path, draw: Draw) -> None:
    put(root, "edge", "cats/tom.png", np.zeros((10, 20), np.uint8))
    (root / "venice" / "conditions").mkdir(parents=True)
    draw((8, 8), 2).save(root / "venice" / "conditions" / "a.png")
    data = open_folder(root)
    assert list(data.images) == ["cats/tom", "rex.v2", "venice/conditions/a"]
    assert data.kinds == ("edge",)


def test_a_pose_is_read_from_json_or_from_text(root: Path) -> None:
    put(root, "pose", "cats/tom.json", pose_json((0, 4, 5), (1, 15, 6)))
    put(root, "pose", "rex.v2_candidate.txt", "3 4 1 0\n")
    put(root, "pose", "rex.v2_subset.txt", " ".join(["0", *["-1"] * 17, "1", "1"]))
    data = open_folder(root)
    joints = np.full((18, 2), np.nan, np.float32)
    joints[:2] = (4, 5), (15, 6)
    np.testing.assert_array_equal(data.condition("cats/tom", "pose"), render_pose(joints, size=(20, 10), zoom=0.25))
    mirrored = render_pose(mirrored_joints(joints, size=(20, 10)), size=(20, 10), zoom=0.25)
    np.testing.assert_array_equal(data.condition("cats/tom@flip", "pose"), mirrored)
    lit = data.condition("rex.v2", "pose")[:3].any(axis=0)
    assert np.argwhere(lit).mean(axis=0).tolist() == [4, 3]


def test_one_pose_an_image(root: Path) -> None:
    put(root, "pose", "cats/tom.json", pose_json((0, 4, 5)))
    put(root, "pose", "cats/tom_subset.txt", "")
    with pytest.raises(DatasetError, match=r"tom\.json and .*tom_candidate\.txt are both of image 'cats/tom'"):
        open_folder(root).condition("cats/tom", "pose")
    with pytest.raises(DatasetError, match=r"pose/rex\.v2\.json is not a readable JSON file"):
        open_folder(root).condition("rex.v2", "pose")


def test_a_mask_has_the_classes_of_its_list(root: Path) -> None:
    labels = np.zeros((10, 20), np.uint8)
    labels[2:4, 3:6] = 1
    path = put(root, "mask", "cats/tom.png", labels)
    put(root, "mask", "classes.txt", CLASSES)
    data = open_folder(root)
    assert data.condition_spec("mask").classes == ("background", "left_ear", "right_ear")
    np.testing.assert_array_equal(data.condition("cats/tom", "mask")[0], labels)
    np.testing.assert_array_equal(data.condition("cats/tom@flip", "mask")[0], 2 * labels[:, ::-1])
    put(root, "mask", "cats/tom.png", 3 * labels)
    with pytest.raises(DatasetError, match=rf"{path}: pixel \(3, 2\) holds label 3"):
        data.condition("cats/tom", "mask")
    put(root, "mask", "cats/tom.png", labels.T.copy())
    with pytest.raises(DatasetError, match=rf"{path} is 10 x 20 pixels, but its photograph 20 x 10"):
        data.condition("cats/tom", "mask")
    with pytest.raises(DatasetError, match=r"mask/rex\.v2\.png is missing"):
        data.condition("rex.v2", "mask")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "line 1 has no name"),
        (b"a\n\nb\n", "line 2 has no name"),
        (b"a\r\nb\r\na\r\n", "line 3 names class 'a' again"),
        (b"m\xe4hne\n", "must hold the name of a class a line"),
        ("\n".join(map(str, range(257))).encode(), "line 257: a mask of 8 bits has at most 256 classes"),
    ],
)
def test_a_bad_list_of_classes_is_named(root: Path, text: bytes, message: str) -> None:
    put(root, "mask", "classes.txt", "").write_bytes(text)
    with pytest.raises(DatasetError, match=rf"mask/classes\.txt:? {message}"):
        open_folder(root).condition_spec("mask")


def test_without_a_list_of_classes_there_is_no_mask(root: Path) -> None:
    put(root, "mask", "cats/tom.png", np.zeros((10, 20), np.uint8))
    with pytest.raises(DatasetError, match=r"mask/classes\.txt must hold the name of a class a line, that of label 0"):
        open_folder(root).condition("cats/tom", "mask")


def test_edges_are_a_drawing_and_the_distance_to_it(root: Path) -> None:
    drawing = np.zeros((10, 20), np.uint8)
    drawing[5, 3:9] = 255
    put(root, "edge", "cats/tom.png", drawing)
    data = open_folder(root)
    values = data.condition("cats/tom", "edge")
    np.testing.assert_array_equal(values, render_drawing(drawing))
    np.testing.assert_array_equal(data.condition("cats/tom@flip", "edge"), values[:, :, ::-1])


def test_tables_say_groups_splits_and_exemplars(root: Path) -> None:
    (root / "groups.csv").write_text("image,group\ncats/tom.png,tom\n")
    (root / "splits.csv").write_text("image,split\nrex.v2,trn\ncats\\tom,val\n")
    (root / "exemplars.csv").write_text("key,exemplar1\nrex.v2.JPG,cats/tom\n")
    data = open_folder(root)
    assert (data.group("cats/tom"), data.group("cats/tom@flip"), data.group("rex.v2")) == ("tom", "tom", "rex.v2")
    assert (data.of_split("trn"), data.of_split("val")) == (("rex.v2",), ("cats/tom",))
    assert data.exemplars("trn") == {"rex.v2": ("cats/tom",)}
    with pytest.raises(DatasetError, match=r"splits\.csv has no image of split 'test'; there are: trn, val"):
        data.of_split("test")
    with pytest.raises(DatasetError, match=r"exemplars\.csv has no line of the split's 1 images"):
        data.exemplars("val")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("rex.v2,train\n", "the split of 'rex.v2' must be one of trn, val, test, not 'train'"),
        ("rex.v2,trn\nrex.v2,val\n", "line 3 names 'rex.v2' again"),
        ("rex,trn\n", "line 2: no image 'rex'"),
        ("", "has no image"),
    ],
)
def test_a_bad_table_of_splits_is_named(root: Path, rows: str, message: str) -> None:
    (root / "splits.csv").write_text(f"image,split\n{rows}")
    with pytest.raises(DatasetError, match=rf"splits\.csv:? {message}"):
        open_folder(root).of_split("trn")


def test_a_missing_table_of_splits_is_named(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"splits\.csv is missing: it says which split an image is of"):
        open_folder(root).of_split("trn")
