"""Files and folders that outlast a power cut once these functions have returned."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from matchkit.cache.places.place import Buffer
from matchkit.cache.places.ranges import flat_bytes


def make_folder(folder: Path) -> None:
    """Makes a folder, and those that it is to lie in."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def write(path: Path, buffers: Sequence[Buffer]) -> None:
    """Writes a file from buffers, one after the other; not yet synced."""
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
        for buffer in buffers:
            _write_all(file, buffer)


def patch(path: Path, patches: Mapping[int, Buffer]) -> None:
    """Writes bytes at offsets of a file that is there, or makes it, and syncs it."""
    with _opened(path, os.O_WRONLY | os.O_CREAT) as file:
        for offset, buffer in patches.items():
            os.lseek(file, offset, os.SEEK_SET)
            _write_all(file, buffer)
        os.fsync(file)


def append(path: Path, line: bytes) -> None:
    """Adds a line to a file, or makes it, and syncs it; a line that finds no room is taken back."""
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        end = os.lseek(file, 0, os.SEEK_END)
        try:
            _write_all(file, line)
            os.fsync(file)
        except OSError:
            os.ftruncate(file, end)
            raise


def sync(path: Path) -> None:
    """Sees to it that a file's bytes, or a folder's list of names, are on the disk."""
    with _opened(path, os.O_RDONLY) as file:
        os.fsync(file)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(file: int, buffer: Buffer) -> None:
    view = memoryview(buffer) if isinstance(buffer, bytes) else flat_bytes(buffer).data
    while len(view):
        view = view[os.write(file, view) :]
