"""PF-WILLOW's layout: a drawn tree, and everything that can be wrong with its list."""

import csv
from pathlib import Path

import pytest
from dataset_trees import of_willows

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.pf_willow import open_pf_willow

LIST = "test_pairs.csv"


@pytest.fixture
def root(spair_tree: Path) -> Path:
    return of_willows(spair_tree)


def edit(root: Path, column: int, value: str) -> None:
    """Changes a value of the first pair."""
    with (root / LIST).open(newline="") as file:
        rows = list(csv.reader(file))
    rows[1][column] = value
    with (root / LIST).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def refused(root: Path, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        open_pf_willow(root).pairs("test")
    assert f"{LIST}: line 2" in str(caught.value)
    assert message in str(caught.value)


def test_a_line_holds_ten_x_then_ten_y_of_each_image(root: Path) -> None:
    data = open_pf_willow(root)
    pair, _ = data.pairs("test")
    assert pair.id == "000001-Cars_006a-Cars_007a:car(G)"
    assert (pair.source, pair.target, pair.category) == ("car(G)/Cars_006a", "car(G)/Cars_007a", "car(G)")
    assert pair.source_points.tolist() == [[2.5 * n, 20 - 2 * n] for n in range(10)]
    assert pair.target_points.tolist() == [[20 - 2 * n, 2.5 * n] for n in range(10)]
    assert pair.keypoint_ids == tuple("0123456789")
    assert data.images[pair.source].size == (40, 30)


def test_a_box_is_the_extent_of_the_keypoints(root: Path) -> None:
    pair, _ = open_pf_willow(root).pairs("test")
    assert pair.source_box == (0, 2, 22.5, 20)
    assert pair.target_box == (2, 0, 20, 22.5)


@pytest.mark.parametrize("place", ["test_pairs_pf.csv", "PF-dataset/test_pairs.csv", "PF-dataset/test_pairs_pf.csv"])
def test_where_the_list_may_lie(root: Path, place: str) -> None:
    (root / LIST).rename(root / place)
    assert len(open_pf_willow(root).pairs("test")) == 2


def test_the_root_may_be_the_archives_own_folder(root: Path) -> None:
    (root / LIST).rename(root / "PF-dataset" / LIST)
    assert len(open_pf_willow(root / "PF-dataset").pairs("test")) == 2


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no pf-willow dataset in .*test_pairs.csv or test_pairs_pf.csv missing"):
        open_pf_willow(tmp_path)
    data = open_pf_willow(root)
    with pytest.raises(DatasetError, match="pf-willow has no split 'trn'; there are: test"):
        data.pairs("trn")
    with pytest.raises(DatasetError, match=r"category 'car\(G\)' has no flip table"):
        data.scheme("car(G)")
    with pytest.raises(DatasetError, match="no segmentations, so none of image 'a'"):
        data.mask("a")
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no photographs \(<class>/\*\.png\) in .*PF-dataset"):
        open_pf_willow(root).pairs("test")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, "Cars_006a.png", "names image 'Cars_006a', which is not in"),
        (1, "PF-dataset/car(G)/none.png", "names image 'car(G)/none'"),
        (2, "x", "coordinates must be numbers: could not convert string to float: 'x'"),
        (2, "nan", "image 'car(G)/Cars_006a': keypoint 0 at (nan, 20) lies outside the image of 40 x 30 pixels"),
        (41, "1e400", "image 'car(G)/Cars_007a': keypoint 9 at (2, inf) lies outside the image of 32 x 48 pixels"),
        (12, "41", "keypoint 0 at (0, 41) lies outside"),
        (41, "", "must hold 2 images and 40 coordinates, not 41 values"),
    ],
)
def test_a_malformed_line(root: Path, column: int, value: str, message: str) -> None:
    edit(root, column, value)
    refused(root, message)


def test_keypoints_in_one_line_have_no_box(root: Path) -> None:
    for column in range(32, 42):
        edit(root, column, "7")
    refused(root, "the keypoints' extent is an empty box")


def test_a_list_without_pairs(root: Path) -> None:
    (root / LIST).write_text("imageA,imageB\n")
    with pytest.raises(DatasetError, match="lists no pairs"):
        open_pf_willow(root).pairs("test")
