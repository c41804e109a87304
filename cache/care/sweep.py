"""What nobody needs, removed: what belongs to no complete image, and what dead writers have left."""

import contextlib
import shutil
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matchkit.cache.care.condition import condition, torn_chunks
from matchkit.cache.care.findings import Finding
from matchkit.cache.care.survey import Survey, shard_number, temporary_folders
from matchkit.cache.places.bucket import BucketPlace
from matchkit.cache.places.local import PARTIAL, LocalPlace
from matchkit.cache.places.place import Place, begin_writing, open_place
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed: how many files, and their bytes."""

    files: int
    bytes: int


def clean(where: str | Path) -> Swept:
    """Removes what belongs to no complete image and what dead writers have left, and folds their journals.

    Shard files that wait for more images are completed with those that they have.

    Raises:
        StoreError: a writer lives, the store is damaged so that what is needed is not known, or the place cannot be
            written.
    """
    survey = Survey.open(where)
    temporary = _temporaries(survey.place)
    with alone(survey.place) as place:
        found = torn_chunks(survey) or condition(survey, claimed=())
        doubtful = [str(each) for each in found if each.kind in ("ledger", "lost")]
        if doubtful:
            raise StoreError(f"{where}: what is needed in it is not known. {doubtful[0]}")
        sizes = [*sweep(survey, found), *temporary]
        FeatureStore(place, survey.layout).finalize()
    remove_temporaries(where)
    return Swept(len(sizes), sum(sizes))


def break_claims(where: str | Path) -> list[str]:
    """Takes from the writers of a store in a bucket, which must be dead, all that they have claimed; says from whom.

    In a folder nothing is to be done: a dead process holds nothing.
    """
    place = Survey.open(where).place
    if not isinstance(place, BucketPlace):
        return []
    claims = place.claims()
    for claim in claims:
        place.break_claim(claim.kind, claim.number)
    return [f"{claim.kind} {claim.number} of {claim.holder} since {claim.since}" for claim in claims]


@contextlib.contextmanager
def alone(place: Place) -> Iterator[Place]:
    """The only writer of a place, which is closed in the end; one that comes later finds taken what this one is at.

    Raises:
        StoreError: another writer lives.
    """
    try:
        _refuse_writers(place)
        begin_writing(place)
        _refuse_writers(place)
        yield place
    finally:
        place.close()


def _refuse_writers(place: Place) -> None:
    for number in place.held("writer"):
        if number != place.writer:
            held = place.holder("writer", number)
            raise StoreError(f"{place.url} is being written {held}. Run this again when that is done")


def sweep(survey: Survey, findings: Iterable[Finding]) -> list[int]:
    """Removes orphans, unless another writer has come and is at them or has completed them; the bytes of each."""
    arrays = {array.name: array for array in survey.arrays}
    owned: list[tuple[str, range | None]] = []
    for where in (each.where for each in findings if each.kind == "orphan"):
        folder, _, name = where.rpartition("/")
        array = arrays.get(folder)
        number = None if array is None else shard_number(array, name)
        if array is None or number is None:
            owned.append((where, None))
        elif survey.place.claim("images", survey.group_of(number * array.images)):
            owned.append((where, survey.rows(array, number)))
    survey.refresh()
    folders = {where.rpartition("/")[0] for where, _ in owned}
    sizes = {f"{folder}/{name}": size for folder in folders for name, size in survey.place.sizes(folder).items()}
    needless = [
        where
        for where, rows in owned
        if where in sizes and (not any(map(survey.ledger.is_complete, rows or ())) or _is_spare(where, sizes))
    ]
    survey.place.delete(needless)
    return [sizes[where] for where in needless]


def _is_spare(where: str, names: Container[str]) -> bool:
    """Whether this is the uncompleted form of a file that has been completed."""
    return where.endswith(PARTIAL) and where.removesuffix(PARTIAL) in names


def remove_temporaries(where: str | Path) -> None:
    """Removes the folders that dead writers have written beside in."""
    place = open_place(where)
    if isinstance(place, LocalPlace):
        for number, folder in temporary_folders(place).items():
            if place.claim("writer", number):
                shutil.rmtree(folder)
                place.release("writer", number)
    place.close()


def _temporaries(place: Place) -> list[int]:
    """The bytes of each file that writers have written beside; all are dead where none lives."""
    if not isinstance(place, LocalPlace):
        return []
    return [path.stat().st_size for folder in temporary_folders(place).values() for path in folder.iterdir()]
