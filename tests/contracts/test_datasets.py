"""Every dataset: images sorted by id, pairs that refer to them, keypoints inside; schemes and masks, or an error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import DatasetError, UnknownNameError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import PairDataset
from matchkit.extract.datasets import DATASETS, open_dataset
from matchkit.extract.images import load_image

pytestmark = pytest.mark.parametrize("name", list(DATASETS.table()))


@pytest.fixture
def tree(spair_tree: Path) -> Callable[[str], Path]:
    """A tree for any dataset of the table: in SPair's layout, which is a folder of images too; and all masks."""

    def root(name: str) -> Path:
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
    assert data.splits
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
