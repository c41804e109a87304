"""Every dataset: images sorted by id, pairs that refer to them, keypoints inside them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError, UnknownNameError
from matchkit.core.records import PairDataset
from matchkit.extract.datasets import DATASETS, open_dataset
from matchkit.extract.images import load_image

pytestmark = pytest.mark.parametrize("name", list(DATASETS.table()))


@pytest.fixture
def tree(spair_tree: Path) -> Callable[[str], Path]:
    """A tree for any dataset of the table: in SPair's layout, which is a folder of images too."""

    def root(name: str) -> Path:
        if name != "folder":
            return spair_tree
        images = spair_tree / "JPEGImages"
        rows = ["cat/2007_000001,cat/2007_000002,1,2,3,4", "cat/2007_000002,dog/2008_000003,31,47,36,0"]
        (images / "pairs.csv").write_text("\n".join(["source,target,source_x,source_y,target_x,target_y", *rows]))
        return images

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
