"""Every byte of the shard files against the checksums in the ledger, several files at a time."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import google_crc32c
import numpy as np
from jaxtyping import Shaped, UInt32
from numcodecs import zstd

from matchkit.cache.buffers import memory
from matchkit.cache.care.findings import Finding, Kind, finding
from matchkit.cache.care.survey import Survey
from matchkit.cache.layout import ABSENT, ArrayLayout, with_checksum
from matchkit.cache.places.place import Piece, Place
from matchkit.core.errors import StoreError

if TYPE_CHECKING:
    from matchkit.cache.foreign import ForeignArray

THREADS = 4
"""Shard files that are read at a time; each thread has memory for one image of the largest array."""
AHEAD = 4 * THREADS
"""Shard files whose checksums are in memory."""
View = Literal["bytes", "frames", "zarr"]
"""How an array is read: its bytes straight from our own layout, from zstd frames in it, or through zarr."""
Progress = Callable[[int, int], object]
"""Called with the bytes of maps compared so far, and in all."""


@dataclass(frozen=True, slots=True)
class Image:
    """A complete image: the version of it that the checksums, one a timestep, belong to."""

    row: int
    version: int
    checksums: UInt32[np.ndarray, " t"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard file and what the ledger says of it.

    Attributes:
        array: whose it is.
        number: in its name.
        images: the complete ones in it.
        present: for each place in it, whether its image is complete.
        size: bytes of the file; None where it is not there under its final name.
    """

    array: ArrayLayout
    number: int
    images: tuple[Image, ...]
    present: tuple[bool, ...]
    size: int | None

    @property
    def name(self) -> str:
        """The file's name under the store's root."""
        return self.array.file(self.images[0].row)


@dataclass(frozen=True, slots=True)
class Suspect:
    """What looks like damage, unless a writer has been there since the reading.

    Attributes:
        kind: of the finding it may be.
        shard: where.
        image: whose chunks they are; None where it is about the shard's index.
        detail: for the finding.
    """

    kind: Kind
    shard: Shard
    image: Image | None = None
    detail: str = ""

    def finding(self, survey: Survey, *, replaceable: bool) -> Finding:
        """The finding; what is not `replaceable` by an extraction into this store is lost."""
        image_id = None if self.image is None else survey.layout.ids[self.image.row]
        kind = self.kind if replaceable else "lost"
        return finding(kind, self.shard.name, url=survey.place.url, image_id=image_id, detail=self.detail)


class Checker:
    """Compares shard files with the ledger, from any number of threads."""

    def __init__(self, survey: Survey) -> None:
        self._place = survey.place
        self._timesteps = survey.layout.spec.timesteps
        self._room = _Room(max(array.image_bytes for array in survey.arrays))
        self._foreign: dict[str, ForeignArray] = {}

    def check(self, shard: Shard, view: View) -> list[Suspect]:
        """What is wrong with a shard file."""
        if view == "zarr":
            return [found for image in shard.images for found in self._check_foreign(shard, image)]
        if view == "frames":
            return list(self._check_frames(shard, shard.images[0]))
        found = [found for image in shard.images for found in self._check_bytes(shard, image)]
        kind = None if shard.size is None else index_damage(self._place, shard.array, shard.name, shard.present)
        damaged = shard.size != shard.array.shard_bytes and any(suspect.image for suspect in found)
        return found if kind is None or damaged else [*found, Suspect(kind, shard)]

    def _check_bytes(self, shard: Shard, image: Image) -> Iterator[Suspect]:
        array = shard.array
        values = self._room.values(array)
        try:
            self._place.fill([Piece(array.file(image.row), array.offset(image.row), values)])
        except PermissionError:
            raise
        except (OSError, EOFError) as error:
            yield Suspect("shard", shard, image, _reason(error))
        else:
            yield from self._compare(shard, image, values, damaged=[])

    def _check_frames(self, shard: Shard, image: Image) -> Iterator[Suspect]:
        values = self._room.values(shard.array)
        steps = len(values)
        try:
            data = self._place.read(shard.name)
        except FileNotFoundError as error:
            yield Suspect("shard", shard, image, _reason(error))
            return
        index = data[-16 * steps - 4 :]
        if len(index) != 16 * steps + 4 or with_checksum(index[:-4]) != index:
            yield Suspect("shard", shard, image, "its index is damaged")
            return
        entries = np.frombuffer(index[:-4], "<u8").reshape(steps, 2).tolist()
        damaged = [
            step
            for step, (start, length) in enumerate(entries)
            if not _decompress(data[start : start + length], values[step])
        ]
        yield from self._compare(shard, image, values, damaged=damaged)

    def _check_foreign(self, shard: Shard, image: Image) -> Iterator[Suspect]:
        from matchkit.cache.foreign import ForeignArray  # the import of zarr takes a second

        name = shard.array.name
        try:
            if name not in self._foreign:
                self._foreign[name] = ForeignArray(self._place, name)
            values = np.ascontiguousarray(self._foreign[name].read(image.row, range(len(self._timesteps))))
        except StoreError as error:
            yield Suspect("shard", shard, image, str(error))
        else:
            yield from self._compare(shard, image, values, damaged=[])

    def _compare(
        self, shard: Shard, image: Image, values: Shaped[np.ndarray, "t ..."], *, damaged: Sequence[int]
    ) -> Iterator[Suspect]:
        wrong = [
            str(timestep)
            for step, (timestep, chunk) in enumerate(zip(self._timesteps, values, strict=True))
            if step in damaged or google_crc32c.value(chunk) != image.checksums[step]
        ]
        if wrong:
            yield Suspect("chunk", shard, image, f"timesteps {', '.join(wrong)}")


class _Room(threading.local):
    """Memory for one image in each thread, reused: fresh memory costs more than reading into it."""

    def __init__(self, size: int) -> None:
        self._block = memory((size,), np.dtype(np.uint8))

    def values(self, array: ArrayLayout) -> Shaped[np.ndarray, "t size"]:
        return self._block[: array.image_bytes].reshape(array.shape[0], array.chunk_bytes)


def index_damage(place: Place, array: ArrayLayout, name: str, present: Sequence[bool]) -> Kind | None:
    """What is wrong with the end of an uncompressed shard file whose images are present as told."""
    expected = array.index(present)
    try:
        found = place.read(name, array.payload_bytes)
    except FileNotFoundError:
        return None
    if found == expected:
        return None
    if len(found) == len(expected) and with_checksum(found[:-4]) == found:
        wanted, told = (np.frombuffer(index[:-4], "V16") for index in (expected, found))
        there = wanted != np.frombuffer(ABSENT, "V16")
        if np.array_equal(wanted[there], told[there]):
            return "slot"
    return "index"


def shards(survey: Survey, array: ArrayLayout) -> Iterator[Shard]:
    """All shard files of an array in which there are complete images."""
    steps = len(survey.layout.spec.timesteps)
    first = survey.arrays.index(array) * steps
    sizes = survey.place.sizes(array.name)
    images = (
        Image(row, survey.ledger.version(row), np.frombuffer(checksums, "<u4")[first : first + steps])
        for row, checksums in survey.ledger.complete_rows()
        if row < len(survey.layout.ids) and survey.ledger.is_complete(row)
    )
    for number, together in itertools.groupby(images, key=lambda image: image.row // array.images):
        held = tuple(together)
        name = array.file(held[0].row).rpartition("/")[2]
        yield Shard(array, number, held, tuple(survey.present(array, number)), sizes.get(name))


def suspects(survey: Survey, views: Mapping[str, View], *, progress: Progress) -> Iterator[Suspect]:
    """All that looks like damage in the shard files of the arrays that `views` says how to read."""
    checker = Checker(survey)
    arrays = [array for array in survey.arrays if array.name in views]
    total, done = len(survey.complete) * sum(array.image_bytes for array in arrays), 0
    progress(0, total)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="matchkit-verify") as pool:
        jobs = (
            (shard, pool.submit(checker.check, shard, views[array.name]))
            for array in arrays
            for shard in shards(survey, array)
        )
        for shard, checked in _ahead(jobs):
            yield from checked.result()
            done += len(shard.images) * shard.array.image_bytes
            progress(done, total)


def _ahead(jobs: Iterable[tuple[Shard, "Future[list[Suspect]]"]]) -> Iterator[tuple[Shard, "Future[list[Suspect]]"]]:
    """The jobs in their order, some of them begun before they are asked for."""
    begun: deque[tuple[Shard, Future[list[Suspect]]]] = deque()
    for job in jobs:
        begun.append(job)
        if len(begun) >= AHEAD:
            yield begun.popleft()
    yield from begun


def _decompress(frame: bytes, into: Shaped[np.ndarray, " size"]) -> bool:
    """Whether a frame is one that could be decoded into memory of its size."""
    try:
        zstd.decompress(frame, into)
    except (RuntimeError, ValueError):
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "gone"
    return "cut short" if isinstance(error, EOFError) else str(error)
