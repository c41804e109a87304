"""How a store lies in its place, byte for byte: a zarr v3 group with an array a layer.

    zarr.json                    attributes: matchkit = {format, spec, digest, ids, ...}
    <layer>/zarr.json            (image, timestep, h, w, c), chunk (1, 1, h, w, c), shard (k, t, h, w, c)
    <layer>/c.<shard>.0.0.0.0    k images' maps of one layer
    <layer>.scale/...            what a codec needs beside the values
    ledger/                      what is complete (`matchkit.cache.ledger`)

Channels last: a keypoint's descriptor is contiguous. Any zarr v3 reader opens it; `docs/store-format.md` has the bytes.
The few JSON files are written here and not through zarr, whose import alone takes a second.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from matchkit.cache.codecs.codec import Codec, Part, codec
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

FORMAT = 2
ATTRIBUTE = "matchkit"
MANY_IMAGES = 10_000
"""From more images on, several share a shard file: a million small files are slow to list, copy and delete."""
SMALL_SHARD = 1 << 20
"""Bytes of one image in an array below which several images share a shard file."""
SHARED = 16
"""Images in a shared shard file."""
ABSENT = b"\xff" * 16
"""What stands in a shard's index for a chunk that is not there."""
ZSTD_LEVEL = 1


@dataclass(frozen=True)
class ArrayLayout:
    """One array of a store.

    Attributes:
        name: its folder, e.g. `up0.0` or `up0.0.scale`.
        dtype: the number type, little endian.
        shape: of one image, (t, h, w, c) or what else a codec keeps a timestep.
        images: images in a shard file.
        compressed: whether its chunks are zstd frames.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    images: int
    compressed: bool

    @functools.cached_property
    def chunk_bytes(self) -> int:
        """Bytes of one image at one timestep."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @functools.cached_property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.shape[0] * self.chunk_bytes

    @property
    def payload_bytes(self) -> int:
        """Bytes of an uncompressed shard file before its index."""
        return self.images * self.image_bytes

    @property
    def shard_bytes(self) -> int:
        """Bytes of an uncompressed shard file."""
        return self.payload_bytes + 16 * self.images * self.shape[0] + 4

    def file(self, row: int) -> str:
        """The shard file of an image."""
        return f"{self.name}/c.{row // self.images}{self._zeros}"

    @functools.cached_property
    def _zeros(self) -> str:
        return ".0" * len(self.shape)

    def offset(self, row: int) -> int:
        """Where an image's bytes begin in its uncompressed shard file."""
        return row % self.images * self.image_bytes

    def index(self, present: Sequence[bool]) -> bytes:
        """The end of an uncompressed shard file: offset and length of every chunk, then the index's CRC-32C."""
        steps, size = self.shape[0], self.chunk_bytes
        entries = [
            _entry((image * steps + step) * size, size) if there else ABSENT
            for image, there in enumerate(present)
            for step in range(steps)
        ]
        return with_checksum(b"".join(entries))

    def compress(self, values: np.ndarray) -> list[bytes]:
        """One image's compressed shard file: its chunks as zstd frames, then the index."""
        from numcodecs import zstd

        frames = [bytes(zstd.compress(np.ascontiguousarray(chunk), ZSTD_LEVEL)) for chunk in values]
        starts = np.cumsum([0, *(len(frame) for frame in frames)]).tolist()
        entries = [_entry(start, len(frame)) for start, frame in zip(starts, frames, strict=False)]
        return [*frames, with_checksum(b"".join(entries))]

    def metadata(self, rows: int) -> dict[str, Any]:
        """What stands in the array's `zarr.json`."""
        bytes_codec = {"name": "bytes", "configuration": {"endian": "little"}}
        if self.dtype.itemsize == 1:
            bytes_codec = {"name": "bytes"}
        frames = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
        sharding = {
            "chunk_shape": [1, 1, *self.shape[1:]],
            "codecs": [bytes_codec, frames] if self.compressed else [bytes_codec],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            **array_metadata((rows, *self.shape), (self.images, *self.shape), self.dtype),
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["image", "timestep", "h", "w", "c"][: len(self.shape) + 1],
        }

    def is_canonical(self, found: Mapping[str, Any]) -> bool:
        """Whether a `zarr.json` describes this array as it is laid out here, whatever its number of rows."""
        expected = self.metadata(0)
        told = ("data_type", "chunk_grid", "chunk_key_encoding", "codecs")
        return found.get("shape", [])[1:] == list(self.shape) and all(found.get(key) == expected[key] for key in told)


def array_metadata(shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The `zarr.json` of an array without compression whose chunks are files `c.0.0`, not folders."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0.0 if dtype.kind == "f" else 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
        "storage_transformers": [],
    }


def _entry(start: int, length: int) -> bytes:
    return start.to_bytes(8, "little") + length.to_bytes(8, "little")


def with_checksum(index: bytes) -> bytes:
    """A shard's index followed by its CRC-32C."""
    return index + int(google_crc32c.value(index)).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """All that the group's attribute says.

    Attributes:
        spec: what made the features.
        ids: the image id of every row.
        shared: images in a shard file of a layer with small or with many images, 1 for all where nothing is shared.
        compressed: whether the chunks are zstd frames.
        notes: what was measured or told about this store, by name, as plain JSON data.
    """

    spec: FeatureSpec
    ids: tuple[str, ...]
    shared: Mapping[str, int]
    compressed: bool
    notes: Mapping[str, Any]

    @classmethod
    def plan(cls, spec: FeatureSpec, ids: Sequence[str], *, shared_files: bool, compressed: bool) -> "StoreLayout":
        """The layout of a new store; `shared_files` says whether its place can hold several images in a file."""
        layout = cls(spec, tuple(ids), {}, compressed, {})
        if not shared_files or compressed:
            return layout
        many = len(ids) > MANY_IMAGES
        arrays = [array for layer in spec.layers for array in layout.arrays(layer, codec(spec.dtype, {}))]
        shared = {array.name: SHARED for array in arrays if many or array.image_bytes < SMALL_SHARD}
        return cls(spec, tuple(ids), shared, compressed, {})

    @classmethod
    def parse(cls, attribute: object, *, where: str) -> "StoreLayout":
        """Reads the group's attribute.

        Raises:
            StoreError: not a store of ours, or one of another format.
        """
        if not isinstance(attribute, Mapping):
            raise StoreError(
                f"{where} is a zarr group but not a feature store: attribute '{ATTRIBUTE}' is missing. "
                "Name another path, or another --out"
            )
        if attribute.get("format") != FORMAT:
            raise StoreError(
                f"{where} has store format {attribute.get('format')}; this version reads format {FORMAT}. "
                "Run: matchkit extract with another --out, or delete it first"
            )
        if attribute.get("crc32c") != _checksum(attribute):
            raise StoreError(
                f"{where}: its attributes and their checksum disagree; its zarr.json was edited or damaged. "
                "Restore it from a copy, or delete the store and run: matchkit extract"
            )
        spec = FeatureSpec.from_json(attribute["spec"])
        if spec.digest() != attribute["digest"]:
            raise StoreError(
                f"{where}: the spec and its digest {attribute['digest']} disagree; its zarr.json was edited or "
                "damaged. Restore it from a copy, or delete the store and run: matchkit extract"
            )
        known, version = codec(spec.dtype, {}).version, attribute["codec_version"]
        if version != known:
            raise StoreError(
                f"{where} is encoded with version {version} of {spec.dtype}; this version reads {known}. "
                "Run: matchkit extract with another --out, or delete it first"
            )
        return cls(spec, tuple(attribute["ids"]), attribute["shared"], attribute["compressed"], attribute["notes"])

    def group_metadata(self) -> bytes:
        """The group's `zarr.json`."""
        attribute = {
            "format": FORMAT,
            "spec": self.spec.to_json(),
            "digest": self.spec.digest(),
            "codec_version": codec(self.spec.dtype, {}).version,
            "compressed": self.compressed,
            "shared": dict(self.shared),
            "notes": dict(self.notes),
            "ids": list(self.ids),
        }
        attribute["crc32c"] = _checksum(attribute)
        return json_bytes({"attributes": {ATTRIBUTE: attribute}, "zarr_format": 3, "node_type": "group"})

    def arrays(self, layer: LayerSpec, encoding: Codec) -> tuple[ArrayLayout, ...]:
        """The arrays that hold a layer, the values first."""
        return tuple(self._array(layer, part) for part in encoding.parts(layer))

    def _array(self, layer: LayerSpec, part: Part) -> ArrayLayout:
        name = f"{layer.name}{part.suffix}"
        shape = (len(self.spec.timesteps), *part.cell)
        return ArrayLayout(name, part.dtype, shape, self.shared.get(name, 1), self.compressed)


def _checksum(attribute: Mapping[str, Any]) -> int:
    """CRC-32C of the group's attribute, itself aside, as JSON with sorted keys and no spaces."""
    told = {key: value for key, value in attribute.items() if key != "crc32c"}
    return int(google_crc32c.value(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()))


def image_bytes(spec: FeatureSpec) -> int:
    """The bytes of one image's maps at rest, shard indices aside."""
    layout = StoreLayout(spec, ids=(), shared={}, compressed=False, notes={})
    encoding = codec(spec.dtype, {})
    return sum(array.image_bytes for layer in spec.layers for array in layout.arrays(layer, encoding))


def json_bytes(data: Mapping[str, Any]) -> bytes:
    """JSON as it stands in a store's files."""
    return json.dumps(data, indent=1).encode()
