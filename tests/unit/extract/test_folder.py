"""Your own images, with and without a `pairs.csv`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.records import PairDataset
from matchkit.extract.datasets.folder import Folder, open_folder

HEADER = "source,target,source_x,source_y,target_x,target_y,keypoint,split"
Draw = Callable[[tuple[int, int], int], Image.Image]


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    folder = tmp_path / "mine"
    (folder / "cats").mkdir(parents=True)
    draw((20, 10), 0).save(folder / "cats" / "tom.png")
    draw((12, 16), 1).save(folder / "rex.JPG")
    (folder / "notes.txt").write_text("not an image")
    return folder


def with_pairs(root: Path, *rows: str, header: str = HEADER) -> Folder:
    (root / "pairs.csv").write_text("\n".join([header, *rows]) + "\n")
    return open_folder(root)


def test_images_are_named_by_their_path_without_the_ending(root: Path) -> None:
    data = open_folder(root)
    assert {name: record.size for name, record in data.images.items()} == {"cats/tom": (20, 10), "rex": (12, 16)}
    assert list(data.images) == sorted(data.images)


def test_without_pairs_csv_there_are_images_alone(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"pairs\.csv is missing: it says which images belong together"):
        open_folder(root).pairs("test")


def test_pairs_with_keypoints_and_splits(root: Path) -> None:
    data = with_pairs(
        root, "cats/tom,rex,1,2,3,4,nose,trn", "cats/tom,rex,5.5,6,7,8,tail,trn", "rex,cats/tom,0,0,19,9,,test"
    )
    assert isinstance(data, PairDataset)
    assert data.splits == ("test", "trn")
    (pair,) = data.pairs("trn")
    assert (pair.source, pair.target, pair.keypoint_ids) == ("cats/tom", "rex", ("nose", "tail"))
    assert pair.source_points.tolist() == [[1, 2], [5.5, 6]]
    assert pair.target_points.tolist() == [[3, 4], [7, 8]]
    assert pair.source_points.dtype == np.float32
    assert pair.source_box is None
    assert data.pairs("test")[0].keypoint_ids == ("0",)


def test_two_columns_are_enough(root: Path) -> None:
    data = with_pairs(root, "cats/tom,rex", "rex,cats/tom", header="source,target")
    assert data.splits == ("test",)
    assert [len(pair.source_points) for pair in data.pairs("test")] == [0, 0]
    assert len({pair.id for pair in data.pairs("test")}) == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("cats/tom,max,1,1,1,1,,", "no image 'max'"),
        ("cats/tom,rex,1,one,1,1,,", "needs numbers in source_x, source_y, target_x, target_y"),
        ("cats/tom,rex,1,1", "needs numbers in"),
        ("cats/tom,rex,21,1,1,1,,", "a keypoint of 'cats/tom' lies outside it"),
        ("cats/tom,rex,1,1,1,17,,", "a keypoint of 'rex' lies outside it"),
        ("cats/tom,rex,nan,1,1,1,,", "a keypoint of 'cats/tom' lies outside it"),
        ("cats/tom,rex,1,-1,1,1,,", "a keypoint of 'cats/tom' lies outside it"),
        ("cats/tom,,1,1,1,1,,", "no image ''"),
    ],
)
def test_a_bad_row(root: Path, row: str, message: str) -> None:
    with pytest.raises(DatasetError, match=r"pairs\.csv") as caught:
        with_pairs(root, row).pairs("test")
    assert message in str(caught.value)


def test_a_row_without_coordinates_has_no_keypoint(root: Path) -> None:
    (pair,) = with_pairs(root, "cats/tom,rex,,,,,one,", "cats/tom,rex,1,2,3,4,two,").pairs("test")
    assert (pair.keypoint_ids, pair.source_points.tolist()) == (("two",), [[1, 2]])


def test_a_spreadsheets_byte_order_mark_is_read_over(root: Path) -> None:
    data = with_pairs(root, "cats/tom,rex,1,2,3,4,nose,", header=f"\ufeff{HEADER}")
    assert data.pairs("test")[0].source == "cats/tom"


def test_another_encoding_is_named(root: Path) -> None:
    (root / "pairs.csv").write_bytes(f"{HEADER}\ncats/tom,rex,1,2,3,4,m\xe4hne,\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"pairs\.csv is not a CSV file in UTF-8"):
        open_folder(root).pairs("test")


@pytest.mark.parametrize("rows", [[], ["cats/tom"]])
def test_missing_columns_or_rows(root: Path, rows: list[str]) -> None:
    with pytest.raises(DatasetError, match="needs the columns source,target and at least one row"):
        with_pairs(root, *rows, header="source" if rows else HEADER).pairs("test")


def test_a_split_without_pairs(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"pairs\.csv has no pair in split 'val'"):
        with_pairs(root, "cats/tom,rex,1,1,1,1,,trn").pairs("val")


def test_two_images_of_one_name(root: Path, draw: Draw) -> None:
    draw((8, 8), 2).save(root / "rex.png")
    with pytest.raises(DatasetError, match=r"rex\.\w+ and .*rex\.\w+ have one name; rename one of them"):
        _ = open_folder(root).images


def test_no_folder_and_no_image(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere is not a folder. Give your images' folder with --root DIR"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no image in"):
        _ = open_folder(tmp_path).images


def test_a_file_that_is_no_image(root: Path) -> None:
    (root / "broken.jpg").write_text("text")
    with pytest.raises(DatasetError, match=r"broken\.jpg is not a readable image"):
        _ = open_folder(root).images
