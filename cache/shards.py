"""The shard files of images: where a map's bytes lie, and how an image's bytes get there."""

import functools
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Shaped

from matchkit.cache.layout import ArrayLayout
from matchkit.cache.ledger import Ledger
from matchkit.cache.places.local import PARTIAL, LocalPlace
from matchkit.cache.places.place import Buffer, Piece, Place
from matchkit.core.errors import StoreError

Values = Shaped[np.ndarray, "t ..."]


def pieces(array: ArrayLayout, row: int, steps: Sequence[int], into: Values) -> list[Piece]:
    """What to read for some timesteps of an image; neighbouring timesteps are one piece."""
    name, start, size = array.file(row), array.offset(row), array.chunk_bytes
    runs = _runs(tuple(steps))
    if len(runs) == 1:
        return [Piece(name, start + runs[0][0] * size, into)]
    return [Piece(name, start + step * size, into[first:last]) for step, first, last in runs]


@functools.lru_cache(maxsize=256)
def _runs(steps: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Neighbours among steps, as (the first one, and from where to where in `steps` they stand)."""
    starts = [0, *(n for n in range(1, len(steps)) if steps[n] != steps[n - 1] + 1), len(steps)]
    return [(steps[first], first, last) for first, last in itertools.pairwise(starts) if first < last]


def commit(place: Place, row: int, arrays: Mapping[ArrayLayout, Values], *, ledger: Ledger) -> None:
    """Brings the bytes of an image onto the disk, each shard file in one step."""
    files: dict[str, list[Buffer]] = {}
    for array, values in arrays.items():
        if array.compressed:
            files[array.file(row)] = [*array.compress(values)]
        elif array.images == 1:
            files[array.file(row)] = [values, array.index([True])]
        else:
            assert isinstance(place, LocalPlace), "only local stores share shard files"
            _commit_shared(place, array, row, values, ledger=ledger)
    if files:
        place.put(files)


def _commit_shared(place: LocalPlace, array: ArrayLayout, row: int, values: Values, *, ledger: Ledger) -> None:
    """Into a slot that nobody reads yet in place; else into a copy that takes the file's name.

    Raises:
        StoreError: the file lacks other images that are complete: writing on would make zeros of them.
    """
    name, slot = array.file(row), {array.offset(row): values}
    sealed = place.exists(name)
    _require_whole(place, array, name if sealed else name + PARTIAL, set(_rows(array, row)) - {row}, ledger=ledger)
    if sealed:
        index = array.index([number == row or ledger.is_complete(number) for number in _rows(array, row)])
        place.rewrite(name, {**slot, array.payload_bytes: index})
    elif ledger.version(row) and place.exists(name + PARTIAL):
        place.rewrite(name + PARTIAL, slot)
    else:
        place.patch(name + PARTIAL, slot)


def _require_whole(place: LocalPlace, array: ArrayLayout, name: str, rows: Collection[int], *, ledger: Ledger) -> None:
    complete = [row for row in rows if ledger.is_complete(row)]
    if complete and place.size(name) < array.offset(max(complete)) + array.image_bytes:
        raise _damaged(place, name)


def _rows(array: ArrayLayout, row: int) -> range:
    first = row - row % array.images
    return range(first, first + array.images)


def seal_full(place: Place, row: int, arrays: Iterable[ArrayLayout], *, ledger: Ledger) -> None:
    """Completes the shared shard files of an image if all their images are in them."""
    for array in arrays:
        if array.images > 1 and all(ledger.is_complete(number) for number in _rows(array, row)):
            _seal(place, array, row, ledger=ledger)


def unsealed(place: Place, arrays: Iterable[ArrayLayout]) -> list[int]:
    """A row of every group of images whose shared shard files are not all complete."""
    rows = set()
    for array in arrays:
        names = place.sizes(array.name) if array.images > 1 else {}
        rows |= {int(name.split(".")[1]) * array.images for name in names if name.endswith(PARTIAL)}
    return sorted(rows)


def seal(place: Place, row: int, arrays: Iterable[ArrayLayout], *, ledger: Ledger) -> None:
    """Completes the shared shard files of an image with what is in them; where that is no complete image, removes them.

    The images must be claimed, and the ledger refreshed since.
    """
    for array in arrays:
        if array.images > 1:
            _seal(place, array, row, ledger=ledger)


def _seal(place: Place, array: ArrayLayout, row: int, *, ledger: Ledger) -> None:
    assert isinstance(place, LocalPlace), "only local stores share shard files"
    name, present = array.file(row), [ledger.is_complete(number) for number in _rows(array, row)]
    if place.exists(name + PARTIAL):
        if any(present):
            _require_whole(place, array, name + PARTIAL, _rows(array, row), ledger=ledger)
            place.patch(name + PARTIAL, {array.payload_bytes: array.index(present)})
            place.rename(name + PARTIAL, name)
        else:
            place.delete([name + PARTIAL])


def read_or_refuse(place: Place, wanted: Sequence[Piece]) -> None:
    """Reads pieces of shard files.

    Raises:
        StoreError: a shard file is not there or too short.
    """
    try:
        place.fill(wanted)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, EOFError) as error:
        name = next((piece.name for piece in wanted if piece.name in str(error)), wanted[0].name)
        raise _damaged(place, name) from error
    except OSError as error:
        raise StoreError(f"{place.url} cannot be read: {error.strerror or error}") from error


def _damaged(place: Place, name: str) -> StoreError:
    return StoreError(f"{place.url}/{name} is damaged or gone. Run: matchkit cache verify --repair {place.url}")
