"""Journals folded into the ledger while others write, look and die: nothing is lost, and memory stays flat."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from matchkit.cache import ledger as module
from matchkit.cache.journal import Entry
from matchkit.cache.ledger import Ledger
from matchkit.cache.places.local import LocalPlace

CHUNKS = 2
IDS = [f"img{row}" for row in range(64)]
METHODS = ("sizes", "read_all", "read", "claim", "release", "put", "append", "delete", "beat")


def complete(row: int, version: int = 1, *, image: int = 0, checksums: tuple[int, ...] = (1, 2)) -> Entry:
    return Entry(row, version, complete=True, image=image, checksums=checksums)


A, B, C = (complete(row, image=10 + row, checksums=(row, 100 + row)) for row in range(3))


def record(ledger: Ledger, *entries: Entry) -> None:
    for entry in entries:
        ledger.record(IDS[entry.row], entry)


def withdrawn(entry: Entry) -> Entry:
    return Entry(entry.row, entry.version + 1, complete=False)


def fresh(root: Path) -> Ledger:
    return Ledger(LocalPlace(root), chunks=CHUNKS)


def held(ledger: Ledger) -> dict[int, Entry]:
    """All complete entries."""
    return {
        row: complete(row, ledger.version(row), image=ledger.image(row), checksums=ledger.checksums(row))
        for row in range(ledger.rows)
        if ledger.is_complete(row)
    }


@contextmanager
def breaking_in(place: LocalPlace, number: int, action: Callable[[], None]) -> Iterator[list[str]]:
    """Does something before the n-th thing that is asked of a place; yields what was asked until then."""
    asked: list[str] = []

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(place, name)

        def call(*arguments: Any) -> Any:
            asked.append(name)
            if len(asked) == number:
                action()
            return real(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in METHODS:
            patch.setattr(place, name, watched(name))
        yield asked


def journals(root: Path) -> list[Path]:
    return sorted((root / "ledger").glob("journal.*"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LocalPlace]:
    place = LocalPlace(tmp_path)
    yield place
    place.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[LocalPlace]:
    """The place of another writer."""
    place = LocalPlace(tmp_path)
    yield place
    place.close()


@pytest.fixture
def ledger(place: LocalPlace) -> Ledger:
    """A ledger that says that two images are complete."""
    ledger = Ledger(place, chunks=CHUNKS)
    record(ledger, A, B)
    return ledger


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folded at every eighth line."""
    monkeypatch.setattr(module, "ROWS", 8)


def test_folding_keeps_everything_and_is_a_zarr_array(ledger: Ledger, tmp_path: Path) -> None:
    record(ledger, withdrawn(B), C)
    for _ in range(2):
        ledger.fold(rows=4)
        assert held(ledger) == held(fresh(tmp_path)) == {0: A, 2: C}
        assert fresh(tmp_path).version(1) == 2
        assert journals(tmp_path) == []
        array = zarr.open_array(tmp_path / "ledger", mode="r")
        np.testing.assert_array_equal(array[:], [[1, 1, 10, 0, 100], [2, 0, 0, 0, 0], [1, 1, 12, 2, 102], [0] * 5])
    record(ledger, complete(3))
    assert held(ledger).keys() == held(fresh(tmp_path)).keys() == {0, 2, 3}


def test_journals_are_folded_and_memory_stays_flat(ledger: Ledger, tmp_path: Path, small: None) -> None:
    entries = {row: complete(row, checksums=(row, row)) for row in range(40)}
    for entry in entries.values():
        record(ledger, entry)
        assert len(ledger._recent) < 8
        assert sum(len(path.read_text().splitlines()) for path in journals(tmp_path)) < 8
    assert held(ledger) == held(fresh(tmp_path)) == entries
    assert sorted(path.name for path in (tmp_path / "ledger").glob("c.*")) == [f"c.{n}.0" for n in range(5)]
    for version in range(2, 40):  # the same image again and again
        record(ledger, complete(3, version, checksums=(version, version)))
        assert sum(len(path.read_text().splitlines()) for path in journals(tmp_path)) < 8
    assert held(fresh(tmp_path))[3].checksums == (39, 39)


def test_a_fold_takes_dead_writers_journals_and_leaves_living_ones(
    ledger: Ledger, tmp_path: Path, place: LocalPlace, other: LocalPlace
) -> None:
    second = Ledger(other, chunks=CHUNKS)
    record(second, C)
    second.fold(rows=3)
    assert held(second) == held(fresh(tmp_path)) == {0: A, 1: B, 2: C}
    (living,) = journals(tmp_path)
    record(ledger, withdrawn(A))
    assert journals(tmp_path) == [living]
    assert held(fresh(tmp_path)) == {1: B, 2: C}
    place.close()  # as death does
    second.fold(rows=3)
    assert journals(tmp_path) == []
    assert held(second) == held(fresh(tmp_path)) == {1: B, 2: C}


def test_who_left_begins_another_journal(ledger: Ledger, tmp_path: Path, place: LocalPlace) -> None:
    ledger.leave()
    place.close()
    record(ledger, C)
    assert len(journals(tmp_path)) == 2
    assert held(ledger) == held(fresh(tmp_path)) == {0: A, 1: B, 2: C}


def test_the_last_line_of_a_writer_that_ends_while_another_one_folds_is_kept(
    ledger: Ledger, tmp_path: Path, place: LocalPlace, other: LocalPlace
) -> None:
    second, rows = Ledger(other, chunks=CHUNKS), [0, 1]
    record(second, complete(2))
    for row in range(3, 60):

        def end(row: int = row) -> None:
            record(ledger, complete(row))
            ledger.leave()
            place.close()

        with breaking_in(other, row - 2, end) as asked:
            second.fold(rows=60)
        if len(asked) < row - 2:
            break
        rows.append(row)
        second.refresh()
        assert held(second).keys() == held(fresh(tmp_path)).keys() == {2, *rows}
    assert 10 < row < 59


def test_a_journal_that_came_and_was_folded_between_two_refreshes(
    ledger: Ledger, tmp_path: Path, place: LocalPlace, other: LocalPlace
) -> None:
    reader, second = fresh(tmp_path), Ledger(other, chunks=CHUNKS)
    for row in range(2, 6):
        record(second, complete(row))
        second.fold(rows=6)
        reader.refresh()
        ledger.refresh()
        assert held(reader).keys() == held(ledger).keys() == {*range(row + 1)}
    assert len(list((tmp_path / "ledger").glob("folded.*"))) == 1
    before = sorted(path.name for path in (tmp_path / "ledger").iterdir())
    second.fold(rows=6)  # nothing to fold: nothing to tell
    assert sorted(path.name for path in (tmp_path / "ledger").iterdir()) == before


@pytest.mark.parametrize("known", [False, True])
def test_a_refresh_while_another_writer_folds_misses_nothing(ledger: Ledger, tmp_path: Path, *, known: bool) -> None:
    for row in range(2, 20):
        reader = fresh(tmp_path)
        record(ledger, complete(row))
        if known:
            reader.refresh()
            record(ledger, complete(row, 2))

        def fold() -> None:
            ledger.fold(rows=20)

        assert isinstance(reader._place, LocalPlace)
        with breaking_in(reader._place, row - 1, fold) as asked:
            reader.refresh()
        assert held(reader).keys() == {*range(row + 1)}
        if len(asked) < row - 1:
            break
    assert 3 < row < 19


@pytest.mark.parametrize("known", [False, True])
def test_whoever_looks_while_another_one_folds_finds_everything(
    tmp_path: Path, place: LocalPlace, other: LocalPlace, *, known: bool
) -> None:
    writer, reader = Ledger(place, chunks=CHUNKS), Ledger(other, chunks=CHUNKS)
    for row in range(60):
        record(writer, complete(row))
        if known:
            reader.refresh()

        def look(row: int = row) -> None:
            reader.refresh()
            assert held(reader).keys() == held(fresh(tmp_path)).keys() == {*range(row + 1)}

        with breaking_in(place, row + 1, look) as asked:
            writer.fold(rows=60)
        if len(asked) < row + 1:
            break
    assert 10 < row < 59


@pytest.mark.parametrize("deleted", [0, 1])
def test_a_kill_within_a_fold_loses_nothing(
    tmp_path: Path, place: LocalPlace, other: LocalPlace, small: None, deleted: int
) -> None:
    """Dead after any step of it, the last of which is half done: some of the old journals are deleted."""
    for number in range(1, 60):
        entries = {row: complete(row, number, checksums=(row, number)) for row in (0, 9, 17)}
        for entry in entries.values():
            writer = Ledger(place, chunks=CHUNKS)
            record(writer, entry)
            place.close()
        dead = Ledger(other, chunks=CHUNKS)

        def kill() -> None:
            if asked[-1] == "delete":
                place.delete(f"ledger/{path.name}" for path in journals(tmp_path)[:deleted])
            raise KeyboardInterrupt

        with suppress(KeyboardInterrupt), breaking_in(other, number, kill) as asked:
            dead.fold(rows=20)
        other.close()
        assert held(fresh(tmp_path)) == entries
        if len(asked) < number:
            break
    assert 10 < number < 59
