"""The toy dataset on disk: an SPair-71k tree that depends on its settings alone."""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.extract.datasets.toy import CATEGORIES, KEYPOINT_NAMES, ToySizes, make_toy

pytestmark = pytest.mark.skipif(importlib.util.find_spec("embreex") is None, reason="needs embreex: the extra [toy]")
SIZES = ToySizes(train_images=22, val_images=20, test_images=20, train_pairs=13, val_pairs=5, test_pairs=6)
IMAGES = {"trn": 22, "val": 20, "test": 20}
PAIRS = {"trn": 13, "val": 5, "test": 6}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "tree"
    make_toy(root, seed=3, sizes=SIZES, size=48, workers=1)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def annotations(root: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(root.glob(pattern))]


def test_two_workers_write_the_same_bytes_as_one(tree: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    other = tmp_path / "deep" / "other"
    make_toy(other, seed=3, sizes=SIZES, size=48, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert contents(other) == contents(tree)
    assert calls == [(n, 62) for n in range(1, 63)]
    assert list(other.parent.iterdir()) == [other]


def test_another_seed_gives_other_pictures(tree: Path, tmp_path: Path) -> None:
    small = ToySizes(1, 0, 0, 0, 0, 0)
    make_toy(tmp_path / "a", seed=4, sizes=small, size=48, workers=1)
    name = "JPEGImages/aeroplane/aeroplane_trn_00000.jpg"
    assert (tmp_path / "a" / name).read_bytes() != (tree / name).read_bytes()


def test_layout_lists_the_pairs_balanced_over_categories(tree: Path) -> None:
    for split, count in PAIRS.items():
        names = (tree / "Layout" / "large" / f"{split}.txt").read_text().splitlines()
        assert len(names) == count
        assert sorted(names) == sorted(path.stem for path in (tree / "PairAnnotation" / split).iterdir())
        per_category = Counter(name.partition(":")[2] for name in names)
        assert max(per_category.values()) - min(per_category.values()) <= 1


def test_pairs_share_three_keypoints_with_their_images_and_never_repeat(tree: Path) -> None:
    drawn = set()
    for pair in annotations(tree, "PairAnnotation/*/*.json"):
        images = []
        for side in ("src", "trg"):
            stem = Path(pair[f"{side}_imname"]).stem
            image = json.loads((tree / "ImageAnnotation" / pair["category"] / f"{stem}.json").read_text())
            assert pair[f"{side}_kps"] == [image["kps"][i] for i in pair["kps_ids"]]
            assert pair[f"{side}_bndbox"] == image["bndbox"]
            assert pair[f"{side}_imsize"] == [48, 48, 3]
            images.append(image)
        source, target = images
        assert len(pair["kps_ids"]) >= 3
        assert pair["kps_ids"] == [i for i in source["kps"] if source["kps"][i] and target["kps"][i]]
        apart = abs(source["azimuth_id"] - target["azimuth_id"])
        assert pair["viewpoint_variation"] == (0, 0, 1, 1, 2)[min(apart, 8 - apart)]
        assert source["filename"] != target["filename"]
        drawn.add((source["filename"], target["filename"]))
    assert len(drawn) == sum(PAIRS.values())


def test_splits_share_no_instance(tree: Path) -> None:
    seen: dict[str, set[int]] = {split: set() for split in IMAGES}
    for image in annotations(tree, "ImageAnnotation/*/*.json"):
        seen[image["filename"].split("_")[1]].add(image["instance"])
    assert {split: len(instances) for split, instances in seen.items()} == IMAGES
    assert not seen["trn"] & seen["val"]
    assert not seen["trn"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_images_masks_and_annotations_agree(tree: Path) -> None:
    for image in annotations(tree, "ImageAnnotation/*/*.json"):
        category, stem = image["category"], Path(image["filename"]).stem
        with Image.open(tree / "JPEGImages" / category / image["filename"]) as picture:
            assert picture.size == (image["image_width"], image["image_height"]) == (48, 48)
        with Image.open(tree / "Segmentation" / category / f"{stem}.png") as mask:
            values = np.asarray(mask)
        assert set(np.unique(values)) == {0, CATEGORIES.index(category) + 1}
        rows, columns = np.nonzero(values)
        assert image["bndbox"] == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert list(image["kps"]) == [str(i) for i in range(30)]
        points = [point for point in image["kps"].values() if point]
        assert all(0 <= x < 48 and 0 <= y < 48 for x, y in points)
        assert not any(image["kps"][str(i)] for i in range(len(KEYPOINT_NAMES[category]), 30))
        assert f" {category} seen from the " in image["caption"]


def test_a_finished_tree_is_kept(tree: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    make_toy(tree, seed=3, sizes=SIZES, size=48, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_a_tree_of_other_settings_is_refused(tree: Path) -> None:
    with pytest.raises(DatasetError, match=r"other settings \(seed, style\)\. Give another folder, or delete"):
        make_toy(tree, seed=4, sizes=SIZES, size=48, style="hard", workers=1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DatasetError, match="holds no toy dataset"):
        make_toy(tmp_path, sizes=SIZES, workers=1)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    few = ToySizes(train_images=5, val_images=0, test_images=0, train_pairs=5, val_pairs=0, test_pairs=0)
    with pytest.raises(DatasetError, match="the 1 trn images of category aeroplane make 0 pairs"):
        make_toy(tmp_path / "tree", sizes=few, size=32, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("setting", [{"seed": -1}, {"size": 4}, {"workers": 0}, {"sizes": ToySizes(train_images=-1)}])
def test_impossible_settings_are_refused(tmp_path: Path, setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_toy(tmp_path / "tree", **setting)
