"""Stores whose arrays another program has written: read through zarr, compared with the ledger, never written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]
Same = Callable[[Maps, Maps], bool]
LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "zstd": {"chunks": (1, 1), "shards": (1, 3), "compressors": ZstdCodec(level=3)},
    "zstd over several images": {"chunks": (1, 1), "shards": (2, 3), "compressors": ZstdCodec(level=3)},
    "without shards": {"chunks": (1, 1), "compressors": None},
    "images in a chunk": {"chunks": (3, 2), "compressors": GzipCodec()},
    "blosc": {"chunks": (1, 3), "compressors": BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2)},
    "big endian": {"chunks": (1, 1), "compressors": None, "serializer": BytesCodec(endian="big")},
    "slashes in names": {
        "chunks": (1, 1),
        "shards": (1, 3),
        "compressors": None,
        "chunk_key_encoding": {"name": "default", "separator": "/"},
    },
    "index at the start": {
        "chunks": (1, 1),
        "shards": {"shape": (1, 3), "index_location": "start"},
        "compressors": None,
    },
}


def rewrite(root: Path, name: str) -> None:
    """Writes all arrays of a finalized store anew through zarr; our attribute and ledger stay."""
    group = zarr.open_group(root, mode="r+")
    options = dict(LAYOUTS[name])
    for layer in ("up0.0", "up1.0"):
        values = np.asarray(group[layer][:])  # type: ignore[index]
        shape = values.shape
        told = options | {"chunks": (*options["chunks"], *shape[2:])}
        if isinstance(options.get("shards"), dict):
            told["shards"] = options["shards"] | {"shape": (*options["shards"]["shape"], *shape[2:])}
        elif "shards" in options:
            told["shards"] = (*options["shards"], *shape[2:])
        settings = {"chunk_key_encoding": {"name": "default", "separator": "."}, "filters": None, "fill_value": 0}
        array = group.create_array(layer, shape=shape, dtype=values.dtype, overwrite=True, **settings | told)
        array[:] = values


@pytest.fixture
def sharing() -> None:
    """Once is enough: all arrays are written anew."""


@pytest.fixture
def finalized(store: FeatureStore) -> Path:
    """A store with three of four images complete."""
    store.finalize()
    store.close()
    return Path(str(store))


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_zarr_has_written_anew_is_read_equal(
    finalized: Path, spec: FeatureSpec, random_maps: Draw, same: Same, name: str
) -> None:
    rewrite(finalized, name)
    store = FeatureStore.open(finalized, spec)
    assert store.ids == ["a", "b", "c"]
    for seed, image_id in enumerate("abc"):
        assert same(store.read(image_id), random_maps(spec, seed))
    some = store.read("c", ["up1.0"], [60, 460], out=store.buffers(["up1.0"], [60, 460]))
    assert same(some, {"up1.0": random_maps(spec, 2)["up1.0"][[2, 0]]})


def test_what_another_program_wrote_is_not_written_into(finalized: Path, spec: FeatureSpec, random_maps: Draw) -> None:
    rewrite(finalized, "zstd")
    before = {path: path.read_bytes() for path in finalized.glob("up*/*")}
    with FeatureStore.create(finalized, spec, ["a", "d"]) as store:
        for attempt in (lambda: store.write("d", random_maps(spec, 3)), lambda: store.withdraw("a")):
            with pytest.raises(StoreError, match=r"F\.zarr was laid out by another program and can only be read"):
                attempt()
        store.finalize()
    with pytest.raises(StoreError, match=r"F\.zarr was laid out by another program and can only be read"):
        FeatureStore.create(finalized, spec, ["e"])
    assert {path: path.read_bytes() for path in finalized.glob("up*/*")} == before
    assert FeatureStore.open(finalized).ids == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["zstd", "without shards", "images in a chunk"])
def test_a_chunk_that_is_not_there_is_not_read_as_zeros(
    finalized: Path, spec: FeatureSpec, random_maps: Draw, same: Same, name: str
) -> None:
    rewrite(finalized, name)
    for path in (finalized / "up1.0").glob("c.1.*" if name != "images in a chunk" else "c.0.*"):
        path.unlink()
    store = FeatureStore.open(finalized)
    with pytest.raises(StoreError, match=r"up1\.0/c\..* is damaged or gone\. Run: matchkit cache verify --repair"):
        store.read("b")
    assert same(store.read("b", ["up0.0"]), {"up0.0": random_maps(spec, 1)["up0.0"]})


@pytest.mark.parametrize("name", ["zstd", "blosc", "images in a chunk", "without shards"])
def test_a_flipped_bit_is_never_read(
    finalized: Path, spec: FeatureSpec, random_maps: Draw, same: Same, name: str
) -> None:
    rewrite(finalized, name)
    for path in sorted((finalized / "up0.0").glob("c.0*")):
        whole = path.read_bytes()
        for position in range(0, len(whole), max(1, len(whole) // 12)):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
            try:
                assert same(FeatureStore.open(finalized).read("a"), random_maps(spec, 0)), position
            except StoreError as error:
                assert "F.zarr" in str(error)  # noqa: PT017 - a bit that nobody needs changes nothing
        path.write_bytes(whole)


@pytest.mark.parametrize("rows", [0, 2])
def test_rows_that_the_array_lacks_are_damage(finalized: Path, rows: int) -> None:
    rewrite(finalized, "zstd")
    described = json.loads((finalized / "up0.0/zarr.json").read_text())
    described["shape"][0] = rows
    (finalized / "up0.0/zarr.json").write_text(json.dumps(described))
    with pytest.raises(StoreError, match=r"F\.zarr/up0\.0"):
        FeatureStore.open(finalized).read("c")


def test_compressed_stores_are_written_and_read(
    tmp_path: Path, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    path = tmp_path / "C.zarr"
    with FeatureStore.create(path, spec, ["a", "b"], compressed=True) as store:
        reader = FeatureStore.open(path)
        store.write("a", random_maps(spec, 0))
        store.write("a", random_maps(spec, 1))
        store.write("b", random_maps(spec, 2))
        assert same(reader.read("a"), random_maps(spec, 1))
        with FeatureStore.create(path, spec, ["c", "d"]) as wider:
            wider.write("d", random_maps(spec, 3))
        for each in (store, reader, FeatureStore.open(path)):  # opened when there were two rows
            each.refresh()
            assert same(each.read("d"), random_maps(spec, 3))
            assert each.missing("abcd") == ["c"]
        store.finalize()
    for seed, image_id in ((1, "a"), (2, "b"), (3, "d")):
        assert same(reader.read(image_id, out=reader.buffers()), random_maps(spec, seed))
    (path / "up0.0/c.1.0.0.0.0").unlink()
    with pytest.raises(StoreError, match=r"up0\.0/c\.1\.0\.0\.0\.0 is damaged or gone"):
        reader.read("b")


def test_a_compressed_store_that_zarr_has_written_anew_is_only_read(
    tmp_path: Path, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    path = tmp_path / "C.zarr"
    with FeatureStore.create(path, spec, ["a", "b"], compressed=True) as store:
        store.write("a", random_maps(spec, 0))
        store.finalize()
    rewrite(path, "images in a chunk")
    with FeatureStore.create(path, spec, ["a", "b"]) as store:
        assert same(store.read("a"), random_maps(spec, 0))
        with pytest.raises(StoreError, match="can only be read"):
            store.write("b", random_maps(spec, 1))


@pytest.mark.parametrize("spec", ["fp16"], indirect=True)
def test_zarr_is_imported_for_foreign_stores_alone(finalized: Path) -> None:
    """It takes a second, which every command would pay."""
    program = """if True:
        import sys
        from matchkit.cache.store import FeatureStore

        for path in sys.argv[1:]:
            FeatureStore.open(path).read("a")
            print("zarr" in sys.modules, "dask" in sys.modules)"""
    rewritten = finalized.with_name("G.zarr")
    shutil.copytree(finalized, rewritten)
    rewrite(rewritten, "zstd")
    command = [sys.executable, "-P", "-c", program, str(finalized), str(rewritten)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["False False", "True False"]
