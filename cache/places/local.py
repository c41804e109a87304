"""A store's place in a local folder: shards read straight into the caller's memory, files committed by renaming."""

import errno
import functools
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from matchkit.cache.places.claims import Claims, held
from matchkit.cache.places.durable import append, make_folder, patch, sync, write
from matchkit.cache.places.place import Buffer, Claimed, Piece
from matchkit.cache.places.ranges import flat_bytes
from matchkit.core.errors import StoreError

PARTIAL = ".partial"
"""What follows the name of a shared shard file until all its images are in it."""
THREADS = 4
THREADED = 16 << 20
"""Bytes from which several threads read; for less, waking them takes longer than it saves."""
SPLIT = 4 << 20
"""Bytes that one thread reads at a time."""
PAGE = 4096
"""Alignment in bytes of memory, offset and length that O_DIRECT asks for."""
LAYOUT_WAIT = 60.0
"""Seconds to wait for another writer that is changing the layout."""
FULL = (errno.ENOSPC, errno.EDQUOT)
DIRECT = getattr(os, "O_DIRECT", 0)


def outgrows_memory(size: int) -> bool:
    """Whether so many bytes would drive themselves out of the page cache, so that it only costs processor time."""
    return 2 * size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="matchkit-read")


@contextmanager
def _syncing() -> Iterator[Callable[[Path], None]]:
    """Syncs several places at the same time; at the end all are on the disk, or nothing is under way any more."""
    syncing: list[Future[None]] = []
    try:
        yield lambda path: syncing.append(_pool().submit(sync, path))
    finally:
        wait(syncing)
    for done in syncing:
        done.result()


os.register_at_fork(after_in_child=_pool.cache_clear)


class LocalPlace:
    """Named files in a folder (see `matchkit.cache.places.place.Place`).

    Attributes:
        root: the folder.
        direct: whether to read past the page cache where memory and file allow it: for stores larger than memory.
    """

    appends = True
    shared_files = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)
        self.direct = False
        self._prefix = f"{root}/"
        self._claims: Claims | None = None
        self.writer: int | None = None
        self._scratch = root / "ledger/tmp.0"
        self._pulse: int | None = None
        self._close_pulse: weakref.finalize[..., LocalPlace] | None = None

    def read(self, name: str, start: int = 0) -> bytes:
        """A file's bytes from `start` on."""
        with (self.root / name).open("rb") as file:
            file.seek(start)
            return file.read()

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Some whole small files; b"" for those that are not there."""
        found = [b""] * len(names)
        for number, name in enumerate(names):
            with suppress(FileNotFoundError, NotADirectoryError):
                found[number] = (self.root / name).read_bytes()
        return found

    def fill(self, pieces: Sequence[Piece]) -> None:
        """Reads all pieces into their memory, by up to four threads where they are large."""
        if sum(piece.into.nbytes for piece in pieces) < THREADED:
            for piece in pieces:
                self._fill(piece)
        else:
            # no thread may write into the caller's memory once this has returned, even where another one failed
            parts = [_pool().submit(self._fill, piece) for piece in _split(pieces)]
            wait(parts)
            for part in parts:
                part.result()

    def _fill(self, piece: Piece) -> None:
        if self.direct and DIRECT and _aligned(piece.into, piece.offset):
            try:
                self._fill_by(piece, os.O_RDONLY | DIRECT)
            except OSError as error:
                if error.errno != errno.EINVAL:  # a file system that cannot, or the odd end of a file that is too short
                    raise
            else:
                return
        self._fill_by(piece, os.O_RDONLY)

    def _fill_by(self, piece: Piece, flags: int) -> None:
        descriptor = self._open(piece.name, flags)
        try:
            done = os.preadv(descriptor, [piece.into.data], piece.offset)
            if done < piece.into.nbytes:
                _fill_rest(descriptor, piece.into, piece.offset, done, name=piece.name)
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int) -> int:
        path = self._prefix + name
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            try:
                return os.open(path + PARTIAL, flags)
            except FileNotFoundError:
                return os.open(path, flags)  # completed between the two

    def put(self, files: Mapping[str, Sequence[Buffer]]) -> None:
        """Writes whole files: all beside under other names and synced, then each takes its own name."""
        beside = {self._scratch / str(number): self.root / name for number, name in enumerate(files)}
        folders = {path.parent for path in beside.values()}
        with self._writing(*beside):
            for folder in folders:
                make_folder(folder)
            with _syncing() as begin:  # a file goes to the disk while the next one is written
                for temporary, buffers in zip(beside, files.values(), strict=True):
                    write(temporary, buffers)
                    begin(temporary)
            for temporary, path in beside.items():
                temporary.replace(path)
            with _syncing() as begin:
                for folder in folders:
                    begin(folder)

    def rewrite(self, name: str, patches: Mapping[int, Buffer]) -> None:
        """Changes bytes of a file that others may be reading: a copy is patched, synced and takes the name."""
        path, temporary = self.root / name, self._scratch / "copy"
        with self._writing(temporary):
            shutil.copyfile(path, temporary)
            patch(temporary, patches)
            temporary.replace(path)
            sync(path.parent)

    def patch(self, name: str, patches: Mapping[int, Buffer]) -> None:
        """Changes bytes that nobody reads yet, in place, or makes the file."""
        path = self.root / name
        new = not path.exists()
        with self._writing():
            patch(path, patches)
            if new:
                sync(path.parent)

    def rename(self, name: str, to: str) -> None:
        """Gives a file another name."""
        with self._writing():
            (self.root / name).replace(self.root / to)
            sync((self.root / to).parent)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.root / name).exists()

    def size(self, name: str) -> int:
        """Bytes of a file; 0 where there is none."""
        return (self.root / name).stat().st_size if self.exists(name) else 0

    def append(self, name: str, line: bytes) -> None:
        """Adds a line to a file and syncs it; what a full disk cut short is taken back."""
        path = self.root / name
        new = not path.exists()
        with self._writing():
            append(path, line)
            if new:
                sync(path.parent)

    @contextmanager
    def _writing(self, *temporary: Path) -> Iterator[None]:
        """Says what cannot be written in the words of this project, and removes what was written beside."""
        try:
            yield
        except OSError as error:
            for path in temporary:
                with suppress(OSError):
                    path.unlink()
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> StoreError:
        if error.errno in FULL:
            return StoreError(f"{self.url}: the disk is full. What is complete is kept; free some space and run again")
        return StoreError(f"{self.url} cannot be written: {error.strerror or error}")

    def sizes(self, folder: str) -> Mapping[str, int]:
        """The files directly in a folder."""
        found = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # deleted since the folder was listed
                    if entry.is_file():
                        found[entry.name] = entry.stat().st_size
        return found

    def is_empty(self) -> bool:
        """Whether there is no such folder, or no file in it: a killed writer may leave empty folders."""
        return not self.root.exists() or (self.root.is_dir() and all(path.is_dir() for path in self.root.rglob("*")))

    def delete(self, names: Iterable[str]) -> None:
        """Removes files."""
        with self._writing():
            for name in names:
                (self.root / name).unlink(missing_ok=True)

    def pulse(self) -> bytes:
        """Bytes that are others after every change by any writer; cheap enough to ask at every read."""
        if self._pulse is None:
            try:
                self._pulse = os.open(self.root / "ledger/pulse", os.O_RDONLY)
            except OSError:
                return b""
            self._close_pulse = weakref.finalize(self, os.close, self._pulse)
        return os.pread(self._pulse, PAGE, 0)

    def beat(self) -> None:
        """Tells readers that this writer has changed something."""
        assert self.writer is not None, "a writer has a number"
        with self._writing():
            descriptor = os.open(self.root / "ledger/pulse", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                beats = int.from_bytes(os.pread(descriptor, 8, 8 * self.writer), "little") + 1
                os.pwrite(descriptor, beats.to_bytes(8, "little"), 8 * self.writer)
            finally:
                os.close(descriptor)

    def claim(self, kind: Claimed, number: int = 0) -> bool:
        """Takes something for this writer; for the layout it waits a while."""
        deadline = time.monotonic() + (LAYOUT_WAIT if kind == "layout" else 0.0)
        with self._writing():
            if self._claims is None:
                make_folder(self.root / "ledger")
                self._claims = Claims(self.root / "ledger/claims")
            while not (taken := self._claims.take(kind, number)) and time.monotonic() < deadline:
                time.sleep(0.01)
        return taken

    def release(self, kind: Claimed, number: int = 0) -> None:
        """Gives back what was claimed."""
        if self._claims is not None:
            self._claims.drop(kind, number)

    def holder(self, kind: Claimed, number: int = 0) -> str:
        """Who holds what could not be claimed."""
        return f"by another process (it holds {kind} {number} in {self.url}/ledger/claims)"

    def held(self, kind: Claimed) -> list[int]:
        """The numbers of a kind that living writers hold."""
        path = self.root / "ledger/claims"
        return held(path, kind) if path.exists() else []

    def close(self) -> None:
        """Gives back everything and closes what is open."""
        if self._claims is not None:
            self._claims.close()
        if self._close_pulse is not None:
            self._close_pulse()
        self._claims = self._pulse = self._close_pulse = self.writer = None

    def settle(self, writer: int) -> None:
        """Writes under this number from now on; what a killed writer of this number left behind is removed."""
        self._scratch = self.root / f"ledger/tmp.{writer}"
        shutil.rmtree(self._scratch, ignore_errors=True)
        with self._writing():
            make_folder(self._scratch)
        self.writer = writer


def _aligned(into: Shaped[np.ndarray, "..."], offset: int) -> bool:
    return (into.ctypes.data | offset | into.nbytes) % PAGE == 0


def _split(pieces: Sequence[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        flat = flat_bytes(piece.into)
        for start in range(0, flat.nbytes, SPLIT):
            yield Piece(piece.name, piece.offset + start, flat[start : start + SPLIT])


def _fill_rest(descriptor: int, into: Shaped[np.ndarray, "..."], offset: int, done: int, *, name: str) -> None:
    flat = flat_bytes(into)
    while done < flat.nbytes:
        more = os.preadv(descriptor, [flat[done:].data], offset + done)
        if more == 0:
            raise EOFError(f"{name} ends before byte {offset + flat.nbytes}")
        done += more
