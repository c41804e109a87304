"""The keypoint table: what it holds is what sampling the maps gives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from matchkit.cache.derive import Derivation, derive
from matchkit.cache.keypoints import LAYER, KeypointTable, build_table, keypoints_of
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import DatasetError, SpecMismatchError, StoreError
from matchkit.core.geometry import Fit
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
STEPS = (460, -1)
IMAGES: Mapping[str, ImageRecord] = {
    name: ImageRecord(name, Path(f"{name}.jpg"), size)
    for name, size in {"a": (96, 64), "b": (50, 80), "c": (48, 32)}.items()
}
KEYPOINTS: dict[str, dict[str, np.ndarray]] = {
    "a": {"nose": np.asarray([7.5, 7.5], np.float32), "ear": np.asarray([95, 0], np.float32)},
    "b": {
        "ear": np.asarray([20, 33], np.float32),
        "nose": np.asarray([1, 2], np.float32),
        "7": np.asarray([49, 79], np.float32),
    },
}


def stored(where: Path, *, fit: Fit = "stretch", dtype: str = "fp32") -> FeatureStore:
    spec = FeatureSpec("pixels", "none", LAYERS, STEPS, (48, 32), fit, dtype)
    generator = torch.Generator().manual_seed(0)
    with FeatureStore.create(where, spec, "abc") as store:
        for number, image_id in enumerate("abc"):
            maps = {layer.name: torch.randn(2, layer.channels, *layer.grid, generator=generator) for layer in LAYERS}
            store.write(image_id, maps, image_crc32c=number)
    return store


def sampled(values: torch.Tensor, at: tuple[float, float], image: ImageRecord, fit: Fit) -> np.ndarray:
    """The map (c,gh,gw) at a point of the image frame, by hand: bilinear between cell centres, the border's outside."""
    height, width = values.shape[1:]
    scales = [48 / image.size[0], 32 / image.size[1]]
    offsets = [0, 0]
    if fit == "letterbox":
        scales = [min(scales)] * 2
        inner = [round(side * scale) for side, scale in zip(image.size, scales, strict=True)]
        offsets = [(48 - inner[0]) // 2, (32 - inner[1]) // 2]
        scales = [side / original for side, original in zip(inner, image.size, strict=True)]
    x, y = (
        ((point + 0.5) * scale + offset) / stride - 0.5
        for point, scale, offset, stride in zip(at, scales, offsets, (48 / width, 32 / height), strict=True)
    )
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    x0, y0 = min(int(x), width - 2), min(int(y), height - 2)
    corners = [[values[:, y0 + j, x0 + i].double().numpy() for i in (0, 1)] for j in (0, 1)]
    rows = [left * (1 - (x - x0)) + right * (x - x0) for left, right in corners]
    return rows[0] * (1 - (y - y0)) + rows[1] * (y - y0)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_rows_are_the_maps_sampled_at_the_keypoints(tmp_path: Path, fit: Fit) -> None:
    parent = stored(tmp_path / "F.zarr", fit=fit)
    table = build_table(parent, tmp_path / "K.zarr", KEYPOINTS, IMAGES)
    columns = [(column.layer, column.timestep, column.channels) for column in table.columns]
    assert columns == [
        ("up0.0", 460, slice(0, 5)),
        ("up0.0", -1, slice(5, 10)),
        ("up1.0", 460, slice(10, 12)),
        ("up1.0", -1, slice(12, 14)),
    ]
    for image_id, points in KEYPOINTS.items():
        assert table.keypoints(image_id) == tuple(points)
        rows = table.read(image_id)
        assert rows.shape == (len(points), 14)
        for row, at in zip(rows, points.values(), strict=True):
            for layer, timestep, channels in columns:
                values = parent.read(image_id, [layer], [timestep])[layer][0]
                expected = sampled(values, tuple(at.tolist()), IMAGES[image_id], fit)
                np.testing.assert_allclose(row[channels].numpy(), expected, atol=1e-5)


def test_a_table_is_a_store_that_names_its_parent(tmp_path: Path) -> None:
    parent = stored(tmp_path / "F.zarr")
    build_table(parent, tmp_path / "K.zarr", KEYPOINTS, IMAGES)
    store = FeatureStore.open(tmp_path / "K.zarr", parent.spec)
    assert store.spec.lineage == (parent.spec.digest(),)
    assert store.ids == ["a", "b"]
    assert [store.image_crc32c(image_id) for image_id in "ab"] == [0, 1]
    assert store.layers == (LAYER,)
    table = KeypointTable(store)
    # a descriptor is contiguous on the disk: (image, timestep, 1, keypoint, channel)
    rows = zarr.open_group(str(store), mode="r")[LAYER]
    assert rows.shape == (2, 1, 1, 3, 14)
    np.testing.assert_array_equal(rows[1, 0, 0], table.read("b").numpy())
    np.testing.assert_array_equal(rows[0, 0, 0, :2], table.read("a").numpy())
    assert not rows[0, 0, 0, 2].any()
    with pytest.raises(StoreError, match=r"F\.zarr is no keypoint table\. Run: matchkit cache convert --keypoints"):
        KeypointTable(parent)
    with pytest.raises(StoreError, match="does not hold image 'c'"):
        table.read("c")


@pytest.mark.parametrize(("dtype", "kept"), [("fp16", "fp16"), ("bf16", "bf16"), ("int8", "fp16"), ("pca-3", "fp16")])
def test_a_table_of_encoded_maps_keeps_what_they_decode_to(tmp_path: Path, dtype: str, kept: str) -> None:
    """A row is of several layers: neither one scale for all of them nor the basis of one would do."""
    parent = derive(stored(tmp_path / "F.zarr"), tmp_path / "D.zarr", Derivation(dtype=dtype))
    table = build_table(parent, tmp_path / "K.zarr", KEYPOINTS, IMAGES)
    assert table.store.spec.dtype == kept
    for image_id, points in KEYPOINTS.items():
        for row, at in zip(table.read(image_id), points.values(), strict=True):
            values = parent.read(image_id, ["up1.0"], [-1])["up1.0"][0].float()
            expected = sampled(values, tuple(at.tolist()), IMAGES[image_id], "stretch")
            tolerance = 1e-2 if kept == "bf16" else 1e-3
            np.testing.assert_allclose(row[12:].float().numpy(), expected, atol=tolerance, rtol=tolerance)


class Killed(Exception):
    pass


def test_it_is_taken_up_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, asked = stored(tmp_path / "F.zarr"), []

    def killed() -> None:
        raise Killed

    with pytest.raises(Killed):
        build_table(parent, tmp_path / "K.zarr", KEYPOINTS, IMAGES, done=killed)
    read: Callable[..., Any] = parent.read
    monkeypatch.setattr(parent, "read", lambda image, *rest, **out: asked.append(image) or read(image, *rest, **out))
    calls: list[None] = []
    resumed = build_table(parent, tmp_path / "K.zarr", KEYPOINTS, IMAGES, done=lambda: calls.append(None))
    assert (asked, len(calls)) == (["b"], 2)
    whole = build_table(parent, tmp_path / "W.zarr", KEYPOINTS, IMAGES)
    assert resumed.store.content == whole.store.content


def test_other_keypoints_are_another_table(tmp_path: Path) -> None:
    parent = stored(tmp_path / "F.zarr")
    build_table(parent, tmp_path / "K.zarr", KEYPOINTS, IMAGES)
    moved = {**KEYPOINTS, "a": {**KEYPOINTS["a"], "nose": np.asarray([8, 8], np.float32)}}
    with pytest.raises(SpecMismatchError, match="keypoints"):
        build_table(parent, tmp_path / "K.zarr", moved, IMAGES)
    again = build_table(parent, tmp_path / "K.zarr", dict(reversed(KEYPOINTS.items())), IMAGES)
    assert again.keypoints("b") == ("ear", "nose", "7")


def test_what_cannot_be_sampled_is_refused(tmp_path: Path) -> None:
    parent = stored(tmp_path / "F.zarr")
    with pytest.raises(StoreError, match="there are no keypoints"):
        build_table(parent, tmp_path / "K.zarr", {}, IMAGES)
    with pytest.raises(StoreError, match=r"holds 2 of 3 images \(first absent: d\)"):
        build_table(parent, tmp_path / "K.zarr", {**KEYPOINTS, "d": KEYPOINTS["a"]}, IMAGES)
    assert not (tmp_path / "K.zarr").exists()


def pair(number: int, source: str, target: str, points: Mapping[str, tuple[list[float], list[float]]]) -> Pair:
    source_points, target_points = (
        np.asarray([both[side] for both in points.values()], np.float32).reshape(-1, 2) for side in (0, 1)
    )
    return Pair(f"{number}", source, target, "cat", source_points, target_points, tuple(points))


def test_an_images_keypoints_are_those_of_all_its_pairs() -> None:
    found = keypoints_of(
        [
            pair(0, "a", "b", {"nose": ([1, 2], [3, 4]), "ear": ([5, 6], [7, 8])}),
            pair(1, "b", "a", {"tail": ([9, 9], [8, 8]), "nose": ([3, 4], [1, 2])}),
            pair(2, "c", "a", {}),
        ]
    )
    told = {image: {name: point.tolist() for name, point in points.items()} for image, points in found.items()}
    assert told == {
        "a": {"nose": [1, 2], "ear": [5, 6], "tail": [8, 8]},
        "b": {"nose": [3, 4], "ear": [7, 8], "tail": [9, 9]},
        "c": {},
    }


def test_a_keypoint_at_two_places_is_refused() -> None:
    """As in a folder whose `pairs.csv` does not name its keypoints: the first of each pair is called 0."""
    pairs = [pair(0, "a", "b", {"0": ([1, 2], [3, 4])}), pair(1, "a", "c", {"0": ([1, 3], [3, 4])})]
    with pytest.raises(
        DatasetError, match=r"keypoint '0' of image 'a' lies at \[1\.0, 2\.0\] .* \[1\.0, 3\.0\] in pair '1'"
    ):
        keypoints_of(pairs)
