"""Toy objects photographed several times: the pictures, their tree, what is read from it, and the truth."""

import importlib
import importlib.util
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matchkit.core.conditions import ConditionedDataset
from matchkit.core.errors import ConfigError, DatasetError, UnknownNameError
from matchkit.extract.datasets.toy import KEYPOINT_NAMES, SCHEMES
from matchkit.extract.datasets.toy.part_names import CLASSES, LIMBS, PARTS
from matchkit.extract.datasets.toy.truth import depth_edges
from matchkit.extract.datasets.toy.views import ViewSettings, parse_id, take, view_ids
from matchkit.extract.datasets.toy.write_views import make_toy_views
from matchkit.extract.datasets.toy_views import LIMB_CHANNELS, ToyViews, open_toy_views

EMBREEX = pytest.mark.skipif(importlib.util.find_spec("embreex") is None, reason="needs embreex: the extra [toy]")
SETTINGS = ViewSettings(seed=3, train_objects=5, val_objects=4, test_objects=1, size=48)
DOG, OTHER_DOG, CAR = "dog/trn_00000_0", "dog/trn_00000_1", "car/trn_00000_0"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views") / "tree"
    make_toy_views(folder, SETTINGS, workers=1)
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> ToyViews:
    return open_toy_views(root)


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """A tree to spoil."""
    return Path(shutil.copytree(root, tmp_path / "tree"))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_ids_are_dealt_out_over_the_categories() -> None:
    ids = [str(image) for image in view_ids(SETTINGS, "trn")]
    assert ids == sorted(ids)
    assert ids[:4] == [f"aeroplane/trn_{number:05d}_{view}" for number in (0, 1) for view in (0, 1)]
    assert Counter(name.split("/")[0] for name in ids) == {"aeroplane": 4, "bird": 2, "car": 2, "dog": 2}
    sizes = {split: len(view_ids(ViewSettings(), split)) for split in ("trn", "val", "test")}
    assert sizes == {"trn": 1440, "val": 80, "test": 200}
    with pytest.raises(UnknownNameError, match="no split 'train'; there are: trn, val, test"):
        view_ids(SETTINGS, "train")


def test_an_id_says_which_picture_it_is() -> None:
    for image in view_ids(SETTINGS, "trn"):
        assert parse_id(str(image)) == image
    assert parse_id("dog/test_00003_1").group == "dog/test_00003"
    for wrong in ("dog/test_00003", "chair/test_00003_1", "dog/train_00003_1", "dog/test_00003_1@flip"):
        with pytest.raises(DatasetError, match=f"'{wrong}' names no picture of a toy object"):
            parse_id(wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"train_objects": -1}, {"views": 0}, {"size": 8}, {"azimuths": (90.0, 30.0)}],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(SETTINGS, **wrong)
    with pytest.raises(ConfigError):
        ViewSettings(train_objects=0, val_objects=0, test_objects=0)


@EMBREEX
def test_pictures_of_an_object_share_all_but_the_camera() -> None:
    one, other = (take(SETTINGS, parse_id(name)) for name in (DOG, OTHER_DOG))
    np.testing.assert_array_equal(one.instance.vertices, other.instance.vertices)
    assert one.instance.paints == other.instance.paints
    for shared in ("light", "ambient", "tint", "ground", "palette", "texture"):
        assert getattr(one.view, shared) == getattr(other.view, shared)
    for own in ("azimuth", "elevation", "roll", "distance", "span", "offset"):
        assert getattr(one.view, own) != getattr(other.view, own)
    again = take(SETTINGS, parse_id(DOG))
    np.testing.assert_array_equal(again.rendering.image, one.rendering.image)
    for changed in (replace(SETTINGS, seed=4), replace(SETTINGS, azimuths=(200.0, 210.0))):
        assert (take(changed, parse_id(DOG)).rendering.image != one.rendering.image).any()


@EMBREEX
def test_cameras_stand_between_the_azimuths_and_no_object_stands_twice() -> None:
    small = replace(SETTINGS, train_objects=2, val_objects=2, size=16, azimuths=(30.0, 40.0))
    shots = [take(small, image) for split in ("trn", "val") for image in view_ids(small, split)]
    azimuths = [shot.view.azimuth for shot in shots]
    assert 30 <= min(azimuths) < max(azimuths) <= 40
    assert len(set(azimuths)) == len(azimuths)
    assert len({(shot.instance.category, shot.instance.seed) for shot in shots}) == len(shots) / 2


@EMBREEX
def test_two_workers_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    few, calls = replace(SETTINGS, train_objects=1, val_objects=1, test_objects=0, size=32), []
    make_toy_views(tmp_path / "one", few, workers=1)
    other = tmp_path / "deep" / "two"
    make_toy_views(other, few, workers=2, progress=lambda done, total: calls.append((done, total)))
    assert contents(other) == contents(tmp_path / "one")
    assert calls == [(n, 4) for n in range(1, 5)]
    assert list(other.parent.iterdir()) == [other]


@EMBREEX
def test_a_finished_tree_is_kept_and_another_one_refused(root: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    make_toy_views(root, SETTINGS, workers=1)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(DatasetError, match=r"holds a toy-views dataset of other settings \(seed\)\. Give another"):
        make_toy_views(root, replace(SETTINGS, seed=4), workers=1)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DatasetError, match="in the way: it holds no toy-views dataset"):
        make_toy_views(tmp_path, SETTINGS, workers=1)
    with pytest.raises(ConfigError, match="at least one worker, not 0"):
        make_toy_views(tmp_path / "new", SETTINGS, workers=0)


@EMBREEX
def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_toy_views(tmp_path / "tree", SETTINGS, workers=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@EMBREEX
def test_files_hold_what_the_picture_is_known_to_show(data: ToyViews, root: Path) -> None:
    shot = take(SETTINGS, parse_id(CAR))
    with Image.open(root / "JPEGImages" / f"{CAR}.jpg") as photo:
        gap = np.abs(np.asarray(photo).astype(int) - shot.rendering.image)
    assert gap.mean() < 4
    np.testing.assert_array_equal(data.mask(CAR), shot.rendering.mask)
    np.testing.assert_array_equal(data.condition(CAR, "edge")[0] == 1, depth_edges(shot.rendering))
    record = data.images[CAR]
    seen = np.flatnonzero(shot.rendering.visible)
    assert list(record.keypoints) == [str(n) for n in seen]
    np.testing.assert_allclose(list(record.keypoints.values()), shot.rendering.keypoints[seen], atol=0.51)
    joints = json.loads((root / "Joints" / f"{CAR}.json").read_text())["joints"]
    assert tuple(joints) == KEYPOINT_NAMES["car"]
    np.testing.assert_allclose(list(joints.values()), shot.rendering.keypoints, atol=1e-3)


@EMBREEX
def test_images_groups_and_splits(data: ToyViews) -> None:
    assert isinstance(data, ConditionedDataset)
    assert len(data.images) == 20
    record = data.images[DOG]
    assert (record.size, record.category, record.azimuth in (0, 1, 2)) == ((48, 48), "dog", True)
    assert data.group(DOG) == data.group(OTHER_DOG) == data.group(f"{DOG}@flip") == "dog/trn_00000"
    assert data.group("dog/val_00000_0") == "dog/val_00000"
    splits = {split: data.of_split(split) for split in ("trn", "val", "test")}
    assert {split: len(ids) for split, ids in splits.items()} == {"trn": 10, "val": 8, "test": 2}
    assert sorted(name for ids in splits.values() for name in ids) == list(data.images)
    assert data.scheme("dog") == SCHEMES["dog"]
    with pytest.raises(DatasetError, match="category 'chair' has no flip table; those that have one: aeroplane, bird"):
        data.scheme("chair")
    with pytest.raises(DatasetError, match=r"no list of exemplars of split 'val'\. Run: matchkit pairs"):
        data.exemplars("val")


@EMBREEX
def test_a_pose_has_the_limbs_of_its_own_category_alone(data: ToyViews) -> None:
    spec, values = data.condition_spec("pose"), data.condition(DOG, "pose")
    assert len(spec.channels) == 3 + sum(map(len, LIMBS.values())) == len(set(spec.channels))
    assert spec.channels[3:] == LIMB_CHANNELS
    assert "dog/withers-tail_root" in LIMB_CHANNELS
    drawn = [name for name, channel in zip(spec.channels, values, strict=True) if (channel < 1).any()]
    assert drawn[:3] == ["red", "green", "blue"]
    assert drawn[3:] == [f"dog/{one}-{other}" for one, other in LIMBS["dog"]]
    limb = values[spec.channels.index("dog/withers-tail_root")]
    joints = take(SETTINGS, parse_id(DOG)).rendering.keypoints
    ends = [joints[KEYPOINT_NAMES["dog"].index(name)] for name in ("withers", "tail_root")]
    x, y = np.rint(np.mean(ends, 0)).astype(int)
    assert limb[y, x] == 0


@EMBREEX
def test_a_mirrored_copy_exchanges_the_sides(data: ToyViews) -> None:
    labels, back = data.labels(CAR), data.labels(f"{CAR}@flip")
    left, right = (CLASSES.index(f"car/{side}_front_wheel") for side in ("left", "right"))
    np.testing.assert_array_equal((labels == left)[:, ::-1], back == right)
    assert (back == right).any()
    names = data.condition_spec("pose").channels
    there, back_pose = data.condition(CAR, "pose"), data.condition(f"{CAR}@flip", "pose")
    one, other = (names.index(f"car/{side}_headlight-{side}_front_wheel") for side in ("left", "right"))
    np.testing.assert_array_equal(back_pose[other], there[one][:, ::-1])


@EMBREEX
def test_masks_are_of_all_parts_together(data: ToyViews) -> None:
    assert data.condition_spec("mask").classes == CLASSES
    assert len(CLASSES) == 1 + sum(map(len, PARTS.values()))
    found = {CLASSES[label] for label in np.unique(data.labels(DOG))}
    assert found <= {"background", *(f"dog/{part}" for part in PARTS["dog"])}


@EMBREEX
def test_the_truth_of_two_pictures(data: ToyViews) -> None:
    truth = data.truth(DOG, OTHER_DOG)
    assert truth.flow.shape == (48, 48, 2)
    known = np.isfinite(truth.flow[..., 0])
    assert 0.4 < known.sum() / data.mask(DOG).sum() <= 1
    assert not known[~data.mask(DOG)].any()
    x, y = np.rint(truth.flow[known]).astype(int).clip(0, 47).T
    assert (data.labels(OTHER_DOG)[y, x] == data.labels(DOG)[known]).mean() > 0.75
    # in one light and place the dressed target is the target itself
    np.testing.assert_array_equal(truth.picture, take(SETTINGS, parse_id(DOG)).rendering.image)
    worn = data.truth(DOG, "dog/val_00000_0").picture
    assert (worn != truth.picture).any()


@EMBREEX
def test_the_truth_needs_two_images_of_one_category_and_the_renderer(
    data: ToyViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetError, match="a dog and a car have no point in common"):
        data.truth(DOG, CAR)
    for pair in ((DOG, "dog/trn_00009_0"), (f"{DOG}@flip", DOG)):
        with pytest.raises(DatasetError, match="toy-views has no image 'dog/trn_0000"):
            data.truth(*pair)

    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DatasetError, match=r"pip install 'matchkit\[toy\]'"):
        data.truth(DOG, OTHER_DOG)


@EMBREEX
def test_what_is_missing_or_broken_is_named(copied: Path) -> None:
    data = open_toy_views(copied)
    assert data.images
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(copied / "Parts" / f"{DOG}.png")
    with pytest.raises(DatasetError, match=r"trn_00000_0\.png is 9 x 9 pixels, but its photograph 48 x 48"):
        data.mask(DOG)
    (copied / "Edges" / f"{DOG}.png").unlink()
    with pytest.raises(DatasetError, match=r"trn_00000_0\.png is missing"):
        data.condition(DOG, "edge")
    joints = copied / "Joints" / f"{DOG}.json"
    change(joints, visible=["wing"])
    with pytest.raises(DatasetError, match=r"trn_00000_0\.json: field 'visible' must list keypoints of a dog"):
        _ = open_toy_views(copied).images
    change(joints, joints={"nose": [1, 2]})
    with pytest.raises(DatasetError, match=r"field 'joints' must hold the 14 keypoints of a dog"):
        data.condition(DOG, "pose")
    shutil.rmtree(copied / "Edges")
    with pytest.raises(DatasetError, match=r"Edges missing\. Run: matchkit datasets make toy-views"):
        open_toy_views(copied)


@EMBREEX
def test_a_tree_of_another_revision_or_of_odd_settings_is_refused(copied: Path) -> None:
    change(copied / "toy-views.json", revision=0)
    with pytest.raises(DatasetError, match=r"of revision 0, and matchkit makes revision 1 now\. Run: .* --replace"):
        open_toy_views(copied)
    change(copied / "toy-views.json", revision=1, views="many")
    with pytest.raises(DatasetError, match=r"toy-views\.json: views: .*'many'.* --replace"):
        open_toy_views(copied)
