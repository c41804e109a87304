"""A feature store as one HDF5 file, out and in again.

    attributes          format, spec (JSON), digest (of the spec), content (digest of all maps)
    ids                 (image), the id of every row
    image_crc32c        (image), CRC-32C of the photograph's file, 0 where it is not known
    notes               JSON
    layers/<name>       (image, timestep, h, w, c), a chunk an image and timestep, with HDF5's checksum (fletcher32)

Channels last, as in the store: a keypoint's descriptor is contiguous, and nothing is transposed on the way. Maps are
in half or single precision, whatever the store's codec; bfloat16, which HDF5 does not have, is in single precision.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch

from matchkit.cache.codecs.codec import codec
from matchkit.cache.interchange.hdf5_files import damage_is_named, open_hdf5
from matchkit.cache.interchange.maps import times
from matchkit.cache.interchange.torch_files import TEMPORARY
from matchkit.cache.places.durable import make_folder, sync
from matchkit.cache.reader import ImageMaps
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

FORMAT = "matchkit features 1"
DIMENSIONS = ("image", "timestep", "h", "w", "c")
PLAIN: Mapping[torch.dtype, str] = {torch.float16: "fp16", torch.float32: "fp32", torch.bfloat16: "bf16"}
"""The codec that keeps maps of a type as they are."""
Compression = Literal["gzip", "lzf"]


class Hdf5Target:
    """A file that is written (see `matchkit.cache.interchange.Target`); under another name until it is finished.

    Args:
        path: the file, new or of an earlier export of the very same features.
        spec: of the store.
        ids: of all images that it will hold.
        content: the store's digest of their maps.
        notes: of the store.
        compression: of the chunks; None for none.

    Raises:
        StoreError: the file is there and holds something else, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        spec: FeatureSpec,
        ids: Sequence[str],
        *,
        content: str,
        notes: Mapping[str, Any],
        compression: Compression | None,
    ) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + TEMPORARY)
        self._rows = {image_id: row for row, image_id in enumerate(ids)}
        self._spec = spec
        self._compression = compression
        self._file: h5py.File | None = None
        attributes = {"format": FORMAT, "digest": spec.digest(), "content": content}
        self._whole = path.exists()
        if self._whole:
            _require_same(path, attributes)
        else:
            self._lay_out(attributes, notes)

    def _lay_out(self, attributes: Mapping[str, str], notes: Mapping[str, Any]) -> None:
        try:
            with _refusing(self._path):
                make_folder(self._path.parent)
                self._file = h5py.File(self._temporary, "w")
                self._file.attrs.update({**attributes, "spec": json.dumps(self._spec.to_json())})
                self._file["ids"] = np.array(list(self._rows), dtype=h5py.string_dtype())
                self._file["notes"] = json.dumps(dict(notes))
                self._file.create_dataset("image_crc32c", (len(self._rows),), np.uint32)
                for layer in self._spec.layers:
                    self._lay_out_layer(self._file, layer)
        except StoreError:
            self.close()
            raise

    def _lay_out_layer(self, file: h5py.File, layer: LayerSpec) -> None:
        shape = (len(self._rows), len(self._spec.timesteps), *layer.grid, layer.channels)
        maps = file.create_dataset(
            f"layers/{layer.name}",
            shape,
            _number_type(self._spec),
            chunks=(1, 1, *shape[2:]),
            fletcher32=True,
            compression=self._compression,
        )
        for dimension, name in zip(maps.dims, DIMENSIONS, strict=True):
            dimension.label = name

    def missing(self, ids: Sequence[str]) -> list[str]:
        """None where the file is there, all where it is not: a file that was cut off is begun anew."""
        return [] if self._whole else list(ids)

    def write(self, image_id: str, maps: ImageMaps, *, image_crc32c: int) -> None:
        """Writes the maps of one image."""
        assert self._file is not None, "nothing is missing in a whole file"
        row = self._rows[image_id]
        with _refusing(self._path):
            self._file["image_crc32c"][row] = image_crc32c
            for name, values in maps.items():
                rows = values.permute(0, 2, 3, 1)
                into = self._file[f"layers/{name}"]
                into[row] = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()

    def finish(self) -> None:
        """Gives the file its name."""
        if self._file is not None:
            with _refusing(self._path):
                self._file.close()
                sync(self._temporary)
                self._temporary.replace(self._path)
                sync(self._path.parent)
            self._file = None

    def close(self) -> None:
        """Removes what was not finished."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._temporary.unlink(missing_ok=True)


class Hdf5File:
    """The images of a file that `Hdf5Target` wrote (see `matchkit.cache.interchange.Source`).

    The spec is that of the exported store, or, where its codec was not exact, one that was derived from it and keeps
    the decoded maps as they are.

    Args:
        path: the file.

    Raises:
        StoreError: no such file, cut short, or not of this format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_hdf5(path)
        try:
            with damage_is_named(path):
                exported = self._read_head()
                for layer in exported.layers:
                    self._require_layer(layer, exported)
        except StoreError:
            self._file.close()
            raise
        self._decoded = codec(exported.dtype).decoded
        exact = PLAIN[self._decoded]
        self.spec = exported if exported.dtype == exact else exported.derive(dtype=exact)
        self._rows = {image_id: row for row, image_id in enumerate(self.ids)}
        self.refused: Sequence[str] = ()

    def _read_head(self) -> FeatureSpec:
        if self._file.attrs.get("format") != FORMAT:
            raise StoreError(
                f"{self._path} is no file of matchkit cache export --format hdf5. Try --format distilldift"
            )
        try:
            spec = FeatureSpec.from_json(json.loads(self._file.attrs["spec"]))
            self.notes: Mapping[str, Any] = json.loads(self._file["notes"][()])
        except ValueError as error:
            raise StoreError(f"{self._path} is damaged: {error}. Export it again") from error
        if spec.digest() != self._file.attrs["digest"]:
            raise StoreError(
                f"{self._path}: the spec and its digest disagree; it was edited or damaged. Export it again"
            )
        self.ids: Sequence[str] = [name.decode() for name in self._file["ids"][()]]
        self._checksums = self._file["image_crc32c"][()].tolist()
        return spec

    def _require_layer(self, layer: LayerSpec, spec: FeatureSpec) -> None:
        found = self._file[f"layers/{layer.name}"]
        shape = (len(self.ids), len(spec.timesteps), *layer.grid, layer.channels)
        if found.shape != shape or found.dtype != _number_type(spec):
            raise StoreError(
                f"{self._path}: layer '{layer.name}' is {found.dtype} {times(found.shape)}, not "
                f"{_number_type(spec)} {times(shape)}. Export it again"
            )

    def image_crc32c(self, image_id: str) -> int:
        """The CRC-32C of the photograph's file."""
        return int(self._checksums[self._rows[image_id]])

    def read(self, image_id: str) -> ImageMaps:
        """The maps of one image, bit for bit those that were exported."""
        maps = {}
        with damage_is_named(self._path):
            for layer in self.spec.layers:
                values = torch.from_numpy(self._file[f"layers/{layer.name}"][self._rows[image_id]])
                maps[layer.name] = values.permute(0, 3, 1, 2).to(self._decoded)
        return maps

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{path} cannot be written: {reason}. Free some space or take another OUT, and run again"
        ) from error


def _number_type(spec: FeatureSpec) -> np.dtype[Any]:
    return np.dtype(np.float16 if codec(spec.dtype).decoded == torch.float16 else np.float32)


def _require_same(path: Path, attributes: Mapping[str, str]) -> None:
    with open_hdf5(path) as file:
        told = {name: file.attrs.get(name) for name in attributes}
    if told != attributes:
        raise StoreError(f"{path} is there already and holds something else than this store does now. Take another OUT")
