"""A local folder: files are old or new, reads fill the caller's memory, and a full disk is said to be one."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchkit.cache.buffers import memory
from matchkit.cache.places import local
from matchkit.cache.places.local import PAGE, PARTIAL, LocalPlace
from matchkit.cache.places.place import Piece, Place, begin_writing
from matchkit.core.errors import StoreError

Failing = Callable[..., Any]
BYTE = np.dtype(np.uint8)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LocalPlace]:
    """A place with a writer."""
    place = LocalPlace(tmp_path / "F.zarr")
    begin_writing(place)
    yield place
    place.close()


def numbers(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def left_over(place: LocalPlace) -> list[str]:
    return [path.name for path in (place.root / "ledger/tmp.0").iterdir()]


def test_a_folder_is_a_place(place: LocalPlace) -> None:
    assert isinstance(place, Place)
    assert (place.url, place.appends, place.shared_files, place.writer) == (str(place.root), True, True, 0)


def test_files_are_put_and_read(place: LocalPlace) -> None:
    place.put({"a/b": [b"one", numbers(5), b""], "c": [np.arange(6, dtype="<f2").reshape(2, 3)], "empty": [b""]})
    assert place.read("a/b") == b"one" + numbers(5).tobytes()
    assert place.read("a/b", 2) == b"e" + numbers(5).tobytes()
    assert place.read_all(["c", "no", "a", "a/b/c", "empty"][:2]) == [np.arange(6, dtype="<f2").tobytes(), b""]
    assert place.read_all(["a/b/c", "empty"]) == [b"", b""]
    assert (place.sizes("a"), place.sizes(""), place.sizes("no"), place.sizes("c")) == (
        {"b": 8},
        {"c": 12, "empty": 0},
        {},
        {},
    )
    assert place.exists("a/b")
    place.delete(["a/b", "no"])
    assert not place.exists("a/b")
    assert left_over(place) == []
    with pytest.raises(FileNotFoundError):
        place.read("a/b")


def test_who_has_a_file_open_keeps_the_old_one(place: LocalPlace) -> None:
    place.put({"a": [b"old"]})
    place.put({"b": [b"old slot"]})
    with (place.root / "a").open("rb") as a, (place.root / "b").open("rb") as b:
        place.put({"a": [b"new"]})
        place.rewrite("b", {4: b"SLOT"})
        assert (a.read(), b.read()) == (b"old", b"old slot")
    assert (place.read("a"), place.read("b")) == (b"new", b"old SLOT")


def test_bytes_are_patched_in_place_and_beyond_the_end(place: LocalPlace) -> None:
    place.patch("x", {4: b"ab"})
    place.patch("x", {0: numbers(2), 8: b"z"})
    assert place.read("x") == numbers(2).tobytes() + b"\0\0ab\0\0z"
    place.rename("x", "y")
    assert (place.exists("x"), place.exists("y")) == (False, True)


ACTIONS: dict[str, Callable[[LocalPlace], None]] = {
    "put": lambda place: place.put({"a": [b"n", b"ew"], "b": [b"new"], "f/c": [b"new"]}),
    "rewrite": lambda place: place.rewrite("a", {0: b"new"}),
    "append": lambda place: place.append("line", b"two\n"),
}


def refusal(action: Callable[[LocalPlace], None], place: LocalPlace) -> str:
    try:
        action(place)
    except StoreError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", ACTIONS)
def test_a_call_that_fails_leaves_the_old_or_the_new_file(
    place: LocalPlace, failing: Failing, name: str, error: int
) -> None:
    told = "the disk is full" if error == errno.ENOSPC else "cannot be written: Read-only file system"
    for number in range(100):
        place.put({"a": [b"old"], "b": [b"old"], "line": [b"one\n"]})
        with failing(number, error) as failed:
            refused = refusal(ACTIONS[name], place)
        assert (told in refused) == bool(failed)
        assert place.read("a") in (b"old", b"new")
        assert place.read("b") in (b"old", b"new")
        assert place.read("line") in (b"one\n", b"one\ntwo\n")
        assert left_over(place) == []
        if not failed:
            break
    assert 3 <= number < 99


def test_lines_are_appended_whole_or_not_at_all(place: LocalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.append("journal", b"one\n")
    write, calls = os.write, iter(range(100))

    def cut_short(file: int, data: bytes) -> int:
        if next(calls) == 0:
            return write(file, data[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", cut_short)
    with pytest.raises(StoreError, match="the disk is full"):
        place.append("journal", b"two\n")
    monkeypatch.undo()
    place.append("journal", b"three\n")
    assert place.read("journal") == b"one\nthree\n"


def test_a_write_that_the_system_does_in_parts_is_whole(place: LocalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    place.put({"a": [numbers(100)]})
    place.patch("a", {50: numbers(40)})
    assert place.read("a") == numbers(100)[:50].tobytes() + numbers(40).tobytes() + numbers(100)[90:].tobytes()


@pytest.mark.parametrize("split", [4 << 20, 1 << 10], ids=["one thread", "threads"])
def test_pieces_are_read_into_their_memory(place: LocalPlace, monkeypatch: pytest.MonkeyPatch, split: int) -> None:
    monkeypatch.setattr(local, "SPLIT", split)
    monkeypatch.setattr(local, "THREADED", split)
    threads, fill = set(), place._fill

    def watched(piece: Piece) -> None:
        threads.add(threading.current_thread().name)
        fill(piece)

    monkeypatch.setattr(place, "_fill", watched)
    data = numbers(10_000)
    place.put({"a": [data], "b": [data[::-1].copy()]})
    into = np.zeros((3, 1000), np.uint8)
    long, half = np.zeros(9_000, np.uint8), np.zeros((4, 5), "<f2")
    pieces = [Piece("a", 7, into[0]), Piece("a", 3000, into[2]), Piece("b", 1000, long), Piece("b", 6, half)]
    place.fill(pieces)
    np.testing.assert_array_equal(into, [data[7:1007], np.zeros(1000), data[3000:4000]])
    np.testing.assert_array_equal(long, data[::-1][1000:])
    assert half.tobytes() == data[::-1][6:46].tobytes()
    assert all(name.startswith("matchkit-read") == (split < 10_000) for name in threads)
    place.fill([])
    for piece, error in ((Piece("a", 9_990, into), EOFError), (Piece("none", 0, into), FileNotFoundError)):
        with pytest.raises(error, match=piece.name):
            place.fill([piece, *pieces])


def test_no_thread_writes_into_the_memory_after_a_failure(place: LocalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SPLIT", 1024)
    monkeypatch.setattr(local, "THREADED", 1024)
    data, into, none = numbers(2048), np.zeros(2048, np.uint8), np.zeros(2048, np.uint8)
    place.put({"a": [data]})
    preadv = os.preadv

    def slow(*arguments: Any) -> int:
        time.sleep(0.05)
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", slow)
    with pytest.raises(FileNotFoundError):
        place.fill([Piece("none", 0, none), Piece("a", 0, into)])
    np.testing.assert_array_equal(into, data)


def test_a_shard_that_is_not_complete_yet_is_found(place: LocalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    into = np.zeros(4, np.uint8)
    place.put({f"a{PARTIAL}": [b"1234"], f"b{PARTIAL}": [b"5678"]})
    place.fill([Piece("a", 0, into)])
    assert into.tobytes() == b"1234"
    opened = os.open

    def completing(path: str, flags: int) -> int:
        if path.endswith(PARTIAL):
            (place.root / f"b{PARTIAL}").replace(place.root / "b")
        return opened(path, flags)

    monkeypatch.setattr(os, "open", completing)
    place.fill([Piece("b", 0, into)])
    assert into.tobytes() == b"5678"


class Flags:
    """Which flags files are opened with; O_DIRECT fails where told."""

    def __init__(self, patch: pytest.MonkeyPatch, *, refused: bool) -> None:
        self.direct: list[bool] = []
        self._refused = refused
        self._real = os.open
        patch.setattr(os, "open", self)

    def __call__(self, path: str, flags: int) -> int:
        self.direct.append(bool(flags & local.DIRECT))
        if self.direct[-1] and self._refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return self._real(path, flags)


@pytest.mark.skipif(not local.DIRECT, reason="this system has no O_DIRECT")
@pytest.mark.parametrize("refused", [False, True], ids=["taken", "refused"])
def test_aligned_pieces_are_read_past_the_page_cache(
    place: LocalPlace, monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    monkeypatch.setattr(local, "SPLIT", 64 * PAGE)
    monkeypatch.setattr(local, "THREADED", 64 * PAGE)
    place.direct = True
    data = numbers(300 * PAGE + 68)
    place.put({"a": [data]})
    block = memory((400 * PAGE,), BYTE)
    flags = Flags(monkeypatch, refused=refused)
    into = block[: 299 * PAGE]
    place.fill([Piece("a", PAGE, into)])
    np.testing.assert_array_equal(into, data[PAGE : 300 * PAGE])
    assert sum(flags.direct) == 5
    flags.direct.clear()
    for start, end, offset in ((1, PAGE + 1, 0), (0, PAGE - 1, 0), (0, PAGE, 12)):
        place.fill([Piece("a", offset, block[start:end])])
        np.testing.assert_array_equal(block[start:end], data[offset : offset + end - start])
    assert flags.direct == [False] * 3
    with pytest.raises(EOFError, match="a ends before byte"):
        place.fill([Piece("a", 300 * PAGE, block[:PAGE])])
    with pytest.raises(EOFError, match="a ends before byte"):
        place.fill([Piece("a", 0, block)])


def test_a_file_that_vanishes_while_the_folder_is_listed(place: LocalPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put({"x/a": [b"1"], "x/b": [b"22"], "x/c": [b"333"]})
    scandir = os.scandir

    @contextmanager
    def listing(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        (folder / "b").unlink()
        yield iter(found)

    monkeypatch.setattr(os, "scandir", listing)
    assert place.sizes("x") == {"a": 1, "c": 3}


def test_what_is_empty(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path / "E.zarr")
    assert place.is_empty()
    (place.root / "ledger/tmp.0").mkdir(parents=True)
    assert place.is_empty()  # a killed writer came no further
    (place.root / "ledger/tmp.0/0").touch()
    assert not place.is_empty()
    (tmp_path / "file").touch()
    assert not LocalPlace(tmp_path / "file").is_empty()


def test_readers_feel_every_beat(place: LocalPlace) -> None:
    reader, other = LocalPlace(place.root), LocalPlace(place.root)
    assert reader.pulse() == b""
    begin_writing(other)
    felt = [reader.pulse()]
    for writer in (place, other, place, place, other):
        writer.beat()
        felt.append(reader.pulse())
    assert len(set(felt)) == len(felt)
    assert reader.pulse() == felt[-1]
    other.close()
    reader.close()
    assert reader.pulse() == felt[-1]
    reader.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files that are open cannot be counted here")
def test_a_place_that_is_forgotten_leaves_no_file_open(place: LocalPlace) -> None:
    place.beat()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        forgotten = LocalPlace(place.root)
        assert forgotten.pulse()
        assert not forgotten.claim("writer", 0)
    del forgotten
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_a_killed_writer_left_behind_is_removed(place: LocalPlace) -> None:
    (place.root / "ledger/tmp.0/copy").write_bytes(b"half")
    place.close()
    begin_writing(place)
    assert left_over(place) == []


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    place = LocalPlace(tmp_path / "F.zarr")
    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(StoreError, match=rf"F\.zarr cannot be written: {os.strerror(error)}"):
        begin_writing(place)
    monkeypatch.undo()
    assert place.is_empty()
