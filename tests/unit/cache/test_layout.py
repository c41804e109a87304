"""The bytes on disk: what any other zarr v3 program writes and finds."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask.array
import google_crc32c
import numpy as np
import pytest
import torch
import zarr
from zarr.codecs import ZstdCodec

from matchkit.cache import layout
from matchkit.cache.codecs.codec import codec
from matchkit.cache.layout import ArrayLayout, StoreLayout, array_metadata, image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec

Draw = Callable[[FeatureSpec, int], Mapping[str, torch.Tensor]]


def first_array(spec: FeatureSpec) -> ArrayLayout:
    plan = StoreLayout.plan(spec, (), shared_files=False, compressed=False)
    return plan.arrays(spec.layers[0], codec(spec.dtype))[0]


def values_of(store: FeatureStore, layer: str) -> np.ndarray:
    """What stock zarr reads, for four images."""
    array = zarr.open_group(str(store), mode="r")[layer]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def written_by_zarr(path: Path, array: ArrayLayout, rows: int) -> zarr.Array[Any]:
    return zarr.create_array(
        path,
        shape=(rows, *array.shape),
        chunks=(1, 1, *array.shape[1:]),
        shards=(array.images, *array.shape),
        dtype=array.dtype,
        compressors=ZstdCodec(level=1, checksum=False) if array.compressed else None,
        filters=None,
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=["image", "timestep", "h", "w", "c"][: len(array.shape) + 1],
        config={"write_empty_chunks": True},
    )


@pytest.mark.parametrize("images", [1, 16])
@pytest.mark.parametrize("dtype", ["float16", "float32", "uint16", "int8", "uint8"])
@pytest.mark.parametrize("shape", [(3, 2, 3, 5), (1, 1, 1, 1), (3, 2, 3)])
def test_the_metadata_are_those_that_stock_zarr_writes(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], images: int
) -> None:
    for compressed in (False, True):
        array = ArrayLayout("x", np.dtype(dtype), shape, images, compressed)
        written_by_zarr(tmp_path / str(compressed), array, 40)
        stock = json.loads((tmp_path / str(compressed) / "zarr.json").read_text())
        assert array.metadata(40) == stock
        assert array.is_canonical(stock)
        assert not dataclasses.replace(array, compressed=not compressed).is_canonical(stock)
        assert not dataclasses.replace(array, images=7).is_canonical(stock)
        assert not dataclasses.replace(array, shape=(shape[0] + 1, *shape[1:])).is_canonical(stock)


def test_the_ledgers_metadata_are_those_that_stock_zarr_writes(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path,
        shape=(7, 9),
        chunks=(4096, 9),
        dtype="uint32",
        compressors=None,
        filters=None,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    assert array_metadata((7, 9), (4096, 9), np.dtype("uint32")) == json.loads((tmp_path / "zarr.json").read_text())


def test_the_metadata_on_the_disk_describe_all_rows(store: FeatureStore, spec: FeatureSpec, tmp_path: Path) -> None:
    for array in store._reader.arrays:
        written_by_zarr(tmp_path / array.name, array, 4)
        stock = json.loads((tmp_path / array.name / "zarr.json").read_text())
        assert json.loads((tmp_path / "F.zarr" / array.name / "zarr.json").read_text()) == stock
    group = json.loads((tmp_path / "F.zarr/zarr.json").read_text())
    zarr.create_group(tmp_path / "group", attributes=group["attributes"])
    assert group == json.loads((tmp_path / "group/zarr.json").read_text())


@pytest.mark.parametrize("compressed", [False, True])
def test_stock_zarr_and_dask_read_the_same_numbers(
    tmp_path: Path, spec: FeatureSpec, sharing: None, random_maps: Draw, *, compressed: bool
) -> None:
    with FeatureStore.create(tmp_path / "F.zarr", spec, ["a", "b", "c", "d"], compressed=compressed) as store:
        for seed, image_id in enumerate("abc"):
            store.write(image_id, random_maps(spec, seed))
        store.finalize()
    for layer in spec.layers:
        stock = values_of(store, layer.name)
        assert stock.shape == (4, 3, *layer.grid, layer.channels)
        np.testing.assert_array_equal(dask.array.from_zarr(str(store), component=layer.name).compute(), stock)
        for row in range(3):
            written = random_maps(spec, row)[layer.name].permute(0, 2, 3, 1).numpy()
            np.testing.assert_array_equal(stock[row], written)
        assert not stock[3].any()


@pytest.mark.parametrize("dtype", ["bf16", "int8", "int4"])
def test_stock_zarr_reads_what_a_codec_keeps(tmp_path: Path, spec: FeatureSpec, random_maps: Draw, dtype: str) -> None:
    maps = random_maps(spec, 5)
    spec = dataclasses.replace(spec, dtype=dtype)
    with FeatureStore.create(tmp_path / "F.zarr", spec, ["a"]) as store:
        store.write("a", maps)
        store.finalize()
    encoding = codec(dtype)
    for layer in spec.layers:
        parts = encoding.encode(layer, maps[layer.name].permute(0, 2, 3, 1).contiguous())
        assert len(parts) == len(encoding.parts(layer))
        for part, written in zip(encoding.parts(layer), parts, strict=True):
            np.testing.assert_array_equal(values_of(store, f"{layer.name}{part.suffix}")[0], written.numpy())


def test_the_bytes_are_those_that_stock_zarr_writes(
    tmp_path: Path, spec: FeatureSpec, apart: None, random_maps: Draw
) -> None:
    for compressed in (False, True):
        path = tmp_path / f"{compressed}.zarr"
        with FeatureStore.create(path, spec, ["a", "b"], compressed=compressed) as store:
            store.write("b", random_maps(spec, 1))
        for array in store._reader.arrays:
            stock = written_by_zarr(tmp_path / "stock" / str(compressed) / array.name, array, 2)
            stock[1] = random_maps(spec, 1)[array.name].permute(0, 2, 3, 1).numpy()
            written = (path / array.file(1)).read_bytes()
            assert written == (tmp_path / "stock" / str(compressed) / array.file(1)).read_bytes()
            assert compressed or len(written) == array.shard_bytes


def test_the_index_says_where_every_chunk_of_a_shared_shard_lies(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw
) -> None:
    store.withdraw("b")
    store.finalize()
    for array in store._reader.arrays:
        if array.images == 1:
            continue
        shard = (Path(str(store)) / array.file(0)).read_bytes()
        assert len(shard) == array.shard_bytes
        index = shard[array.payload_bytes :]
        assert int.from_bytes(index[-4:], "little") == google_crc32c.value(index[:-4])
        entries = np.frombuffer(index[:-4], "<u8").reshape(array.images, 3, 2)
        for row, image_id in enumerate("abcd"):
            written = random_maps(spec, row)[array.name].permute(0, 2, 3, 1).numpy()
            for step, (start, length) in enumerate(entries[row].tolist()):
                if image_id in "ac":
                    assert shard[start : start + length] == written[step].tobytes()
                else:
                    assert start == length == 2**64 - 1
        assert (entries[4:] == 2**64 - 1).all()


def test_what_a_shard_file_weighs(spec: FeatureSpec) -> None:
    width = {"fp16": 2, "fp32": 4}[spec.dtype]
    array = first_array(spec)
    assert (array.chunk_bytes, array.image_bytes) == (30 * width, 90 * width)
    assert image_bytes(spec) == (90 + 144) * width
    shared = dataclasses.replace(array, images=16)
    assert [shared.file(row) for row in (0, 15, 16)] == [f"up0.0/c.{n}.0.0.0.0" for n in (0, 0, 1)]
    offsets = [shared.offset(row) for row in range(17)]
    assert offsets[0] == offsets[16] == 0
    assert all(end - start == shared.image_bytes for start, end in pairwise(offsets[:16]))


def test_small_layers_and_many_images_share_shard_files(spec: FeatureSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(images: int, **options: bool) -> Mapping[str, int]:
        told = {"shared_files": True, "compressed": False} | options
        return StoreLayout.plan(spec, [str(n) for n in range(images)], **told).shared

    everything = {"up0.0": 16, "up1.0": 16}
    assert shared(4) == everything
    assert shared(4, shared_files=False) == shared(4, compressed=True) == {}
    monkeypatch.setattr(layout, "SMALL_SHARD", {"fp16": 200, "fp32": 400}[spec.dtype])
    assert shared(4) == {"up0.0": 16}
    monkeypatch.setattr(layout, "MANY_IMAGES", 20)
    assert (shared(20), shared(21)) == ({"up0.0": 16}, everything)


def test_the_group_says_what_made_it(store: FeatureStore, spec: FeatureSpec) -> None:
    attribute: Any = zarr.open_group(str(store), mode="r").attrs["matchkit"]
    assert (attribute["format"], attribute["digest"]) == (2, spec.digest())
    assert attribute["ids"] == ["a", "b", "c", "d"]
    assert FeatureSpec.from_json(attribute["spec"]) == spec


def edited(store: FeatureStore, change: Callable[[dict[str, Any]], object]) -> None:
    path = Path(str(store)) / "zarr.json"
    group = json.loads(path.read_text())
    change(group["attributes"]["matchkit"])
    path.write_text(json.dumps(group))


@pytest.mark.parametrize("number", [1, 99])
def test_another_format_is_refused(store: FeatureStore, spec: FeatureSpec, number: int) -> None:
    edited(store, lambda attribute: attribute.update(format=number))
    for attempt in (FeatureStore.open, lambda path: FeatureStore.create(path, spec, ["a"])):
        with pytest.raises(StoreError, match=rf"F\.zarr has store format {number}; this version reads format 2"):
            attempt(str(store))


def test_edited_attributes_are_refused(store: FeatureStore) -> None:
    for change in (lambda told: told["spec"].update(fit="letterbox"), lambda told: told.pop("ids")):
        edited(store, change)
        with pytest.raises(StoreError, match=r"F\.zarr.* edited or damaged"):
            FeatureStore.open(str(store))


def test_another_encoding_of_the_same_name_is_refused(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matchkit.cache.codecs.codec.Plain.version", 7)
    with pytest.raises(StoreError, match=r"F\.zarr is encoded with version 1 of fp.*; this version reads 7"):
        FeatureStore.open(str(store))
