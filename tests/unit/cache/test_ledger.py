"""The ledger: what is complete, whatever kills, other writers and folding did to its journals."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from matchkit.cache import ledger as module
from matchkit.cache.journal import Entry
from matchkit.cache.ledger import Ledger
from matchkit.cache.places.local import LocalPlace
from matchkit.core.errors import StoreError

CHUNKS = 2
IDS = [f"img{row}" for row in range(64)]


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


def test_nothing_there_is_nothing_complete(tmp_path: Path) -> None:
    ledger = fresh(tmp_path / "none")
    assert (held(ledger), ledger.rows, ledger.version(5), ledger.is_complete(5)) == ({}, 0, 0, False)
    ledger.refresh()
    assert not (tmp_path / "none").exists()


def test_records_are_read_back(ledger: Ledger, tmp_path: Path) -> None:
    assert held(fresh(tmp_path)) == held(ledger) == {0: A, 1: B}
    (journal,) = journals(tmp_path)
    assert [json.loads(line)["id"] for line in journal.read_text().splitlines()] == ["img0", "img1"]


def test_of_an_image_the_highest_version_counts(ledger: Ledger, tmp_path: Path, other: LocalPlace) -> None:
    third = complete(0, 3)
    record(ledger, withdrawn(A))
    assert held(fresh(tmp_path)) == held(ledger) == {1: B}
    second = Ledger(other, chunks=CHUNKS)
    record(second, third)
    record(ledger, A)  # as it may stand in a journal that sorts after the other
    assert held(fresh(tmp_path)) == held(second) == {0: third, 1: B}
    second.fold(rows=2)
    assert held(fresh(tmp_path)) == held(second) == {0: third, 1: B}


def test_a_line_cut_short_is_no_line_and_swallows_none(ledger: Ledger, tmp_path: Path, other: LocalPlace) -> None:
    (journal,) = journals(tmp_path)
    whole = journal.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        journal.write_bytes(whole[:end])
        assert held(fresh(tmp_path)) == {0: A}
    record(Ledger(other, chunks=CHUNKS), C)
    assert held(fresh(tmp_path)) == {0: A, 2: C}


def test_an_append_that_was_broken_off_spoils_no_later_line(
    ledger: Ledger, place: LocalPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = place.append

    def interrupted(name: str, line: bytes) -> None:
        append(name, line[:9])
        raise KeyboardInterrupt

    monkeypatch.setattr(place, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(ledger, C)
    monkeypatch.undo()
    record(ledger, C)
    assert held(fresh(tmp_path)) == held(ledger) == {0: A, 1: B, 2: C}


@pytest.mark.parametrize(
    "line",
    [
        b"\0" * 100,
        b"{}",
        b"[1]",
        b"null",
        b"\xff\xfe",
        b'{"row":-1,"version":1,"image":1,"crc32c":[1,2]}',
        b'{"row":1e9,"version":1,"image":1,"crc32c":[1,2]}',
        b'{"row":3,"version":4294967296,"image":1,"crc32c":[1,2]}',
        b'{"row":3,"version":1,"image":1,"crc32c":[1,2,3]}',
        b'{"row":3,"version":1,"image":1,"crc32c":[1,-2]}',
        b'{"row":3,"version":1,"image":1,"crc32c":"12"}',
        b'{"row":3,"version":1,"image":1,"crc32c":7}',
    ],
)
def test_a_line_that_says_nothing_is_read_over(ledger: Ledger, tmp_path: Path, line: bytes) -> None:
    (journal,) = journals(tmp_path)
    first, second = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([first, line, second, b""]))
    (tmp_path / "ledger/journal.txt").touch()
    (tmp_path / "ledger/c.old").touch()
    assert held(fresh(tmp_path)) == {0: A, 1: B}


def test_the_content_changes_with_what_is_complete_alone(tmp_path: Path, small: None) -> None:
    def content(*entries: Entry, folded: bool) -> str:
        place = LocalPlace(tmp_path / str(len(list(tmp_path.iterdir()))))
        ledger = Ledger(place, chunks=CHUNKS)
        record(ledger, *entries)
        if folded:
            ledger.fold(rows=40)
            ledger = Ledger(place, chunks=CHUNKS)
        place.close()
        return ledger.content(IDS)

    first = content(A, B, folded=False)
    later = complete(1, 5, image=99, checksums=B.checksums)  # the same maps, written again
    others = complete(30)
    assert content(B, A, folded=True) == content(A, later, folded=False) == first
    assert content(A, B, C, withdrawn(C), folded=True) == first
    assert first not in {content(A, folded=False), content(A, B, C, folded=True), content(A, B, others, folded=True)}
    assert content(A, B, others, folded=True) == content(A, others, B, folded=False)
    assert content(A, complete(1, image=11, checksums=(1, 102)), folded=True) != first


def test_the_manifest(ledger: Ledger, tmp_path: Path) -> None:
    def manifest(spec: str) -> bytes:
        ledger.write_manifest(spec_digest=spec, ids=IDS)
        return (tmp_path / "ledger/manifest.json").read_bytes()

    first = manifest("s1")
    assert json.loads(first) == {"spec": "s1", "content": ledger.content(IDS), "images": 2}
    ledger.fold(rows=2)
    assert manifest("s1") == first
    assert manifest("s2") != first


def test_a_part_of_the_ledger_that_is_cut_short_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.fold(rows=2)
    part = tmp_path / "ledger/c.0.0"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"ledger/c\.0\.0 is damaged\. Run: matchkit cache verify"):
        fresh(tmp_path)
