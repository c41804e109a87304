"""How a store lies on disk: a zarr v3 group with one array a layer.

    <store>.zarr/zarr.json                 attributes: matchkit = {format, spec, digest, ids}
    <store>.zarr/<layer>/zarr.json         (image, timestep, h, w, c), chunk (1, 1, h, w, c), shard (1, t, h, w, c)
    <store>.zarr/<layer>/c.<row>.0.0.0.0   one image's maps of one layer, uncompressed
    <store>.zarr/ledger/                   what is complete (`matchkit.cache.ledger`)

Channels last: a keypoint's descriptor is contiguous. Any zarr v3 reader opens it; `docs/store-format.md` has the bytes.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from jaxtyping import Shaped

from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

FORMAT = 1
ATTRIBUTE = "matchkit"
DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}


def create(path: Path, spec: FeatureSpec, ids: Sequence[str]) -> None:
    """Lays out an empty store with a row for each id, in this order; it appears at `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    if beside.exists():  # what a kill left behind
        shutil.rmtree(beside)
    group = zarr.create_group(beside, zarr_format=3, attributes={ATTRIBUTE: describe(spec, ids)})
    for layer in spec.layers:
        _create_layer(group, spec, layer, rows=len(ids))
    group.create_group("ledger")
    for file in beside.rglob("zarr.json"):
        sync(file)
    beside.replace(path)
    sync(path)


def write_shards(shards: Mapping[Path, Shaped[np.ndarray, "t _ _ _"]]) -> None:
    """Writes the shard files of one image, each whole or not at all; when this returns they are on the disk.

    All are written and synced under other names before the first takes its own. Writing the few bytes of a shard
    here instead of through zarr costs about a quarter of the time; any zarr reader reads the same arrays.
    """
    beside = {path: path.with_name(f"{path.name}.tmp") for path in shards}
    for path, values in shards.items():
        with beside[path].open("wb") as file:
            file.write(values.data)
            file.write(shard_index(chunks=len(values), size=values[0].nbytes))
            file.flush()
            os.fdatasync(file.fileno())
    for path, temporary in beside.items():
        temporary.replace(path)
    for folder in {path.parent for path in shards}:
        _sync_place(folder)


def shard_index(*, chunks: int, size: int) -> bytes:
    """The end of a shard file: offset and length of every chunk as uint64, then the index's CRC-32C."""
    index = np.asarray([(number * size, size) for number in range(chunks)], dtype="<u8").tobytes()
    return index + int(google_crc32c.value(index)).to_bytes(4, "little")


def sync(path: Path) -> None:
    """Sees to it that a file, or a folder's list of names, and its own name are on the disk."""
    _sync_place(path)
    _sync_place(path.parent)


def _sync_place(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe(spec: FeatureSpec, ids: Sequence[str]) -> dict[str, Any]:
    """The group's attribute: the format, what made the features, and the row of every image."""
    return {"format": FORMAT, "spec": spec.to_json(), "digest": spec.digest(), "ids": list(ids)}


def _create_layer(group: zarr.Group, spec: FeatureSpec, layer: LayerSpec, *, rows: int) -> None:
    cell = (*layer.grid, layer.channels)
    group.create_array(
        layer.name,
        shape=(rows, len(spec.timesteps), *cell),
        chunks=(1, 1, *cell),
        shards=(1, len(spec.timesteps), *cell),
        dtype=DTYPES[spec.dtype],
        compressors=None,
        filters=None,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("image", "timestep", "h", "w", "c"),
    )


def extend(group: zarr.Group, spec: FeatureSpec, ids: Sequence[str]) -> None:
    """Adds rows so that the store has one for each of `ids`, of which the present ones are a prefix."""
    for layer in spec.layers:
        array = layer_array(group, layer.name)
        array.resize((len(ids), *array.shape[1:]))
    group.attrs[ATTRIBUTE] = describe(spec, ids)


def open_group(path: Path) -> tuple[zarr.Group, FeatureSpec, list[str]]:
    """Opens a store: its group, what made its features, and the ids of its rows.

    Raises:
        StoreError: nothing there, not a store of ours, or one of another format.
    """
    try:
        group = zarr.open_group(path, mode="r+")
    except (OSError, ValueError) as error:
        raise StoreError(f"no feature store at {path}. Run: matchkit extract") from error
    attribute: Any = group.attrs.get(ATTRIBUTE)
    if not isinstance(attribute, dict):
        raise StoreError(f"{path} is a zarr group but not a feature store: attribute '{ATTRIBUTE}' is missing")
    if attribute.get("format") != FORMAT:
        raise StoreError(f"{path} has store format {attribute.get('format')}; this version reads format {FORMAT}")
    spec = FeatureSpec.from_json(attribute["spec"])
    if spec.digest() != attribute["digest"]:
        raise StoreError(f"{path}: the spec and its digest {attribute['digest']} disagree; the attributes were edited")
    return group, spec, list(attribute["ids"])


def layer_array(group: zarr.Group, layer: str) -> zarr.Array[Any]:
    """The array of one layer."""
    array = group.get(layer)
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path} has no array of layer '{layer}': the store is damaged. Extract it anew")
    return array


def shard_bytes(spec: FeatureSpec, layer: str) -> int:
    """The size of every shard file of a layer: its chunks, an index of 16 bytes a chunk, and the index's checksum."""
    described = spec.layer(layer)
    chunk = described.channels * described.grid[0] * described.grid[1] * DTYPES[spec.dtype].itemsize
    return len(spec.timesteps) * (chunk + 16) + 4


def shard_file(path: Path, layer: str, row: int) -> Path:
    """The file that holds one image's maps of one layer."""
    return path / layer / f"c.{row}.0.0.0.0"
