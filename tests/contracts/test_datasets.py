"""Every dataset: images sorted by id, pairs that refer to them, keypoints inside; schemes and masks, or an error.

One with conditions may have no pairs; its conditions, groups, splits and exemplars are tested instead.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_trees import DRAWN

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
    """A tree for any dataset of the table: three images with all that its layout has."""

    def root(name: str) -> Path:
        return of_views() if name == "toy-views" else DRAWN[name](spair_tree)

    return root


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
