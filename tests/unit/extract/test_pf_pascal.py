"""PF-PASCAL's layout: a drawn tree, where its lists may lie, and everything that can be wrong with one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_trees import of_proposals
from scipy import io

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.pf_pascal import open_pf_pascal

ARCHIVE = "PF-dataset-PASCAL"
CAT = f"{ARCHIVE}/Annotations/cat/2007_000001.mat"
TEST = f"{ARCHIVE}/test_pairs_pf_pascal.csv"
HEADER = "source_image,target_image,class"
CATS = f"{ARCHIVE}/JPEGImages/2007_000001.jpg,{ARCHIVE}/JPEGImages/2007_000002.jpg,8"


@pytest.fixture
def root(spair_tree: Path) -> Path:
    return of_proposals(spair_tree)


def annotate(path: Path, **changes: Any) -> None:
    """Changes fields of an annotation; a field set to `...` is taken out."""
    held = {name: value for name, value in io.loadmat(path).items() if not name.startswith("__")} | changes
    io.savemat(path, {name: value for name, value in held.items() if value is not ...})


def refused(root: Path, *mentions: str) -> None:
    with pytest.raises(DatasetError) as caught:
        open_pf_pascal(root).pairs("test")
    for mention in mentions:
        assert mention in str(caught.value)


def test_a_pair_has_the_keypoints_that_both_images_show(root: Path) -> None:
    data = open_pf_pascal(root)
    (pair,) = data.pairs("test")
    assert pair.id == "000001-2007_000001-2007_000002:cat"
    assert (pair.source, pair.target, pair.category) == ("cat/2007_000001", "cat/2007_000002", "cat")
    assert pair.keypoint_ids == ("0", "1")
    assert pair.source_points.tolist() == [[5, 6], [20, 10]]
    assert pair.target_points.tolist() == [[4.5, 4], [30, 12]]
    assert pair.target_box == (1, 2, 30, 28)
    assert data.images["cat/2007_000001"].keypoints == {"0": (5, 6), "1": (20, 10)}
    assert data.images["cat/2007_000002"].size == (32, 48)


def test_a_mirrored_pair_is_left_out_where_the_pair_itself_is_listed(root: Path) -> None:
    """The list of training pairs has the cats, the cats mirrored, and the dogs mirrored only."""
    pairs = open_pf_pascal(root).pairs("trn")
    assert [pair.id for pair in pairs] == ["000001-2007_000001-2007_000002:cat", "000002-2008_000003-2008_000003:dog"]


def test_a_pair_that_is_listed_twice_counts_twice(root: Path) -> None:
    (root / TEST).write_text(f"{HEADER}\n{CATS}\n{CATS}\n")
    assert len({pair.id for pair in open_pf_pascal(root).pairs("test")}) == 2


@pytest.mark.parametrize(
    "name", ["trn_pairs_pf_pascal.csv", "train_pairs_pf_pascal.csv", "trn_pairs.csv", "train_pairs.csv"]
)
@pytest.mark.parametrize("folder", [".", ARCHIVE])
def test_where_a_list_may_lie(root: Path, name: str, folder: str) -> None:
    (root / "trn_pairs_pf_pascal.csv").rename(root / folder / name)
    assert open_pf_pascal(root).splits == ("trn", "val", "test")


def test_the_root_may_be_the_archives_own_folder(root: Path) -> None:
    data = open_pf_pascal(root / ARCHIVE)
    assert (data.splits, len(data.pairs("test")), len(data.images)) == (("test",), 1, 3)


def test_what_a_disk_leaves_behind_is_no_annotation(root: Path) -> None:
    for name in (".DS_Store", "cat/.DS_Store", "cat/._2007_000001.mat", ".hidden/a.mat"):
        (root / ARCHIVE / "Annotations" / name).parent.mkdir(exist_ok=True)
        (root / ARCHIVE / "Annotations" / name).write_bytes(b"\0")
    assert len(open_pf_pascal(root).images) == 3


def test_what_is_missing_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no pf-pascal dataset in .*JPEGImages, Annotations missing"):
        open_pf_pascal(tmp_path)
    data = open_pf_pascal(root)
    with pytest.raises(DatasetError, match="pf-pascal has no split 'train'; there are: trn, val, test"):
        data.pairs("train")
    with pytest.raises(DatasetError, match="category 'cat' has no flip table"):
        data.scheme("cat")
    with pytest.raises(DatasetError, match="no segmentations, so none of image 'cat/2007_000001'"):
        data.mask("cat/2007_000001")
    for path in (root / TEST, *root.glob("*.csv")):
        path.unlink()
    with pytest.raises(DatasetError, match="holds no list of pairs: put trn_pairs_pf_pascal"):
        open_pf_pascal(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "test_pairs_pf_pascal.csv is empty"),
        (HEADER, "test_pairs_pf_pascal.csv lists no pairs"),
        (CATS, "line 1 must name the columns source_image, target_image, class"),
        (f"{HEADER}\n{CATS[:-1]}0", "line 2: class must be a number from 1 to 20, not '0'"),
        (f"{HEADER}\n{CATS}.0", "line 2: class must be a number from 1 to 20, not '8.0'"),
        (f"{HEADER}\na.jpg", "line 2: class must be a number from 1 to 20, not ''"),
        (f"{HEADER}\n{CATS[:-1]}12", "line 2: source_image names image 'dog/2007_000001', which has no annotation"),
        (f"{HEADER},flip\n{CATS},2", "line 2: flip must be 0 or 1, not '2'"),
    ],
)
def test_a_malformed_list(root: Path, text: str, message: str) -> None:
    (root / TEST).write_text(text)
    refused(root, TEST, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kps": ...}, "field 'kps' is missing"),
        ({"kps": "text"}, "field 'kps' must be a matrix of real numbers"),
        ({"kps": np.ones((3, 3))}, "field 'kps' must hold rows of 2 numbers, not of 3"),
        ({"kps": [[1, 2], [60, 3], [1, 1]]}, "keypoint 1 at (60, 3) lies outside the image of 40 x 30 pixels"),
        ({"kps": [[1, np.inf]]}, "keypoint 0 at (1, inf) lies outside"),
        ({"bbox": ...}, "field 'bbox' is missing"),
        ({"bbox": [1, 2, 3]}, "field 'bbox' must hold rows of 4 numbers"),
        ({"bbox": [1, 2, np.nan, 4]}, "field 'bbox' must hold rows of 4 numbers"),
        ({"bbox": [1, 2, 1, 4]}, "field 'bbox' is an empty box: [1.0, 2.0, 1.0, 4.0]"),
    ],
)
def test_a_malformed_annotation(root: Path, changes: dict[str, Any], message: str) -> None:
    annotate(root / CAT, **changes)
    refused(root, CAT, message)


def test_two_images_of_other_keypoints(root: Path) -> None:
    annotate(root / CAT, kps=np.ones((2, 2)))
    refused(root, "images 'cat/2007_000001' and 'cat/2007_000002' of one pair have 2 and 3 keypoints", str(root))


def test_a_keypoint_just_beyond_the_edge_stays(root: Path) -> None:
    annotate(root / CAT, kps=[[-3, 31], [1, 1], [2, 2]])
    assert open_pf_pascal(root).pairs("test")[0].source_points[0].tolist() == [-3, 31]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"no photograph")])
def test_a_photograph_that_is_none(root: Path, spoil: Callable[[Path], object]) -> None:
    spoil(root / ARCHIVE / "JPEGImages" / "2007_000001.jpg")
    refused(root, "JPEGImages/2007_000001.jpg")
