"""The bytes on disk: what any other zarr v3 reader finds."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import zarr

from matchkit.cache import layout
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec


def test_stock_zarr_reads_the_same_numbers(
    store: FeatureStore, spec: FeatureSpec, random_maps: Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]
) -> None:
    group = zarr.open(store.path, mode="r")
    for layer in spec.layers:
        array = group[layer.name]
        assert array.shape == (4, 3, *layer.grid, layer.channels)
        assert array.metadata.dimension_names == ("image", "timestep", "h", "w", "c")
        for row in range(3):
            written = random_maps(spec, row)[layer.name].permute(0, 2, 3, 1).numpy()
            np.testing.assert_array_equal(array[row], written)


def test_the_bytes_are_those_that_stock_zarr_writes(store: FeatureStore, spec: FeatureSpec) -> None:
    layout.create(store.path.with_name("stock.zarr"), spec, ["a", "b", "c", "d"])
    stock = zarr.open(store.path.with_name("stock.zarr"), mode="r+")
    for layer in spec.layers:
        stock[layer.name][1] = zarr.open(store.path, mode="r")[layer.name][1]
        written = layout.shard_file(store.path, layer.name, 1).read_bytes()
        assert written == layout.shard_file(store.path.with_name("stock.zarr"), layer.name, 1).read_bytes()
        assert len(written) == layout.shard_bytes(spec, layer.name)


def test_one_file_a_layer_and_image_uncompressed(store: FeatureStore, spec: FeatureSpec) -> None:
    for layer in spec.layers:
        folder = store.path / layer.name
        assert sorted(path.name for path in folder.iterdir()) == [
            *(f"c.{row}.0.0.0.0" for row in range(3)),
            "zarr.json",
        ]
        values = zarr.open(store.path, mode="r")[layer.name][1]
        assert values.tobytes() in layout.shard_file(store.path, layer.name, 1).read_bytes()


def test_the_group_says_what_made_it(store: FeatureStore, spec: FeatureSpec) -> None:
    attribute = zarr.open(store.path, mode="r").attrs["matchkit"]
    assert attribute["format"] == layout.FORMAT
    assert attribute["digest"] == spec.digest()
    assert attribute["ids"] == ["a", "b", "c", "d"]
    assert FeatureSpec.from_json(attribute["spec"]) == spec


def test_another_format_is_refused(store: FeatureStore) -> None:
    group = zarr.open_group(store.path)
    group.attrs["matchkit"] = group.attrs["matchkit"] | {"format": 99}
    with pytest.raises(StoreError, match=r"F\.zarr has store format 99; this version reads format 1"):
        FeatureStore.open(store.path)


def test_an_edited_spec_is_refused(store: FeatureStore) -> None:
    group = zarr.open_group(store.path)
    attribute = group.attrs["matchkit"]
    attribute["spec"]["fit"] = "letterbox"
    group.attrs["matchkit"] = attribute
    with pytest.raises(StoreError, match=r"the spec and its digest .* disagree; the attributes were edited"):
        FeatureStore.open(store.path)


def test_a_layer_that_is_gone_is_damage(store: FeatureStore) -> None:
    (store.path / "up1.0" / "zarr.json").unlink()
    with pytest.raises(StoreError, match=r"no array of layer 'up1\.0': the store is damaged"):
        FeatureStore.open(store.path)


def test_the_laying_out_of_a_killed_run_is_begun_again(store: FeatureStore, spec: FeatureSpec) -> None:
    fresh = store.path.with_name("G.zarr")
    left = fresh.with_name(".G.zarr.new")
    (left / "up0.0").mkdir(parents=True)
    (left / "zarr.json").write_text("{")
    assert FeatureStore.create(fresh, spec, ["a"]).missing(["a"]) == ["a"]
    assert not left.exists()
