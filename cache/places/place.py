"""Where a store lies: a folder or a bucket, as named files under one root that are whole or absent."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from matchkit.core.errors import StoreError

Buffer = Shaped[np.ndarray, "..."] | bytes
Claimed = Literal["layout", "writer", "images"]
"""What one writer at a time may hold: the layout of the store, a writer's journal, a group of images."""


class Piece(NamedTuple):
    """Bytes of a file that are wanted: as many as `into` takes, from `offset` on.

    Attributes:
        name: of the file under the root, e.g. `up0.0/c.7.0.0.0.0`.
        offset: of the first byte.
        into: contiguous memory that takes the bytes.
    """

    name: str
    offset: int
    into: Shaped[np.ndarray, "..."]


@runtime_checkable
class Place(Protocol):
    """Named files under one root. All names are relative, with `/` between their parts.

    Attributes:
        url: the root as users write it, for messages.
        appends: whether `append` lengthens a file that is there; where not, it makes a file that must be new.
        shared_files: whether several images may share a shard file (a bucket cannot write the middle of an object).
        writer: this writer's number once `begin_writing` has taken one.
    """

    url: str
    appends: bool
    shared_files: bool
    writer: int | None

    def read(self, name: str, start: int = 0) -> bytes:
        """A file's bytes from `start` on.

        Raises:
            FileNotFoundError: no such file.
        """
        ...

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Some whole small files, several at a time; b"" for those that are not there."""
        ...

    def fill(self, pieces: Sequence[Piece]) -> None:
        """Reads all pieces, several at a time.

        Raises:
            FileNotFoundError: a file is not there.
            EOFError: a file ends before the piece does.
        """
        ...

    def put(self, files: Mapping[str, Sequence[Buffer]]) -> None:
        """Writes whole files, each from its buffers one after the other; durable when this returns.

        All are written under other names before the first takes its own, so a file is the old or the new one.
        """
        ...

    def append(self, name: str, line: bytes) -> None:
        """Adds a line at the end of a file (see `appends`); durable when this returns."""
        ...

    def is_empty(self) -> bool:
        """Whether there is nothing at all under the root."""
        ...

    def sizes(self, folder: str) -> Mapping[str, int]:
        """The files directly in a folder, {name without the folder: bytes}; empty where there is no such folder."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Removes files; those that are not there are passed over."""
        ...

    def claim(self, kind: Claimed, number: int = 0) -> bool:
        """Takes something for this writer until `release` or the process's end; False where another one holds it."""
        ...

    def release(self, kind: Claimed, number: int = 0) -> None:
        """Gives back what was claimed."""
        ...

    def holder(self, kind: Claimed, number: int = 0) -> str:
        """Who holds what could not be claimed, as the end of a sentence: `by another process`."""
        ...

    def held(self, kind: Claimed) -> list[int]:
        """The numbers of a kind that any writers hold, this one too; needs no permission to write.

        In a bucket also those of writers that were killed.
        """
        ...

    def settle(self, writer: int) -> None:
        """Writes under this claimed number from now on; what a killed writer of that number left behind is removed."""
        ...

    def beat(self) -> None:
        """Tells readers that this writer has changed something."""
        ...

    def pulse(self) -> bytes:
        """Bytes that are others after every `beat` by any writer; b"" where asking would cost a request."""
        ...

    def close(self) -> None:
        """Gives back everything that was claimed and closes what is open."""
        ...


def begin_writing(place: Place) -> int:
    """Makes this one of the writers of a place, under the lowest number that no living writer has."""
    if place.writer is None:
        number = 0
        while not place.claim("writer", number):
            number += 1
        place.settle(number)
        return number
    return place.writer


@contextlib.contextmanager
def changing(place: Place) -> Iterator[None]:
    """Holds the layout of a store while it is read and changed.

    Raises:
        StoreError: another writer holds it for too long, or the place cannot be written.
    """
    if not place.claim("layout"):
        held = place.holder("layout")
        raise StoreError(f"{place.url} is being changed {held}. Run this again when that is done")
    try:
        yield
    finally:
        place.release("layout")


def is_url(where: str | Path) -> bool:
    """Whether this names an object store, e.g. `s3://bucket/features.zarr`, and not a local path."""
    return "://" in str(where)


def open_place(where: str | Path) -> Place:
    """The place at a path or URL, whether or not there is anything yet.

    Raises:
        StoreError: a URL whose protocol is not known, or whose library is not installed.
    """
    if is_url(where):
        from matchkit.cache.places.bucket import BucketPlace

        return BucketPlace.at(str(where))
    from matchkit.cache.places.local import LocalPlace

    return LocalPlace(Path(where))
