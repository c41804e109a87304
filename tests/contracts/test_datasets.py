"""Every dataset: images sorted by id, pairs that refer to them, keypoints inside; schemes and masks, or an error.

One with conditions may have no pairs; its conditions, groups, splits and exemplars are tested instead.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matchkit.core.conditions import LABELS, ConditionedDataset, ConditionKind
from matchkit.core.errors import DatasetError, UnknownNameError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import PairDataset
from matchkit.extract.conditions.place import mirrored_condition
from matchkit.extract.conditions.pose import PICTURE
from matchkit.extract.datasets import DATASETS, open_dataset
from matchkit.extract.datasets.toy.views import ViewSettings
from matchkit.extract.datasets.toy.write_views import make_toy_views
from matchkit.extract.images import load_image

pytestmark = pytest.mark.parametrize("name", list(DATASETS.table()))
KINDS: tuple[ConditionKind, ...] = ("pose", "mask", "edge")
PARTS = ("skin", "l_brow", "hair", "eye_g")


@pytest.fixture(scope="session")
def of_views(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Renders three toy objects, one a split, when first asked to; nothing changes them."""
    root = tmp_path_factory.mktemp("views") / "toy-views"

    def made() -> Path:
        pytest.importorskip("embreex", reason="needs embreex: the extra [toy]")
        settings = ViewSettings(train_objects=1, val_objects=1, test_objects=1, views=1, size=48)
        make_toy_views(root, settings, workers=1)
        return root

    return made


@pytest.fixture
def tree(spair_tree: Path, of_views: Callable[[], Path]) -> Callable[[str], Path]:
    """A tree for any dataset of the table: in SPair's layout, which is a folder of images too; and all masks."""
    of_conditions = {"ade20k": of_scenes, "celeba-mask": of_faces, "deepfashion": of_clothes}

    def root(name: str) -> Path:
        if name in of_conditions:
            return of_conditions[name](spair_tree)
        if name == "toy-views":
            return of_views()
        if name == "ap10k":
            return in_families(spair_tree)
        if name != "folder":
            segment(spair_tree / "JPEGImages", spair_tree / "Segmentation")
            return spair_tree
        images = spair_tree / "JPEGImages"
        rows = ["cat/2007_000001,cat/2007_000002,1,2,3,4", "cat/2007_000002,dog/2008_000003,31,47,36,0"]
        (images / "pairs.csv").write_text("\n".join(["source,target,source_x,source_y,target_x,target_y", *rows]))
        (images / "keypoints.yaml").write_text("flips: [[0, 1]]")
        segment(images, images / "masks")
        condition(images)
        return images

    return root


def segment(images: Path, masks: Path) -> None:
    """Marks the left half of every image."""
    for path in sorted(images.rglob("*.jpg")):
        mask = masks / path.relative_to(images).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            marked = np.zeros(image.size[::-1], np.uint8)
        marked[:, : marked.shape[1] // 2] = 1
        Image.fromarray(marked).save(mask)


def in_families(tree: Path) -> Path:
    """The images of a tree in SPair's layout as AP-10K's: both cats of one species, the dog of another family."""
    names = {"cat/2007_000001": "felidae", "cat/2007_000002": "felidae", "dog/2008_000003": "canidae"}
    ids = [f"{family}/{name}" for name, family in names.items()]
    out = tree.with_name("ap10k")
    for name, image_id in zip(names, ids, strict=True):
        fields = json.loads((tree / "ImageAnnotation" / f"{name}.json").read_text())
        size = {"width": fields["image_width"], "height": fields["image_height"], "bbox": [0, 0, 9, 9]}
        _write(out / "ImageAnnotation" / f"{image_id}.json", size | {"keypoints": [3, 4, 2, 0, 0, 0, 5, 6, 1]})
        picture = out / "JPEGImages" / f"{image_id}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / "JPEGImages" / f"{name}.jpg", picture)
    for split, source, target, kind in (("trn", *ids[:2], "species"), ("test", *ids[1:], "all")):
        paths = {"src_json_path": f"ImageAnnotation/{source}.json", "trg_json_path": f"ImageAnnotation/{target}.json"}
        _write(out / "PairAnnotation" / split / f"{Path(source).name}-{Path(target).name}:{kind}.json", paths)
    return out


def of_scenes(tree: Path) -> Path:
    """The images of a tree as ADE20K's: two for training, one for validation."""
    out = tree.with_name("ade20k")
    names = {"cat/2007_000001": "training/b", "cat/2007_000002": "training/c", "dog/2008_000003": "validation/a"}
    for old, new in names.items():
        _copy(tree / "JPEGImages" / f"{old}.jpg", out / f"{new}.jpg")
    segment(out, out)
    (out / "ade20k_ref.txt").write_text("b.jpg,c.jpg\n")
    (out / "ade20k_ref_test.txt").write_text("a.jpg,c.jpg,b.jpg\n")
    return out


def of_faces(tree: Path) -> Path:
    """Three photographs as CelebAMask-HQ's, twice as large as their masks."""
    out = tree.with_name("celeba-mask")
    masks = out / "CelebAMask-HQ-mask-anno"
    for number in ("7", "12", "2001"):
        with Image.open(tree / "JPEGImages" / "dog" / "2008_000003.jpg") as photo:
            (out / "CelebA-HQ-img").mkdir(parents=True, exist_ok=True)
            photo.resize((32, 32)).save(out / "CelebA-HQ-img" / f"{number}.jpg")
        labels = np.zeros((16, 16), np.uint8)
        labels[2:12, 3:9] = 1
        _save(labels, masks / "all_parts_except_glasses" / f"{number:0>5}.png")
        for n, part in enumerate(PARTS):
            _save(np.roll(labels * 255, n, axis=0), masks / str(int(number) // 2000) / f"{number:0>5}_{part}.png")
    (out / "train.txt").write_text("12\n7\n")
    (out / "val.txt").write_text("2001\n")
    (out / "celebahq_ref.txt").write_text("12.jpg,7.jpg\n7.jpg,12.jpg,2001.jpg\n")
    return out


def of_clothes(tree: Path) -> Path:
    """The images of a tree as DeepFashion's: two of one garment, one of another."""
    out = tree.with_name("deepfashion")
    names = {
        "cat/2007_000001": "id_01/01_1_front",
        "cat/2007_000002": "id_01/01_2_side",
        "dog/2008_000003": "id_02/01_1",
    }
    for old, new in names.items():
        _copy(tree / "JPEGImages" / f"{old}.jpg", out / "img" / "WOMEN" / "Dresses" / f"{new}.jpg")
        pose(out / "pose" / "WOMEN" / "Dresses" / new)
    lines = [f"img\\WOMEN\\Dresses\\{new}.jpg".replace("/", "\\") for new in names.values()]
    (out / "train.txt").write_text("\n".join(lines[:2]))
    (out / "val.txt").write_text(lines[2])
    (out / "deepfashion_ref_test.txt").write_text(",".join(lines[::-1]))
    return out


def condition(images: Path) -> None:
    """Gives every image of a folder a pose, a mask and edges; one of them is in another group and split."""
    drawn = images / "conditions"
    segment(images, drawn / "mask")
    segment(images, drawn / "edge")
    (drawn / "mask" / "classes.txt").write_text("wall\nfloor\n")
    for path in sorted(images.glob("*/*.jpg")):
        pose(drawn / "pose" / path.relative_to(images).with_suffix(""))
    one, other, dog = "cat/2007_000001", "cat/2007_000002", "dog/2008_000003"
    (images / "groups.csv").write_text(f"image,group\n{one},tom\n{other},tom\n")
    (images / "splits.csv").write_text(f"image,split\n{other},trn\n{one},trn\n{dog},val\n")
    (images / "exemplars.csv").write_text(f"{one},{other},{dog}\n{dog},{other}\n")


def pose(stem: Path) -> None:
    """Writes a pose of three joints as OpenPose's two text files."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_name(f"{stem.name}_candidate.txt").write_text("4 5 .9 0\n20 12 .9 1\n10.5 28 .8 2\n")
    chosen = [0, 1, -1, -1, -1, 2, *[-1] * 12, 2.6, 3]
    stem.with_name(f"{stem.name}_subset.txt").write_text(" ".join(map(str, chosen)))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _write(path: Path, fields: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields))


def test_images_are_sorted_by_id_and_can_be_read(name: str, tree: Callable[[str], Path]) -> None:
    data = open_dataset(name, tree(name))
    assert isinstance(data, PairDataset)
    assert data.name == name
    assert list(data.images) == sorted(data.images)
    assert len(data.images) == 3
    for image_id, record in data.images.items():
        assert record.id == image_id
        assert load_image(record).size == record.size


def test_pairs_refer_to_images_and_keypoints_lie_inside(name: str, tree: Callable[[str], Path]) -> None:
    data = open_dataset(name, tree(name))
    if not data.splits:
        assert isinstance(data, ConditionedDataset)
        with pytest.raises(DatasetError, match=f"{name} has no keypoint pairs, so none of split 'trn'"):
            data.pairs("trn")
    for split in data.splits:
        pairs = data.pairs(split)
        assert pairs
        assert len({pair.id for pair in pairs}) == len(pairs)
        for pair in pairs:
            assert len(pair.source_points) == len(pair.target_points) == len(pair.keypoint_ids)
            for image, points in ((pair.source, pair.source_points), (pair.target, pair.target_points)):
                assert points.dtype == np.float32
                assert points.shape[1:] == (2,)
                assert (points >= 0).all()
                assert (points <= np.asarray(data.images[image].size)).all()


def test_keypoints_of_an_image_lie_inside_it(name: str, tree: Callable[[str], Path]) -> None:
    for record in open_dataset(name, tree(name)).images.values():
        for keypoint, (x, y) in record.keypoints.items():
            assert isinstance(keypoint, str)
            assert 0 <= x <= record.size[0]
            assert 0 <= y <= record.size[1]


def test_every_category_has_a_scheme_or_an_error_that_names_it(name: str, tree: Callable[[str], Path]) -> None:
    data = open_dataset(name, tree(name))
    categories = {pair.category for split in data.splits for pair in data.pairs(split)}
    for category in (*categories, "no-such"):
        try:
            scheme = data.scheme(category)
        except DatasetError as error:
            assert f"'{category}' has no flip table" in str(error)  # noqa: PT017 - either is right
        else:
            assert category != "no-such"
            assert isinstance(scheme, KeypointScheme)
            assert all(scheme.partner(one) == other for one, other in scheme.flips)


def test_every_image_has_a_mask_of_its_size_or_an_error_that_names_it(name: str, tree: Callable[[str], Path]) -> None:
    data = open_dataset(name, tree(name))
    for image_id, record in data.images.items():
        try:
            mask = data.mask(image_id)
        except DatasetError as error:
            assert image_id in str(error)  # noqa: PT017 - either is right
        else:
            assert mask.dtype == np.bool_
            assert mask.shape == record.size[::-1]
            assert mask.any()
            assert not mask.all()
    with pytest.raises(DatasetError, match="'no-such'"):
        data.mask("no-such")


def conditioned(name: str, root: Path) -> ConditionedDataset:
    data = open_dataset(name, root)
    if not isinstance(data, ConditionedDataset):
        pytest.skip(f"{name} has no conditions")
    return data


def test_a_condition_is_as_its_spec_says(name: str, tree: Callable[[str], Path]) -> None:
    data = conditioned(name, tree(name))
    assert data.kinds
    for kind in data.kinds:
        spec = data.condition_spec(kind)
        assert spec.kind == kind
        assert data.condition_spec(kind) == spec
        most = len(spec.classes) - 1 if spec.channels == (LABELS,) else 1
        for image_id, record in data.images.items():
            values = data.condition(image_id, kind)
            assert values.dtype == np.float32
            assert values.shape == (len(spec.channels), *record.size[::-1])
            assert 0 <= values.min() < values.max() <= most
            if spec.classes:
                np.testing.assert_array_equal(values, np.rint(values))
            np.testing.assert_array_equal(data.condition(image_id, kind), values)


def test_a_condition_of_no_image_or_no_kind_is_refused(name: str, tree: Callable[[str], Path]) -> None:
    data = conditioned(name, tree(name))
    image_id = next(iter(data.images))
    with pytest.raises(DatasetError, match="'no-such'"):
        data.condition("no-such", data.kinds[0])
    with pytest.raises(DatasetError, match=f"'{image_id}@rot90'"):
        data.condition(f"{image_id}@rot90", data.kinds[0])
    for kind in set(KINDS) - set(data.kinds):
        for asked in (data.condition_spec, lambda kind: data.condition(image_id, kind)):
            with pytest.raises(DatasetError, match=f"{name} has no conditions of kind '{kind}'"):
                asked(kind)


def test_a_mirrored_copys_condition_is_the_mirrored_one_or_refused(name: str, tree: Callable[[str], Path]) -> None:
    data = conditioned(name, tree(name))
    for kind in data.kinds:
        spec = data.condition_spec(kind)
        for image_id in data.images:
            there = data.condition(image_id, kind)
            try:
                back = data.condition(f"{image_id}@flip", kind)
            except DatasetError as error:
                assert f"'{image_id}@flip'" in str(error)  # noqa: PT017 - either is right
                continue
            assert back.shape == there.shape
            # of a skeleton's picture the colours tell the sides, so it is drawn anew; what is drawn at all is the same
            channels = [n for n, channel in enumerate(spec.channels) if channel not in PICTURE]
            names, smooth, outside = (select(told, channels) for told in (spec.channels, spec.smooth, spec.outside))
            some = replace(spec, channels=names, smooth=smooth, outside=outside)
            np.testing.assert_array_equal(back[channels], mirrored_condition(there[channels], some))
            np.testing.assert_array_equal(back.any(axis=0), there[:, :, ::-1].any(axis=0))


def select(values: tuple[Any, ...], places: list[int]) -> tuple[Any, ...]:
    return tuple(values[place] for place in places)


def test_every_image_has_a_group(name: str, tree: Callable[[str], Path]) -> None:
    data = conditioned(name, tree(name))
    groups = [data.group(image_id) for image_id in data.images]
    assert all(groups)
    with pytest.raises(DatasetError, match="'no-such'"):
        data.group("no-such")


def test_splits_are_of_images_and_do_not_overlap(name: str, tree: Callable[[str], Path]) -> None:
    data = conditioned(name, tree(name))
    train, val = data.of_split("trn"), data.of_split("val")
    assert train
    assert val
    assert len({*train, *val}) == len(train) + len(val) <= len(data.images)
    assert {*train, *val} <= set(data.images)
    with pytest.raises(DatasetError, match="split 'no-such'"):
        data.of_split("no-such")


def test_exemplars_are_images_or_an_error_says_what_is_missing(name: str, tree: Callable[[str], Path]) -> None:
    data = conditioned(name, tree(name))
    for split in ("trn", "val"):
        try:
            exemplars = data.exemplars(split)
        except DatasetError as error:
            assert str(tree(name)) in str(error)  # noqa: PT017 - either is right
            continue
        assert exemplars
        assert set(exemplars) <= set(data.of_split(split))
        for of_image in exemplars.values():
            assert of_image
            assert set(of_image) <= set(data.images)
    with pytest.raises(DatasetError, match="split 'no-such'"):
        data.exemplars("no-such")


def test_a_second_opening_is_equal(name: str, tree: Callable[[str], Path]) -> None:
    one, other = (open_dataset(name, tree(name)) for _ in range(2))
    assert dict(one.images) == dict(other.images)
    for split in one.splits:
        assert [pair.id for pair in one.pairs(split)] == [pair.id for pair in other.pairs(split)]


def test_what_is_not_there_is_refused(name: str, tree: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        open_dataset(name, tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="split 'no-such'"):
        open_dataset(name, tree(name)).pairs("no-such")


def test_the_default_root_is_below_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=f"data/{name}"):
        open_dataset(name)
    with pytest.raises(UnknownNameError, match=f"no dataset '{name}s'.*Did you mean '{name}'"):
        open_dataset(f"{name}s")
