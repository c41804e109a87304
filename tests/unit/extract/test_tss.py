"""TSS's layout: a drawn tree, the points of a flow, and everything that can be wrong with one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_trees import of_flows, write_flow
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.tss import on_grid, open_tss, read_flow

CAR = "FG3DCar/001_005"


@pytest.fixture
def root(spair_tree: Path) -> Path:
    return of_flows(spair_tree)


def refused(root: Path, *mentions: str) -> None:
    with pytest.raises(DatasetError) as caught:
        open_tss(root).pairs("test")
    for mention in mentions:
        assert mention in str(caught.value)


def test_every_folder_is_a_pair_in_both_directions(root: Path) -> None:
    data = open_tss(root)
    pairs = data.pairs("test")
    assert [pair.id for pair in pairs[:2]] == [f"{CAR}_1to2", f"{CAR}_2to1"]
    assert [pair.category for pair in pairs[::2]] == ["FG3DCar", "JODS", "PASCAL"]
    assert (pairs[1].source, pairs[1].target) == (pairs[0].target, pairs[0].source)
    assert [dict(pair.variations) for pair in pairs[::2]] == [{}, {}, {"flip": 1}]
    assert {pair.target_box for pair in pairs} == {None}


def test_the_same_file_in_two_pairs_is_one_image(root: Path) -> None:
    data = open_tss(root)
    assert list(data.images) == [f"{CAR}/image1", f"{CAR}/image2", "JODS/car_01_02/image2"]
    assert [pair.source for pair in data.pairs("test")][4:] == ["JODS/car_01_02/image2", f"{CAR}/image1"]
    assert {record.category for record in data.images.values()} == {"car"}


def test_an_image_is_of_what_its_folder_says(root: Path) -> None:
    with Image.open(root / "PASCAL" / "bike_01_02" / "image1.png") as image:
        image.rotate(180).save(root / "PASCAL" / "bike_01_02" / "image1.png")
    assert open_tss(root).images["PASCAL/bike_01_02/image1"].category == "bicycle"


def test_a_point_is_a_known_pixel_of_the_object_that_stays_inside(root: Path) -> None:
    pair = open_tss(root).pairs("test")[0]  # 40 x 30 to 32 x 48: the left half goes left by 1 and down by 0.5
    source = {tuple(point) for point in pair.source_points.astype(int).tolist()}
    expected = {(x, y) for x in range(1, 20) for y in range(30)} - {(2, 0), (2, 1)}  # unknown: NaN and 2e9
    assert source == expected
    np.testing.assert_array_equal(pair.target_points, pair.source_points + np.array([-1, 0.5]))
    assert pair.keypoint_ids == tuple(map(str, range(len(expected))))


def test_a_point_outside_the_target_is_left_out(root: Path) -> None:
    flow = np.zeros((30, 40, 2)) + np.array([20, 0])
    write_flow(root / CAR / "flow1.flo", flow)
    pair = open_tss(root).pairs("test")[0]
    assert pair.source_points[:, 0].max() == 11  # 31 is the last column of the target
    assert pair.target_points[:, 0].max() == 31


def test_a_mask_is_that_of_the_first_file(root: Path) -> None:
    mask = open_tss(root).mask(f"{CAR}/image2")
    assert mask.shape == (48, 32)
    assert mask[:, :16].all()
    assert not mask[:, 16:].any()
    with pytest.raises(DatasetError, match="tss has no image 'x'"):
        open_tss(root).mask("x")


@pytest.mark.parametrize(("most", "stride"), [(100, 1), (99, 2), (25, 2), (24, 3), (9, 3), (8, 4), (4, 4), (1, 7)])
def test_the_grid_is_the_finest_that_holds_so_many(most: int, stride: int) -> None:
    points = on_grid(np.ones((10, 10), np.bool_), most=most)
    assert len(points) <= most
    assert (points % stride == stride // 2).all()
    assert len(points) == len(range(stride // 2, 10, stride)) ** 2
    assert points.tolist() == sorted(points.tolist(), key=lambda point: point[::-1])


def test_no_pixel_gives_no_point() -> None:
    assert on_grid(np.zeros((3, 4), np.bool_), most=5).shape == (0, 2)


def test_what_is_missing_is_named(root: Path) -> None:
    data = open_tss(root)
    with pytest.raises(DatasetError, match="tss has no split 'val'; there are: test"):
        data.pairs("val")
    with pytest.raises(DatasetError, match="category 'JODS' has no flip table"):
        data.scheme("JODS")
    for name in ("mask2.png", "flow2.flo", "image2.png"):
        (root / CAR / name).unlink()
        refused(root, f"{CAR}/{name}")
    shutil.rmtree(root / "JODS" / "car_01_02")
    refused(root, "no pairs (folders) in", "JODS")
    shutil.rmtree(root / "JODS")
    with pytest.raises(DatasetError, match=r"no tss dataset in .*: JODS missing"):
        open_tss(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "has 9,611 bytes; the flow of its image of 40 x 30 pixels has 9,612"),
        (lambda data: data + b"\0", "has 9,613 bytes"),
        (lambda data: b"PIEX" + data[4:], "must begin with 202021.25"),
        (lambda data: data[:4] + data[8:12] + data[4:8] + data[12:], "the size of its image, 40 x 30, not (30, 40)"),
    ],
)
def test_a_flow_that_is_none(root: Path, change: object, message: str) -> None:
    assert callable(change)
    path = root / CAR / "flow1.flo"
    path.write_bytes(change(path.read_bytes()))
    refused(root, f"{CAR}/flow1.flo", message)


def test_a_flow_is_handed_out_as_it_is(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    write_flow(tmp_path / "a.flo", flow)
    np.testing.assert_array_equal(read_flow(tmp_path / "a.flo", size=(5, 3)), flow)


def test_a_flip_that_is_none(root: Path) -> None:
    (root / CAR / "flip_gt.txt").write_text("yes")
    refused(root, f"{CAR}/flip_gt.txt must hold 0 or 1, not 'yes'")
