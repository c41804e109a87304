"""AP-10K as GeoAware-SC's preparation leaves it: a drawn tree, and what can be wrong with one."""

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
from matchkit.extract.datasets.ap10k import open_ap10k
from matchkit.extract.images import load_image

CAT1, CAT2 = "Felidae/cat/000000000001", "Felidae/cat/000000000002"
LION, DOG = "Felidae/king cheetah/000000000003", "Canidae/dog/000000000004"
PREFIX = "data/ap-10k/"
"""Where the published preparation runs."""


def annotation(shift: int, *, hidden: tuple[int, ...] = ()) -> dict[str, Any]:
    """COCO's fields: 17 keypoints on a line, the one of id 1 with visibility 1, those of `hidden` with 0."""
    points = [[2 * n + shift, n, 2] if n not in hidden else [0, 0, 0] for n in range(17)]
    points[1][2] = min(points[1][2], 1)
    return {
        **{"id": 9, "image_id": 9, "category_id": 3, "iscrowd": 0, "area": 1, "num_keypoints": 17 - len(hidden)},
        **{"file_name": "x.jpg", "license": 1, "name": "cat", "supercategory": "Felidae", "background": 1},
        **{"width": 50, "height": 40, "bbox": [1, 2, 30, 20], "keypoints": [x for point in points for x in point]},
    }


def pair(root: Path, split: str, source: str, target: str, kind: str) -> Path:
    name = f"{Path(source).name}-{Path(target).name}:{kind}.json"
    path = root / "PairAnnotation" / split / name
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {f"{end}_json_path": f"{PREFIX}ImageAnnotation/{x}.json" for end, x in (("src", source), ("trg", target))}
    path.write_text(json.dumps(told))
    return path


@pytest.fixture
def root(tmp_path: Path, draw: Callable[[tuple[int, int], int], Image.Image]) -> Path:
    tree = tmp_path / "ap-10k"
    for number, name in enumerate((CAT1, CAT2, LION, DOG)):
        for folder in ("JPEGImages", "ImageAnnotation"):
            (tree / folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw((50, 40), number).save(tree / "JPEGImages" / f"{name}.jpg")
        fields = annotation(number, hidden=(number, 16))
        (tree / "ImageAnnotation" / f"{name}.json").write_text(json.dumps(fields))
    pair(tree, "trn", CAT1, CAT2, "species")
    pair(tree, "val", CAT2, CAT1, "species")
    pair(tree, "test", CAT2, CAT1, "species")
    pair(tree, "test", CAT1, CAT2, "species")
    pair(tree, "test", CAT1, LION, "family")
    pair(tree, "test", DOG, CAT1, "all")
    return tree


def edit(path: Path, **changes: Any) -> None:
    """Changes fields of an annotation; a field set to `...` is taken out."""
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))


def refused(root: Path, *mentions: str, split: str = "test") -> None:
    with pytest.raises(DatasetError) as caught:
        open_ap10k(root).pairs(split)
    for mention in mentions:
        assert mention in str(caught.value)


def test_images_are_named_by_family_and_species(root: Path) -> None:
    data = open_ap10k(root)
    assert isinstance(data, PairDataset)
    assert list(data.images) == [DOG, CAT1, CAT2, LION]
    record = data.images[LION]
    assert (record.category, record.size, record.azimuth) == ("king cheetah", (50, 40), None)
    assert load_image(record).size == (50, 40)


def test_every_keypoint_of_a_visibility_counts_where_it_is(root: Path) -> None:
    """GeoAware-SC §1.1: visibility is 0, 1 or 2, and one of 1 has whole coordinates."""
    keypoints = open_ap10k(root).images[CAT1].keypoints
    assert list(keypoints) == [str(number) for number in range(1, 16)]
    assert keypoints["1"] == (2.0, 1.0)
    assert keypoints["15"] == (30.0, 15.0)


def test_a_pair_has_what_both_images_show(root: Path) -> None:
    first, second = open_ap10k(root).pairs("test")
    assert first.id == "000000000001-000000000002:species"
    assert (first.source, first.target, first.category) == (CAT1, CAT2, "cat")
    assert first.keypoint_ids == tuple(str(number) for number in range(2, 16))
    assert first.source_points[0].tolist() == [4, 2]
    assert first.target_points[0].tolist() == [5, 2]
    assert first.source_points.dtype == np.float32
    assert (second.source, second.target) == (CAT2, CAT1)


def test_a_box_has_its_width_and_height_in_the_file(root: Path) -> None:
    edit(root / "ImageAnnotation" / f"{CAT1}.json", bbox=[5, 6, 7.5, 8])
    (first, _) = open_ap10k(root).pairs("test")
    assert first.source_box == (5, 6, 12.5, 14)
    assert first.target_box == (1, 2, 31, 22)


def test_every_benchmark_is_a_split(root: Path) -> None:
    data = open_ap10k(root)
    assert data.splits == ("trn", "val", "test", "test-family", "test-all")
    found = {split: [(pair.id, pair.category) for pair in data.pairs(split)] for split in data.splits[2:]}
    assert found == {
        "test": [("000000000001-000000000002:species", "cat"), ("000000000002-000000000001:species", "cat")],
        "test-family": [("000000000001-000000000003:family", "Felidae")],
        "test-all": [("000000000004-000000000001:all", "all")],
    }


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
def test_a_tree_that_lost_its_colons(root: Path, rename: Callable[[str], str]) -> None:
    whole = {split: [pair.id for pair in open_ap10k(root).pairs(split)] for split in open_ap10k(root).splits}
    for path in list((root / "PairAnnotation").glob("*/*")):
        path.rename(path.with_name(rename(path.name)))
    data = open_ap10k(root)
    assert {split: [pair.id for pair in data.pairs(split)] for split in data.splits} == whole


def test_the_tree_may_have_been_prepared_elsewhere(root: Path) -> None:
    path = root / "PairAnnotation" / "trn" / "000000000001-000000000002:species.json"
    told = {"src_json_path": f"ImageAnnotation/{CAT1}.json", "trg_json_path": rf"C:\ap\ImageAnnotation\{CAT2}.json"}
    edit(path, **{key: value.replace("/", "\\") for key, value in told.items()})
    (found,) = open_ap10k(root).pairs("trn")
    assert (found.source, found.target) == (CAT1, CAT2)


def test_what_a_drive_leaves_beside_the_pairs_is_none(root: Path) -> None:
    (root / "PairAnnotation" / "trn" / ".DS_Store").write_bytes(b"\0")
    assert len(open_ap10k(root).pairs("trn")) == 1


def test_one_scheme_for_every_animal(root: Path) -> None:
    data = open_ap10k(root)
    for category in ("cat", "king cheetah", "Felidae", "Canidae", "all"):
        assert data.scheme(category).partner("7") == "10"
    with pytest.raises(DatasetError, match="ap10k: category 'zebra' has no flip table"):
        data.scheme("zebra")


def test_there_are_no_masks(root: Path) -> None:
    with pytest.raises(DatasetError, match=f"ap10k has no segmentations, so none of image '{CAT1}'"):
        open_ap10k(root).mask(CAT1)


@pytest.mark.parametrize("folder", ["JPEGImages", "ImageAnnotation", "PairAnnotation"])
def test_a_missing_folder_is_named(root: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    with pytest.raises(DatasetError, match=rf"no prepared ap10k dataset in .*: {folder} missing\. Give its folder"):
        open_ap10k(root)


def test_no_image_annotations(root: Path) -> None:
    for path in root.glob("ImageAnnotation/*/*/*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no image annotations in .*ImageAnnotation"):
        _ = open_ap10k(root).images


def test_a_split_without_pairs(root: Path) -> None:
    refused(root, "ap10k has no split 'val-all'; there are: trn, val, test, test-family, test-all", split="val-all")
    shutil.rmtree(root / "PairAnnotation" / "val")
    refused(root, "ap10k has no split 'val'; there are: trn, test", split="val")


@pytest.mark.parametrize("field", ["src_json_path", "trg_json_path"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (..., "is missing"),
        (7, "must end in ImageAnnotation/<family>/<species>/<id>.json, not 7"),
        ("cat/1.json", "must end in ImageAnnotation/<family>/<species>/<id>.json, not 'cat/1.json'"),
        ("a/b/c/d.json", "must end in ImageAnnotation"),
        ("ImageAnnotation/Felidae/cat/7.json", "names image 'Felidae/cat/7', which has no ImageAnnotation"),
    ],
)
def test_a_bad_path_of_a_pair(root: Path, field: str, value: object, message: str) -> None:
    path = root / "PairAnnotation" / "val" / "000000000002-000000000001:species.json"
    edit(path, **{field: value})
    refused(root, str(path), field, message, split="val")


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_pair_that_is_no_annotation(root: Path, text: str) -> None:
    (root / "PairAnnotation" / "val" / "000000000002-000000000001:species.json").write_text(text)
    refused(root, "000000000002-000000000001:species.json", "JSON", split="val")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", ..., "field 'width' is missing"),
        ("height", 7.5, "field 'height' must be an integer, not 7.5"),
        ("keypoints", ..., "field 'keypoints' is missing"),
        ("keypoints", "none", "field 'keypoints' must hold a list of numbers, not 'none'"),
        ("keypoints", [1, 2, 2, 3], "field 'keypoints' must hold"),
        ("keypoints", [1, 2, "x"], "field 'keypoints' must hold numbers"),
        ("keypoints", [0, 0, 0, 1, 41, 2], "keypoint 1 at (1, 41) lies outside the image of 50 x 40 pixels"),
        ("bbox", [1, 2, 0, 4], "field 'bbox' is an empty box: [1, 2, 0, 4]"),
        ("bbox", [1, 2, 3], "field 'bbox' must hold rows of 4 numbers"),
        ("bbox", ..., "field 'bbox' is missing"),
    ],
)
def test_a_bad_field_of_an_image(root: Path, field: str, value: object, message: str) -> None:
    path = root / "ImageAnnotation" / f"{CAT1}.json"
    edit(path, **{field: value})
    refused(root, str(path), message)


def test_a_hidden_keypoint_may_lie_anywhere(root: Path) -> None:
    edit(root / "ImageAnnotation" / f"{CAT1}.json", keypoints=[-5, 900, 0, 3, 4, 2])
    assert open_ap10k(root).images[CAT1].keypoints == {"1": (3.0, 4.0)}


def test_a_pair_without_a_common_keypoint_is_a_pair(root: Path) -> None:
    edit(root / "ImageAnnotation" / f"{CAT1}.json", keypoints=[])
    (pair,) = open_ap10k(root).pairs("trn")
    assert (pair.source_points.shape, pair.keypoint_ids) == ((0, 2), ())
