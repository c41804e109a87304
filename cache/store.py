"""The feature store: maps of images, complete or absent, under one spec."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import torch
from jaxtyping import Shaped

from matchkit.cache import group
from matchkit.cache.layout import StoreLayout
from matchkit.cache.ledger import Ledger
from matchkit.cache.places.local import LocalPlace, outgrows_memory
from matchkit.cache.places.place import Place, begin_writing, changing, is_url, open_place
from matchkit.cache.reader import ImageMaps, MapReader, Room
from matchkit.cache.writer import ImageWriter
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec

CPU = torch.device("cpu")


class FeatureStore:
    """The maps of a set of images under one `FeatureSpec`; open one with `open` or `create`.

    Any number of readers may stand beside writers, and any number of writers, of several processes and hosts, beside
    each other: two of them at the same images are refused. Readers see what is complete at the time of the reading.

    Attributes:
        place: where it lies.
        spec: what made the features.
        notes: what was measured or told about this store, by name.
    """

    def __init__(self, place: Place, layout: StoreLayout) -> None:
        self.place = place
        self.spec = layout.spec
        self.notes = layout.notes
        self._layout = layout
        self._codec = group.read_codec(place, layout)
        self._reader = MapReader(place, layout, self._codec)
        self._rows = {image_id: row for row, image_id in enumerate(layout.ids)}
        if isinstance(place, LocalPlace):
            size = sum(array.image_bytes for array in self._reader.arrays)
            place.direct = outgrows_memory(size * len(layout.ids))
        self._positions: dict[tuple[int, ...] | None, tuple[int, ...]] = {}
        self._pulse = place.pulse()  # before the ledger: what changes while that is read must be seen as changed
        self._ledger = Ledger(place, chunks=len(layout.spec.timesteps) * len(self._reader.arrays))
        self._writer = ImageWriter(place, self._reader, self._codec, self._ledger, refresh=self.refresh)
        self._see_rows()

    @classmethod
    def open(cls, where: str | Path, spec: FeatureSpec | None = None) -> "FeatureStore":
        """Opens a store that is there, by its path or URL.

        Args:
            where: e.g. `features/toy/sd-inversion.zarr` or `s3://bucket/features.zarr`.
            spec: what its features must be, or must have been derived from.

        Raises:
            StoreError: nothing there, or not a store of this format.
            SpecMismatchError: the store was made under another spec.
        """
        place = open_place(where)
        layout = group.read_layout(place)
        if spec is not None and not layout.spec.serves(spec):
            spec.require(layout.spec, where=place.url, remedy="Extract into another --out, or delete this store first")
        return cls(place, layout)

    @classmethod
    def create(
        cls,
        where: str | Path,
        spec: FeatureSpec,
        ids: Sequence[str],
        *,
        compressed: bool = False,
        statics: Mapping[str, torch.Tensor] | None = None,
    ) -> "FeatureStore":
        """Opens a store for writing with a row for each of `ids`, laying it out or adding rows where needed.

        Args:
            where: its path or URL.
            spec: what makes the features.
            ids: of the images.
            compressed: whether chunks are zstd frames (for archives: hardly smaller, and read many times slower).
            statics: what the codec keeps once for all images, by the array's name.

        Raises:
            StoreError: the place is taken by something else, or cannot be written.
            SpecMismatchError: the store that is there was made under another spec.
        """
        place = open_place(where)
        ids = list(dict.fromkeys(ids))
        if group.exists(place):
            _require(group.read_layout(place), spec, place)
        else:
            group.require_free(place)
        begin_writing(place)
        with changing(place):
            if group.exists(place):  # laid out by another one since we looked, perhaps
                _require(group.read_layout(place), spec, place)
            else:
                plan = StoreLayout.plan(spec, ids, shared_files=place.shared_files, compressed=compressed)
                group.lay_out(place, plan, statics or {})
            layout = group.extend(place, ids)
        return cls(place, layout)

    def __enter__(self) -> "FeatureStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets other writers at what this one has claimed."""
        self._ledger.leave()
        self.place.close()
        self._writer.close()

    def __str__(self) -> str:
        return self.place.url

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Another process, of dask for one, opens the store for itself."""
        return FeatureStore.open, (str(self) if is_url(str(self)) else str(Path(str(self)).absolute()),)

    @property
    def ids(self) -> list[str]:
        """The ids of the complete images, in the order of their rows."""
        return [image_id for image_id, row in self._rows.items() if self._ledger.is_complete(row)]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in the backbone's order."""
        return tuple(self._reader.layers)

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The diffusion steps of the stored axis, -1 for the clean latent."""
        return self.spec.timesteps

    def refresh(self) -> None:
        """Takes up what writers have done since this store was opened."""
        pulse = self.place.pulse()
        self._ledger.refresh()
        self._see_rows()
        self._pulse = pulse  # not before: another thread takes the ledger to be as new as this

    def _see_rows(self) -> None:
        if self._ledger.rows > len(self._rows):
            self._layout = group.read_layout(self.place)
            self._rows = {image_id: row for row, image_id in enumerate(self._layout.ids)}

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that are not complete here, in their order."""
        return [image_id for image_id in ids if not self._holds(image_id)]

    def _holds(self, image_id: str) -> bool:
        return image_id in self._rows and self._ledger.is_complete(self._rows[image_id])

    def stale(self, images: Mapping[str, int]) -> list[str]:
        """Those complete images whose photograph's file no longer has the given CRC-32C."""
        return [
            image_id
            for image_id, checksum in images.items()
            if self._holds(image_id) and self._ledger.image(self._rows[image_id]) != checksum
        ]

    def image_crc32c(self, image_id: str) -> int:
        """CRC-32C of the photograph's file that a complete image was extracted from."""
        return self._ledger.image(self._rows[image_id])

    def require(self, ids: Iterable[str], *, remedy: str) -> None:
        """Refuses to go on unless every one of `ids` is complete here.

        Raises:
            StoreError: with how many are missing and the next command.
        """
        wanted = list(ids)
        missing = self.missing(wanted)
        if missing:
            held = len(wanted) - len(missing)
            raise StoreError(f"{self} holds {held:,} of {len(wanted):,} images (first absent: {missing[0]}). {remedy}")

    def read(
        self,
        image_id: str,
        layers: Sequence[str] | None = None,
        timesteps: Sequence[int] | None = None,
        *,
        out: Mapping[str, Shaped[torch.Tensor, "t _ _ _"]] | None = None,
    ) -> ImageMaps:
        """The maps of one image as {layer: (t,c,gh,gw)}, views of channels-last memory.

        Args:
            image_id: e.g. `dog/2009_001225`.
            layers: which ones; all where None.
            timesteps: which ones, in the order wanted; all where None.
            out: memory for the maps, as an earlier `read` or `buffers` of these layers and timesteps gave it: reused
                memory is read into at twice the speed.

        Raises:
            StoreError: the image is not complete here, there is no such layer or timestep, or a shard is damaged.
        """
        names = self._names(layers)
        steps = self._steps(timesteps)
        while True:
            pulse = self._pulse
            version = self._complete_version(image_id)
            row = self._rows[image_id]
            try:
                maps = self._reader.read(row, names, steps, ledger=self._ledger, out=out)
            except StoreError:
                if self.place.pulse() == pulse:
                    raise
                self.refresh()  # withdrawn or written again meanwhile, perhaps
                continue
            if self.place.pulse() == pulse:
                return maps
            self.refresh()
            if self._ledger.version(row) == version:
                return maps

    def _complete_version(self, image_id: str) -> int:
        if not self._holds(image_id):
            self.refresh()
        if not self._holds(image_id):
            raise StoreError(f"{self} does not hold image '{image_id}'. Run: matchkit extract")
        return self._ledger.version(self._rows[image_id])

    def buffers(
        self, layers: Sequence[str] | None = None, timesteps: Sequence[int] | None = None, *, pinned: bool = False
    ) -> Room:
        """Memory for `read` to put the maps of an image into; `pinned` where a GPU waits for it."""
        return self._reader.room(self._names(layers), len(self._steps(timesteps)), pinned=pinned)

    def batch_buffers(
        self, images: int, layers: Sequence[str], timesteps: Sequence[int], *, device: torch.device = CPU
    ) -> dict[str, Shaped[torch.Tensor, "b t _ _ _"]]:
        """Memory for the maps of some images, {layer: (b,t,c,gh,gw)}, channels last."""
        shape = (images, len(self._steps(timesteps)))
        return {name: self._reader.buffer(name, shape, device=device) for name in self._names(layers)}

    def _names(self, layers: Sequence[str] | None) -> Sequence[str]:
        for name in layers or ():
            if name not in self._reader.layers:
                self.spec.layer(name)
        return self.layers if layers is None else layers

    def _steps(self, timesteps: Sequence[int] | None) -> tuple[int, ...]:
        wanted = None if timesteps is None else tuple(timesteps)
        if wanted not in self._positions:
            known = self.spec.timesteps
            unknown = [step for step in wanted or () if step not in known]
            if unknown:
                raise StoreError(f"{self} has no timestep {unknown[0]}; there are: {', '.join(map(str, known))}")
            self._positions[wanted] = tuple(known.index(step) for step in (known if wanted is None else wanted))
        return self._positions[wanted]

    def write(
        self, image_id: str, maps: Mapping[str, Shaped[torch.Tensor, "t _ _ _"]], *, image_crc32c: int = 0
    ) -> None:
        """Writes the maps of one image, durably: when this returns, a power cut does not lose them.

        Args:
            image_id: one of the ids that the store was created with.
            maps: every layer of the spec, (t,c,gh,gw).
            image_crc32c: of the photograph's file, by which `stale` knows later whether it has changed.

        Raises:
            StoreError: the image has no row here, the maps are not those of the spec, another writer is at the image
                or at one in the same shard file, or the disk is full.
        """
        if image_id not in self._rows:
            raise StoreError(f"{self} has no row for image '{image_id}'")
        self._writer.write(image_id, self._rows[image_id], maps, image_crc32c=image_crc32c)

    def withdraw(self, image_id: str) -> None:
        """Declares an image absent, so that the next extraction makes it again."""
        if image_id not in self._rows:
            raise StoreError(f"{self} has no row for image '{image_id}'")
        self._writer.withdraw(image_id, self._rows[image_id])

    @property
    def content(self) -> str:
        """A digest of all that is complete here; it changes when an image is added or its maps change."""
        return self._ledger.content(list(self._rows))

    def finalize(self) -> None:
        """Completes shared shard files, folds the journals into the ledger, and writes the manifest for DVC.

        Shard files that another writer is at are left to it.
        """
        self._writer.seal()
        self.refresh()
        self._ledger.fold(rows=len(group.read_layout(self.place).ids))
        self._ledger.write_manifest(spec_digest=self.spec.digest(), ids=list(self._rows))

    def note(self, name: str, data: object) -> None:
        """Keeps something that is known about this store, as plain JSON data, in its attributes."""
        begin_writing(self.place)
        with changing(self.place):
            group.note(self.place, name, data)
        self.notes = {**self.notes, name: data}


def _require(layout: StoreLayout, spec: FeatureSpec, place: Place) -> None:
    spec.require(layout.spec, where=place.url, remedy="Extract into another --out, or delete this store first")
