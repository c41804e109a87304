"""SPair-71k's layout: the real files in little, a drawn tree, and everything that can be wrong with one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.records import PairDataset
from matchkit.extract.datasets.spair import VOC, open_spair, open_toy
from matchkit.extract.images import load_image

IMAGE = "ImageAnnotation/cat/2007_000001.json"
PAIR = "PairAnnotation/test/000001-2007_000001-2007_000002:cat.json"


def edit(path: Path, **changes: Any) -> None:
    """Changes fields of an annotation; a field set to `...` is taken out."""
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def refused(root: Path, *mentions: str) -> None:
    """The test split is refused, and the message holds every mention."""
    with pytest.raises(DatasetError) as caught:
        open_spair(root).pairs("test")
    for mention in mentions:
        assert mention in str(caught.value)


def test_the_real_images(spair_mini: Path) -> None:
    images = open_spair(spair_mini).images
    assert len(images) == 12
    assert list(images) == sorted(images)
    record = images["aeroplane/2008_007604"]
    assert (record.size, record.category, record.azimuth) == ((333, 500), "aeroplane", 0)
    for name in ("aeroplane/2008_007604", "pottedplant/2011_001863"):
        assert load_image(images[name]).size == images[name].size


def test_the_real_pairs(spair_mini: Path) -> None:
    data = open_spair(spair_mini)
    assert [len(data.pairs(split)) for split in data.splits] == [12, 6, 12]
    pair = data.pairs("test")[0]
    assert pair.id == "000001-2011_001863-2010_002195:pottedplant"
    assert (pair.source, pair.target) == ("pottedplant/2011_001863", "pottedplant/2010_002195")
    assert pair.source_points.tolist() == [[3, 383], [143, 377], [67, 396], [149, 470]]
    assert pair.target_points.tolist() == [[145, 394], [196, 395], [172, 397], [191, 412]]
    assert pair.keypoint_ids == ("0", "2", "3", "5")
    assert (pair.source_box, pair.target_box) == ((2, 1, 372, 500), (110, 275, 227, 444))
    layout = (spair_mini / "Layout" / "large" / "test.txt").read_text().split()
    assert [pair.id for pair in data.pairs("test")] == layout


def test_the_drawn_tree(spair_tree: Path) -> None:
    data = open_spair(spair_tree)
    assert isinstance(data, PairDataset)
    assert list(data.images) == ["cat/2007_000001", "cat/2007_000002", "dog/2008_000003"]
    assert data.images["cat/2007_000002"].azimuth == 1
    assert load_image(data.images["cat/2007_000001"]).size == (40, 30)
    (pair,) = data.pairs("test")
    assert pair.category == "cat"
    assert pair.target_points.dtype == np.float32
    assert pair.target_points.tolist() == [[4, 4], [30, 12], [16, 29]]
    assert pair.keypoint_ids == ("0", "7", "11")
    assert pair.source_box == (1, 2, 30, 28)
    assert pair.variations == {
        **{"mirror": 0, "viewpoint_variation": 1, "scale_variation": 2, "truncation": 0, "occlusion": 3}
    }


def test_toy_is_the_same_layout_under_another_name(spair_tree: Path) -> None:
    assert (open_toy(spair_tree).name, open_spair(spair_tree).name) == ("toy", "spair")
    assert list(open_toy(spair_tree).images) == list(open_spair(spair_tree).images)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace(":", "_"),
        lambda name: name.replace(":", ""),
        lambda name: name.replace(":", "\uf03a"),  # how some drives write a colon
        lambda name: name.partition(":")[0],  # NTFS takes the rest for a stream's name
        lambda name: name.partition(":")[0] + ".json",
    ],
)
def test_a_tree_that_lost_its_colons(spair_tree: Path, rename: Callable[[str], str]) -> None:
    whole = open_spair(spair_tree).pairs("trn")
    for path in list((spair_tree / "PairAnnotation" / "trn").iterdir()):
        path.rename(path.with_name(rename(path.name)))
    found = open_spair(spair_tree).pairs("trn")
    assert [(pair.id, pair.source, pair.target) for pair in found] == [
        (pair.id, pair.source, pair.target) for pair in whole
    ]


@pytest.mark.parametrize("folder", ["JPEGImages", "ImageAnnotation", "PairAnnotation", "Layout"])
def test_a_missing_folder_is_named(spair_tree: Path, folder: str) -> None:
    shutil.rmtree(spair_tree / folder)
    with pytest.raises(DatasetError, match=rf"no spair dataset in .*: {folder} missing\. Give its folder with --root"):
        open_spair(spair_tree)


def test_a_missing_root_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no toy dataset in .*Run: matchkit datasets make toy"):
        open_toy(tmp_path / "nowhere")


def test_no_image_annotations(spair_tree: Path) -> None:
    for path in spair_tree.glob("ImageAnnotation/*/*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no image annotations in .*ImageAnnotation"):
        _ = open_spair(spair_tree).images


def test_an_unknown_split(spair_tree: Path) -> None:
    with pytest.raises(DatasetError, match="spair has no split 'train'; there are: trn, val, test"):
        open_spair(spair_tree).pairs("train")


def test_an_empty_split(spair_tree: Path) -> None:
    (spair_tree / "Layout" / "large" / "test.txt").write_text("\n\n")
    refused(spair_tree, "test.txt lists no pairs", "split 'test' of spair is empty")


def test_a_missing_layout(spair_tree: Path) -> None:
    (spair_tree / "Layout" / "large" / "test.txt").unlink()
    refused(spair_tree, "test.txt is missing")


@pytest.mark.parametrize("also_the_folder", [False, True])
def test_a_missing_pair_annotation(spair_tree: Path, *, also_the_folder: bool) -> None:
    (spair_tree / PAIR).unlink()
    if also_the_folder:
        (spair_tree / PAIR).parent.rmdir()
    refused(spair_tree, PAIR, "is missing", "no annotation for pair '000001-2007_000001-2007_000002:cat'")


@pytest.mark.parametrize("text", ["", "{", "\xff"])
def test_an_annotation_that_is_not_json(spair_tree: Path, text: str) -> None:
    (spair_tree / PAIR).write_bytes(text.encode("latin-1"))
    refused(spair_tree, PAIR, "is not a readable JSON annotation")


def test_an_annotation_that_is_no_object(spair_tree: Path) -> None:
    (spair_tree / PAIR).write_text("[1]")
    refused(spair_tree, PAIR, "must hold a JSON object, not list")


@pytest.mark.parametrize(
    "field", ["src_imname", "trg_imname", "category", "src_kps", "trg_kps", "src_bndbox", "trg_bndbox"]
)
def test_a_missing_field_of_a_pair(spair_tree: Path, field: str) -> None:
    edit(spair_tree / PAIR, **{field: ...})
    refused(spair_tree, PAIR, f"field '{field}' is missing")


@pytest.mark.parametrize("field", ["filename", "image_width", "image_height"])
def test_a_missing_field_of_an_image(spair_tree: Path, field: str) -> None:
    edit(spair_tree / IMAGE, **{field: ...})
    refused(spair_tree, IMAGE, f"field '{field}' is missing")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("src_imname", 7, "must be a plain name, not 7"),
        ("src_imname", "../secret.jpg", "must be a plain name, not '../secret.jpg'"),
        ("src_imname", "2009_999999.jpg", "names image 'cat/2009_999999', which has no ImageAnnotation"),
        ("src_kps", [[1, 2], [3, "x"], [4, 5]], "must hold numbers"),
        ("src_kps", [[1, 2, 3]], "must hold rows of 2 numbers"),
        ("src_kps", [1, 2, 3], "must hold rows of 2 numbers"),
        ("trg_kps", [[1, None], [1, 2], [1, 2]], "'trg_kps' must hold"),
        ("trg_bndbox", [1, 2, 3], "must hold rows of 4 numbers"),
        ("trg_bndbox", "box", "must hold"),
        ("mirror", "no", "must be an integer, not 'no'"),
        ("kps_ids", ["0"], "src_kps, trg_kps and kps_ids must be lists of one length"),
        ("kps_ids", "012", "src_kps, trg_kps and kps_ids must be lists of one length"),
        ("trg_kps", [[1, 2]], "src_kps, trg_kps and kps_ids must be lists of one length"),
    ],
)
def test_a_field_of_the_wrong_type(spair_tree: Path, field: str, value: object, message: str) -> None:
    edit(spair_tree / PAIR, **{field: value})
    refused(spair_tree, PAIR, field, message)


def test_an_image_size_of_the_wrong_type(spair_tree: Path) -> None:
    edit(spair_tree / IMAGE, image_width="40")
    refused(spair_tree, IMAGE, "field 'image_width' must be an integer, not '40'")


@pytest.mark.parametrize("point", [[41, 10], [10, 31], [-1, 0], [0, -0.5]])
def test_a_keypoint_outside_its_image(spair_tree: Path, point: list[float]) -> None:
    edit(spair_tree / PAIR, src_kps=[[5, 6], point, [1, 1]])
    x, y = point
    refused(spair_tree, PAIR, "'src_kps'", f"keypoint 1 at ({x:g}, {y:g}) lies outside the image of 40 x 30 pixels")


def test_a_keypoint_on_the_last_row_counted_from_one_passes(spair_tree: Path) -> None:
    edit(spair_tree / PAIR, src_kps=[[40, 30], [0, 0], [1, 1]])
    assert open_spair(spair_tree).pairs("test")[0].source_points[0].tolist() == [40, 30]


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5, 9, 9, 9], [9, 5, 5, 9]])
def test_an_empty_box(spair_tree: Path, box: list[int]) -> None:
    edit(spair_tree / PAIR, trg_bndbox=box)
    refused(spair_tree, PAIR, f"field 'trg_bndbox' is an empty box: {box}")


def test_a_pair_without_keypoints_is_a_pair(spair_tree: Path) -> None:
    edit(spair_tree / PAIR, src_kps=[], trg_kps=[], kps_ids=[])
    assert open_spair(spair_tree).pairs("test")[0].source_points.shape == (0, 2)


def test_keypoints_without_ids_are_numbered(spair_tree: Path) -> None:
    edit(spair_tree / PAIR, kps_ids=...)
    assert open_spair(spair_tree).pairs("test")[0].keypoint_ids == ("0", "1", "2")


def images_refused(root: Path, *mentions: str) -> None:
    with pytest.raises(DatasetError) as caught:
        _ = open_spair(root).images
    for mention in mentions:
        assert mention in str(caught.value)


def test_the_real_keypoints_are_those_of_the_pairs(spair_mini: Path) -> None:
    data = open_spair(spair_mini)
    assert data.images["aeroplane/2008_007604"].keypoints["16"] == (94, 178)
    assert "3" not in data.images["aeroplane/2008_007604"].keypoints
    for pair in data.pairs("test"):
        source, target = (data.images[image].keypoints for image in (pair.source, pair.target))
        assert [list(source[name]) for name in pair.keypoint_ids] == pair.source_points.tolist()
        assert [list(target[name]) for name in pair.keypoint_ids] == pair.target_points.tolist()
        assert set(pair.keypoint_ids) == source.keys() & target.keys()


def test_keypoints_of_an_image_are_those_that_are_not_null(spair_tree: Path) -> None:
    edit(spair_tree / IMAGE, kps={"0": [5, 6], "7": None, "11": [40, 30]})
    images = open_spair(spair_tree).images
    assert images["cat/2007_000001"].keypoints == {"0": (5.0, 6.0), "11": (40.0, 30.0)}
    assert images["cat/2007_000002"].keypoints == {}  # its annotation says nothing of keypoints


def test_an_image_that_shows_no_keypoint(spair_tree: Path) -> None:
    edit(spair_tree / IMAGE, kps={"0": None})
    assert open_spair(spair_tree).images["cat/2007_000001"].keypoints == {}


@pytest.mark.parametrize(
    ("kps", "message"),
    [
        ([[1, 2]], "field 'kps' must hold points by their ids, not [[1, 2]]"),
        (None, "field 'kps' must hold points by their ids, not None"),
        ({"0": [1, 2, 3]}, "field 'kps' must hold rows of 2 numbers"),
        ({"0": [1, "x"]}, "field 'kps' must hold numbers"),
        ({"0": [1, 2], "7": [41, 2]}, "field 'kps': keypoint 7 at (41, 2) lies outside the image of 40 x 30 pixels"),
    ],
)
def test_bad_keypoints_of_an_image(spair_tree: Path, kps: object, message: str) -> None:
    edit(spair_tree / IMAGE, kps=kps)
    images_refused(spair_tree, IMAGE, message)


def test_a_scheme_is_that_of_the_category(spair_tree: Path) -> None:
    data = open_spair(spair_tree)
    assert data.scheme("dog").partner("9") == "10"
    assert data.scheme("horse").partner("9") == "9"
    assert open_toy(spair_tree).scheme("dog").partner("9") == "10"
    assert ("7", "8", "9", "10") in open_toy(spair_tree).scheme("dog").groups


def test_a_category_without_a_flip_table_is_named(spair_tree: Path) -> None:
    with pytest.raises(DatasetError, match="spair: category 'zebra' has no flip table; those that have one: aeroplane"):
        open_spair(spair_tree).scheme("zebra")
    with pytest.raises(DatasetError, match="toy: category 'cat' has no flip table; those that have one: aeroplane, b"):
        open_toy(spair_tree).scheme("cat")


def test_vocs_classes_are_twenty_in_alphabetical_order() -> None:
    assert len(VOC) == 20
    assert list(VOC) == sorted(VOC)
    assert (VOC.index("cat") + 1, VOC.index("dog") + 1, VOC.index("tvmonitor") + 1) == (8, 12, 20)


def segment(root: Path, labels: np.ndarray, image: str = "cat/2007_000001") -> Path:
    path = root / "Segmentation" / f"{image}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)
    return path


def test_a_mask_is_the_pixels_of_the_category(spair_tree: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[3:9, 5:20] = 8  # cat
    labels[12:20, 5:20] = 12  # a dog beside it
    labels[9, :] = 255
    segment(spair_tree, labels)
    mask = open_spair(spair_tree).mask("cat/2007_000001")
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, labels == 8)


def test_a_mask_that_says_no_class_is_all_that_is_no_background(spair_tree: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[3:9, 5:20], labels[9, :] = 1, 255
    segment(spair_tree, labels)
    np.testing.assert_array_equal(open_spair(spair_tree).mask("cat/2007_000001"), labels == 1)


def test_a_toy_mask_has_the_categorys_place_in_the_toys_own_list(spair_tree: Path) -> None:
    """dog is class 12 of PASCAL VOC and the fifth category of the toy dataset."""
    labels = np.zeros((36, 36), np.uint8)
    labels[3:9], labels[10:12] = 5, 12
    segment(spair_tree, labels, "dog/2008_000003")
    np.testing.assert_array_equal(open_toy(spair_tree).mask("dog/2008_000003"), labels == 5)
    np.testing.assert_array_equal(open_spair(spair_tree).mask("dog/2008_000003"), labels == 12)


def test_a_missing_mask_is_named(spair_tree: Path) -> None:
    with pytest.raises(DatasetError, match=r"Segmentation/cat/2007_000001\.png is missing"):
        open_spair(spair_tree).mask("cat/2007_000001")
    with pytest.raises(DatasetError, match="spair has no image 'cat/0'"):
        open_spair(spair_tree).mask("cat/0")


def test_a_mask_of_another_size_is_refused(spair_tree: Path) -> None:
    segment(spair_tree, np.ones((40, 30), np.uint8))
    with pytest.raises(DatasetError, match=r"2007_000001\.png is 30 x 40 pixels, but its image 40 x 30"):
        open_spair(spair_tree).mask("cat/2007_000001")
