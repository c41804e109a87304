"""The feature store: maps of images, complete or absent, under one spec."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np
import torch
import zarr
from jaxtyping import Shaped

from matchkit.cache import layout
from matchkit.cache.ledger import Entry, Ledger
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec

ImageMaps = dict[str, Shaped[np.ndarray, "t _ _ _"]]


class FeatureStore:
    """The maps of a set of images under one `FeatureSpec`; open one with `open` or `create`.

    Attributes:
        path: the zarr group's folder.
        spec: what made the features.
    """

    def __init__(self, path: Path, group: zarr.Group, spec: FeatureSpec, rows: Sequence[str]) -> None:
        self.path = path
        self.spec = spec
        self._group = group
        self._rows = {image_id: row for row, image_id in enumerate(rows)}
        self._ledger = Ledger(path / "ledger")
        self._arrays = {layer.name: layout.layer_array(group, layer.name) for layer in spec.layers}

    @classmethod
    def open(cls, path: str | Path, spec: FeatureSpec | None = None) -> "FeatureStore":
        """Opens a store that is there.

        Raises:
            StoreError: nothing there, or not a store of this format.
            SpecMismatchError: a spec is given and the store was made under another one.
        """
        path = Path(path)
        group, found, rows = layout.open_group(path)
        if spec is not None:
            spec.require(found, where=str(path), remedy="Extract into another --out, or delete this store first")
        return cls(path, group, found, rows)

    @classmethod
    def create(cls, path: str | Path, spec: FeatureSpec, ids: Sequence[str]) -> "FeatureStore":
        """Opens the store at `path` with a row for each of `ids`, laying it out or adding rows where needed.

        Raises:
            StoreError: the place is taken by something else.
            SpecMismatchError: the store that is there was made under another spec.
        """
        path = Path(path)
        ids = list(dict.fromkeys(ids))
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            store = cls.open(path, spec)
            store._add_rows(ids)
            return store
        layout.create(path, spec, ids)
        return cls.open(path, spec)

    def _add_rows(self, ids: Sequence[str]) -> None:
        new = [image_id for image_id in ids if image_id not in self._rows]
        if new:
            rows = [*self._rows, *new]
            layout.extend(self._group, self.spec, rows)
            self._rows = {image_id: row for row, image_id in enumerate(rows)}
            self._arrays = {layer: layout.layer_array(self._group, layer) for layer in self.layers}

    @property
    def ids(self) -> list[str]:
        """The ids of the complete images, in the order of their rows."""
        return [image_id for image_id in self._rows if image_id in self._ledger.complete]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in the backbone's order."""
        return tuple(layer.name for layer in self.spec.layers)

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The diffusion steps of the stored axis, -1 for the clean latent."""
        return self.spec.timesteps

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that are not complete here, in their order."""
        return [image_id for image_id in ids if image_id not in self._ledger.complete]

    def stale(self, images: Mapping[str, int]) -> list[str]:
        """Those complete images whose photograph's file no longer has the given CRC-32C."""
        complete = self._ledger.complete
        return [
            image_id for image_id, crc in images.items() if image_id in complete and complete[image_id].image != crc
        ]

    def require(self, ids: Iterable[str], *, remedy: str) -> None:
        """Refuses to go on unless every one of `ids` is complete here.

        Raises:
            StoreError: with how many are missing and the next command.
        """
        wanted = list(ids)
        missing = self.missing(wanted)
        if missing:
            held = len(wanted) - len(missing)
            raise StoreError(
                f"{self.path} holds {held:,} of {len(wanted):,} images (first absent: {missing[0]}). {remedy}"
            )

    def read(
        self, image_id: str, layers: Sequence[str] | None = None, timesteps: Sequence[int] | None = None
    ) -> ImageMaps:
        """The maps of one image as {layer: (t,c,gh,gw)}, a view of channels-last memory.

        Args:
            image_id: e.g. `dog/2009_001225`.
            layers: which ones; all where None.
            timesteps: which ones, in the order wanted; all where None.

        Raises:
            StoreError: the image is not complete here, or there is no such layer or timestep.
        """
        if image_id not in self._ledger.complete:
            raise StoreError(f"{self.path} does not hold image '{image_id}'. Run: matchkit extract")
        row = self._rows[image_id]
        steps = self._steps(timesteps)
        maps: ImageMaps = {}
        for layer in layers if layers is not None else self.layers:
            name = self.spec.layer(layer).name
            values = self._shard(name, row)
            maps[name] = (values if steps is None else values[steps]).transpose(0, 3, 1, 2)
        return maps

    def _shard(self, layer: str, row: int) -> Shaped[np.ndarray, "t gh gw c"]:
        """One image's maps of one layer as they lie on the disk."""
        shard = layout.shard_file(self.path, layer, row)
        damage = f"{shard} is damaged or gone. Run: matchkit cache verify --repair {self.path}"
        # zarr takes a shard that is empty or not there for zeros
        if not shard.exists() or shard.stat().st_size != layout.shard_bytes(self.spec, layer):
            raise StoreError(damage)
        try:
            values: np.ndarray = np.asarray(self._arrays[layer][row : row + 1])[0]
        except (ValueError, OSError) as error:
            raise StoreError(damage) from error
        return values

    def _steps(self, timesteps: Sequence[int] | None) -> list[int] | None:
        if timesteps is None:
            return None
        unknown = [step for step in timesteps if step not in self.timesteps]
        if unknown:
            raise StoreError(
                f"{self.path} has no timestep {unknown[0]}; there are: {', '.join(map(str, self.timesteps))}"
            )
        return [self.timesteps.index(step) for step in timesteps]

    def write(
        self, image_id: str, maps: Mapping[str, Shaped[torch.Tensor, "t _ _ _"]], *, image_crc32c: int = 0
    ) -> None:
        """Writes the maps of one image, durably: when this returns, a power cut does not lose them.

        Args:
            image_id: one of the ids that the store was created with.
            maps: every layer of the spec.
            image_crc32c: of the photograph's file, by which `stale` knows later whether it has changed.

        Raises:
            StoreError: the image has no row here, or the maps are not those of the spec.
        """
        if image_id not in self._rows:
            raise StoreError(f"{self.path} has no row for image '{image_id}'")
        row = self._rows[image_id]
        values = {layer: self._at_rest(layer, maps) for layer in self.layers}
        if image_id in self._ledger.complete:
            self._ledger.withdraw(image_id)
        layout.write_shards({layout.shard_file(self.path, layer, row): values[layer] for layer in self.layers})
        checksums = {layer: google_crc32c.value(values[layer]) for layer in self.layers}
        self._ledger.record(image_id, Entry(image_crc32c, checksums))

    def _at_rest(self, layer: str, maps: Mapping[str, torch.Tensor]) -> Shaped[np.ndarray, "t gh gw c"]:
        array = self._arrays[layer]
        if layer not in maps:
            raise StoreError(f"the maps to be written into {self.path} lack layer '{layer}'")
        values = maps[layer].permute(0, 2, 3, 1).numpy()
        if values.shape != array.shape[1:]:
            raise StoreError(f"{self.path}: layer '{layer}' takes (t,h,w,c) {array.shape[1:]}, not {values.shape}")
        return np.ascontiguousarray(values, dtype=layout.DTYPES[self.spec.dtype])

    @property
    def content(self) -> str:
        """A digest of all that is complete here; it changes when an image is added or its maps change."""
        return self._ledger.content()

    def write_manifest(self) -> Path:
        """Writes the small file that stands for this store in DVC, and returns its path."""
        return self._ledger.write_manifest(spec_digest=self.spec.digest())

    def verify(self) -> list[str]:
        """Reads everything back and lists the ids whose bytes are not those that were written."""
        return [image_id for image_id in self.ids if not self._intact(image_id)]

    def _intact(self, image_id: str) -> bool:
        row, checksums = self._rows[image_id], self._ledger.complete[image_id].layers
        try:
            found = {layer: google_crc32c.value(self._shard(layer, row).tobytes()) for layer in self.layers}
        except StoreError:
            return False
        return found == checksums

    def withdraw(self, image_id: str) -> None:
        """Declares an image absent, so that the next extraction makes it again."""
        self._ledger.withdraw(image_id)
