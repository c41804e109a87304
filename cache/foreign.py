"""Arrays that are not laid out as our own, read through zarr: compressed, rechunked, written by other programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from jaxtyping import Shaped
from zarr.storage import ObjectStore

from matchkit.cache.places.bucket import BucketPlace
from matchkit.cache.places.local import LocalPlace
from matchkit.cache.places.place import Place
from matchkit.core.errors import StoreError


class ForeignArray:
    """One array of a store, opened through zarr."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self._array = open_array(place, name)

    def read(self, row: int, steps: Sequence[int]) -> Shaped[np.ndarray, "t ..."]:
        """Some timesteps of an image.

        Raises:
            StoreError: zarr cannot decode it.
        """
        try:
            if row >= self._array.shape[0]:  # rows were added since
                self._array = open_array(self._place, self._name)
            # slices of length one: zarr reads lists of indices chunk by chunk
            chunks = [np.asarray(self._array[row : row + 1, step : step + 1])[0] for step in steps]
        except Exception as error:  # decoders of many libraries, each with errors of its own
            where = f"{self._place.url}/{self._name}"
            raise StoreError(f"{where}: image in row {row} cannot be read: {error}") from error
        return np.concatenate(chunks)


def open_array(place: Place, name: str) -> zarr.Array[Any]:
    """An array of a store as zarr sees it.

    Raises:
        StoreError: zarr does not understand its metadata.
    """
    try:
        if isinstance(place, LocalPlace):
            return zarr.open_array(place.root / name, mode="r")
        assert isinstance(place, BucketPlace), "a store lies in a folder or in a bucket"
        return zarr.open_array(ObjectStore(place.objects, read_only=True), path=name, mode="r")
    except Exception as error:  # every part of the metadata has errors of its own
        remedy = f"Run: matchkit cache verify --repair {place.url}"
        raise StoreError(f"{place.url}/{name} cannot be opened: {error}. {remedy}") from error
