"""SPair-U's layout: SPair-71k's without lists, with new keypoints, beside a link to its photographs."""

import json
import shutil
from pathlib import Path

import pytest
from dataset_trees import of_unseen

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.spair import open_spair, open_spair_u
from matchkit.extract.images import load_image

PAIR = "PairAnnotation/test/000001-2007_000001-2007_000002:cat.json"


@pytest.fixture
def root(spair_tree: Path) -> Path:
    return of_unseen(spair_tree)


def test_pairs_are_those_that_are_there_under_spairs_names(root: Path, spair_tree: Path) -> None:
    data = open_spair_u(root)
    (pair,) = data.pairs("test")
    (original,) = open_spair(spair_tree).pairs("test")
    assert (data.name, data.splits) == ("spair-u", ("test",))
    assert (pair.id, pair.source, pair.target) == (original.id, original.source, original.target)
    assert pair.target_box == original.target_box
    assert load_image(data.images[pair.source]).size == (40, 30)


def test_its_keypoints_are_its_own(root: Path, spair_tree: Path) -> None:
    fields = json.loads((root / PAIR).read_text())
    (root / PAIR).write_text(json.dumps(fields | {"src_kps": [[1, 1]], "trg_kps": [[2, 3]], "kps_ids": ["25"]}))
    (pair,) = open_spair_u(root).pairs("test")
    assert (pair.keypoint_ids, pair.target_points.tolist()) == (("25",), [[2, 3]])
    assert open_spair(spair_tree).pairs("test")[0].keypoint_ids == ("0", "7", "11")


def test_a_linked_layout_may_list_more(root: Path, spair_tree: Path) -> None:
    layout = spair_tree / "Layout" / "large" / "test.txt"
    layout.write_text(layout.read_text() + "000002-2007_000002-2007_000001:cat\n")
    (root / "Layout").symlink_to(spair_tree / "Layout")
    assert len(open_spair_u(root).pairs("test")) == 1


def test_a_tree_that_lost_its_colons_has_the_same_names(root: Path) -> None:
    (whole,) = open_spair_u(root).pairs("test")
    (root / PAIR).rename((root / PAIR).with_name("000001-2007_000001-2007_000002_cat.json"))
    assert open_spair_u(root).pairs("test")[0].id == whole.id


def test_what_is_missing_is_named(root: Path) -> None:
    data = open_spair_u(root)
    with pytest.raises(DatasetError, match="spair-u has no split 'trn'; there are: test"):
        data.pairs("trn")
    with pytest.raises(DatasetError, match="spair-u: category 'cat' has no flip table; those that have one: none"):
        data.scheme("cat")
    (root / PAIR).unlink()
    with pytest.raises(DatasetError, match="PairAnnotation/test holds no pairs"):
        data.pairs("test")
    shutil.rmtree(root / "ImageAnnotation")
    with pytest.raises(DatasetError, match=r"no spair-u dataset in .*: ImageAnnotation missing"):
        open_spair_u(root)


@pytest.mark.parametrize("name", ["../../secret", "a" * 201, "/etc/passwd"])
def test_a_list_names_no_paths(spair_tree: Path, name: str) -> None:
    (spair_tree / "Layout" / "large" / "test.txt").write_text(f"{name}\n")
    with pytest.raises(DatasetError, match=r"large/test\.txt names '.*', which is no pair's name"):
        open_spair(spair_tree).pairs("test")


def test_a_list_that_is_no_text(spair_tree: Path) -> None:
    (spair_tree / "Layout" / "large" / "test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=r"large/test\.txt is not a list in UTF-8"):
        open_spair(spair_tree).pairs("test")
