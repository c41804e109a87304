"""What one writer at a time may hold, as locks on the bytes of one empty file; a dead process holds nothing."""

import fcntl
import os
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path

FIRST = {"images": 0, "writer": 1 << 61, "layout": 1 << 62}
"""The byte that stands for number 0 of each kind."""
FLOCK = "hhqqi4x"
"""C's `struct flock` on 64-bit Linux: type, whence, start, length, process."""
BSD_FLOCK = "qqihh"
"""The same on macOS and the BSDs: start, length, process, type, whence."""


class Claims:
    """Locks on the bytes of a file: several kinds of things, any number of each, by one open file.

    On Linux a lock belongs to this object, so two objects of one process exclude each other too. Elsewhere it belongs
    to the process (POSIX): they do not, and what one of them closes is lost to the other.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        self._end = weakref.finalize(self, _end, self._file, os.getpid())

    def take(self, kind: str, number: int) -> bool:
        """Takes something until `drop` or the end of this object; False where another one holds it."""
        try:
            _lock(self._file, fcntl.F_WRLCK, FIRST[kind] + number, 1)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
            return False
        return True

    def drop(self, kind: str, number: int) -> None:
        """Gives something back."""
        _lock(self._file, fcntl.F_UNLCK, FIRST[kind] + number, 1)

    def close(self) -> None:
        """Gives everything back."""
        self._end()


def held(path: Path, kind: str) -> list[int]:
    """The numbers of a kind that living writers hold; asks for it without write permission and holds nothing.

    Elsewhere than on Linux, those that other processes hold.
    """
    end = min((first for first in FIRST.values() if first > FIRST[kind]), default=FIRST[kind] + 1)
    file = os.open(path, os.O_RDONLY)
    try:
        return sorted(byte - FIRST[kind] for byte in _locked(file, FIRST[kind], end))
    finally:
        os.close(file)


def _locked(file: int, first: int, end: int) -> Iterator[int]:
    """The locked ones of the bytes from `first` to `end`; the system tells any one range of them at a time."""
    todo = [(first, end)]
    while todo:
        first, end = todo.pop()
        if first < end and (found := _lock_within(file, first, end)):
            start, count = found
            yield from range(start, start + count)
            todo += [(first, start), (start + count, end)]


def _lock_within(file: int, first: int, end: int) -> tuple[int, int] | None:
    """The first byte and the number of bytes of a lock."""
    command = getattr(fcntl, "F_OFD_GETLK", None)
    if command is None:
        asked = struct.pack(BSD_FLOCK, first, end - first, 0, fcntl.F_WRLCK, os.SEEK_SET)
        start, count, _, kind, _ = struct.unpack(BSD_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    else:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, first, end - first, 0)
        kind, _, start, count, _ = struct.unpack(FLOCK, fcntl.fcntl(file, command, asked))
    return None if kind == fcntl.F_UNLCK else (start, count)


def _end(file: int, process: int) -> None:
    """A child forked from a writer has its file open too: closing alone would not free what is locked."""
    if os.getpid() == process:
        _lock(file, fcntl.F_UNLCK, 0, 0)
    os.close(file)


def _lock(file: int, kind: int, first: int, count: int) -> None:
    """Locks or frees bytes of a file; all from the first on where the count is 0."""
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:
        operation = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
        fcntl.lockf(file, operation, count, first)
    else:
        fcntl.fcntl(file, command, struct.pack(FLOCK, kind, os.SEEK_SET, first, count, 0))
