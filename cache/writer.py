"""Images brought into a store, one at a time, by one of any number of writers."""

from collections.abc import Callable, Mapping

import google_crc32c
import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from matchkit.cache.codecs.codec import Codec
from matchkit.cache.journal import Entry
from matchkit.cache.layout import ArrayLayout
from matchkit.cache.ledger import Ledger
from matchkit.cache.places.place import Place, begin_writing
from matchkit.cache.reader import MapReader
from matchkit.cache.shards import commit, seal, seal_full, unsealed
from matchkit.core.errors import StoreError


class ImageWriter:
    """Writes images whole or not at all, and holds those that share shard files with them while it lives.

    Args:
        place: where the store lies.
        reader: of its arrays.
        encoding: the codec of its arrays.
        ledger: of what is complete.
        refresh: takes up what other writers have done.
    """

    def __init__(
        self, place: Place, reader: MapReader, encoding: Codec, ledger: Ledger, *, refresh: Callable[[], None]
    ) -> None:
        self._place = place
        self._reader = reader
        self._codec = encoding
        self._ledger = ledger
        self._refresh = refresh
        self._in_group = max(array.images for array in reader.arrays)
        self._claimed: set[int] = set()

    def close(self) -> None:
        """Forgets what it held."""
        self._claimed.clear()

    def write(self, image_id: str, row: int, maps: Mapping[str, Tensor], *, image_crc32c: int) -> None:
        """Writes an image as `FeatureStore.write` does.

        Raises:
            StoreError: the maps are not those of the spec, another writer is at the image or at one in the same shard
                file, or the disk is full.
        """
        values = self._encode(maps)
        self._claim(row)
        version = self._ledger.version(row)
        if self._ledger.is_complete(row):
            version += 1
            self._ledger.record(image_id, Entry(row, version, complete=False))
        commit(self._place, row, values, ledger=self._ledger)
        checksums = tuple(google_crc32c.value(chunk) for chunks in values.values() for chunk in chunks)
        self._ledger.record(image_id, Entry(row, version + 1, complete=True, image=image_crc32c, checksums=checksums))
        seal_full(self._place, row, values, ledger=self._ledger)
        if not self._place.appends:  # a claim in a bucket outlives a killed process
            self._release(row)

    def withdraw(self, image_id: str, row: int) -> None:
        """Declares an image absent."""
        self._claim(row)
        self._ledger.record(image_id, Entry(row, self._ledger.version(row) + 1, complete=False))

    def seal(self) -> None:
        """Completes shared shard files with what is in them; those that another writer is at are left to it."""
        begin_writing(self._place)
        kept = set(self._claimed)
        for row in unsealed(self._place, self._reader.arrays):
            if self._take(row):
                seal(self._place, row, self._reader.arrays, ledger=self._ledger)
                if row // self._in_group not in kept:
                    self._release(row)

    def _claim(self, row: int) -> None:
        """Takes the images that share shard files with this one, and learns what other writers did to them before."""
        if self._reader.read_only:
            raise StoreError(f"{self._place.url} was laid out by another program and can only be read")
        begin_writing(self._place)
        if not self._take(row):
            number = row // self._in_group
            held = self._place.holder("images", number)
            raise StoreError(
                f"{self._place.url}: images from row {number * self._in_group} on are being written {held}"
            )

    def _take(self, row: int) -> bool:
        number = row // self._in_group
        if number not in self._claimed:
            if not self._place.claim("images", number):
                return False
            self._claimed.add(number)
            self._refresh()
            self._place.beat()  # for a writer that was killed between its line and its beat
        return True

    def _release(self, row: int) -> None:
        self._place.release("images", row // self._in_group)
        self._claimed.discard(row // self._in_group)

    def _encode(self, maps: Mapping[str, Tensor]) -> dict[ArrayLayout, Shaped[np.ndarray, "t ..."]]:
        encoded: dict[ArrayLayout, np.ndarray] = {}
        for name, layer in self._reader.layers.items():
            if name not in maps:
                raise StoreError(f"the maps to be written into {self._place.url} lack layer '{name}'")
            values = maps[name].permute(0, 2, 3, 1)
            shape = (self._reader.steps, *layer.spec.grid, layer.spec.channels)
            if tuple(values.shape) != shape:
                raise StoreError(
                    f"{self._place.url}: layer '{name}' takes (t,h,w,c) {shape}, not {tuple(values.shape)}"
                )
            parts = self._codec.encode(layer.spec, values)
            encoded |= {array: part.numpy() for array, part in zip(layer.arrays, parts, strict=True)}
        return encoded
