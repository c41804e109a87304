"""HDF5 files opened and read so that what is wrong with them is said in one line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Shaped

from matchkit.core.errors import StoreError


@contextlib.contextmanager
def damage_is_named(path: Path) -> Iterator[None]:
    """Turns what the library raises over a damaged file into a refusal.

    Raises:
        StoreError: the file is damaged, or needs a filter that is not installed.
    """
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path} is cut short or damaged: {reason}. Copy it again from where it was made") from error


def open_hdf5(path: Path) -> h5py.File:
    """Opens a file for reading.

    Raises:
        StoreError: no such file, no HDF5, or cut short.
    """
    if not path.is_file():
        raise StoreError(f"{path} is no file. Give an HDF5 file")
    with damage_is_named(path):
        if not h5py.is_hdf5(path):
            raise StoreError(f"{path} is no HDF5 file, or its beginning is lost. Is it of another --format?")
        return h5py.File(path, "r")


def read_whole(dataset: h5py.Dataset, path: Path) -> Shaped[np.ndarray, "..."]:
    """All values of a dataset.

    Raises:
        StoreError: they cannot be read.
    """
    with damage_is_named(path):
        return np.asarray(dataset[()])
