"""What lies in an archive that a stranger packed: its files alone, or a refusal of the whole of it.

An archive is refused for a name that leads out of it, for a link, a device or a pipe, for more than so many times its
own size, and where it is damaged. Nothing is written here.
"""

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from matchkit.core.errors import DatasetError

RATIO = 50
"""How many times its own size an archive may hold. Photographs and annotations take 1 to 5 times; bombs 1,000."""
SMALL = 1 << 22
"""Bytes that any archive may hold."""
MOST_FILES = 2_000_000
BUFFER = 1 << 17
NOWHERE = "/nowhere"
"""Where tarfile's own judgement supposes that all is unpacked."""
OUTSIDE = re.compile(r"/|[A-Za-z]:/|(?:.*/)?\.\.(?:/|$)|.*[\\\x00-\x1f]", re.DOTALL)
"""A path from a root, one with a step up, or with a sign that means such a thing somewhere."""
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, NotImplementedError)


class ArchiveError(DatasetError):
    """An archive that is damaged or dangerous: it is of no use, however much room there is."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive.

    Attributes:
        name: its path there.
        size: its bytes.
        open: gives them; until the next entry is asked for.
    """

    name: str
    size: int
    open: Callable[[], io.BufferedIOBase]


def entries(archive: Path, *, again: bool = False) -> Iterator[Entry]:
    """The files of a .zip, .tar.gz or .tgz, one after the other; any other file is one that holds itself.

    Args:
        archive: which one.
        again: whether it was gone through before: then tarfile's own judgement, the slowest, is not asked again.

    Raises:
        ArchiveError: the archive is damaged, or holds what no dataset should.
    """
    if archive.name.endswith(".zip"):
        found = _zip_entries(archive)
    elif archive.name.endswith((".tar.gz", ".tgz")):
        found = _tar_entries(archive, again=again)
    else:
        found = iter([Entry(archive.name, archive.stat().st_size, lambda: archive.open("rb"))])
    with damage_named(archive):
        yield from found


@contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """Says in this project's words that an archive is damaged.

    Raises:
        ArchiveError: it is.
    """
    try:
        yield
    except DAMAGE as error:
        with archive.open("rb") as file:
            begin = file.read(16)
        raise ArchiveError(f"{archive} is no archive, or a damaged one: {error}. It begins with {begin!r}") from error


def most_bytes(archive: Path) -> int:
    """How much an archive may hold."""
    return max(SMALL, RATIO * archive.stat().st_size)


def _zip_entries(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as held:
        for info in held.infolist():
            # zipfile itself cuts a name at a NUL
            name = _inside(info.orig_filename, archive)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(archive, name, "a link" if kind == stat.S_IFLNK else "no plain file")
            if info.flag_bits & 1:
                raise _refusal(archive, name, "encrypted")
            if not info.is_dir():
                yield Entry(name, info.file_size, _opener(held, info))


def _opener(held: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], io.BufferedIOBase]:
    def opened() -> io.BufferedIOBase:
        try:
            file: object = held.open(info)
        except OSError as error:  # its place is before the beginning
            raise zipfile.BadZipFile(str(error)) from error
        assert isinstance(file, io.BufferedIOBase), "a plain file"
        return file

    return opened


def _tar_entries(archive: Path, *, again: bool) -> Iterator[Entry]:
    with gzip.open(archive) as packed, _Bounded(packed, archive) as bounded:
        with tarfile.open(fileobj=bounded, mode="r|", bufsize=BUFFER) as held:
            for member in held:
                name = _inside(member.name, archive)
                if member.issym() or member.islnk():
                    raise _refusal(archive, name, "a link")
                if not (member.isfile() or member.isdir()):
                    raise _refusal(archive, name, "a device or a pipe")
                if not again:
                    tarfile.data_filter(member, NOWHERE)
                if member.isfile():
                    yield Entry(name, member.size, _extractor(held, member))
        # the checksum stands at the very end
        while bounded.read(1 << 20):
            pass


def _extractor(held: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], io.BufferedIOBase]:
    def opened() -> io.BufferedIOBase:
        file: object = held.extractfile(member)
        assert isinstance(file, io.BufferedIOBase), "a plain file"
        return file

    return opened


class _Bounded(io.RawIOBase):
    """What an archive unfolds to, up to what one may hold: headers of tar can be bombs too."""

    def __init__(self, unfolded: gzip.GzipFile, archive: Path) -> None:
        self._unfolded = unfolded
        self._archive = archive
        self._left = most_bytes(archive)

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            ArchiveError: more than an archive may hold.
        """
        piece = self._unfolded.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(piece)
        if self._left < 0:
            raise too_large(self._archive)
        return piece


def too_large(archive: Path) -> ArchiveError:
    """The refusal of an archive that holds too much."""
    return ArchiveError(
        f"{archive} holds more than {most_bytes(archive):,} bytes, {RATIO} times its own size: it may be made to fill "
        "disks. Nothing was unpacked"
    )


def _inside(name: str, archive: Path) -> str:
    """A name in its plainest form: `./a//b` is `a/b`, and `.` the folder that holds all.

    Raises:
        ArchiveError: it leads out of the archive.
    """
    plain = PurePosixPath(name).as_posix()
    if OUTSIDE.match(plain):
        raise _refusal(archive, name, "a name that leads elsewhere")
    return plain


def _refusal(archive: Path, name: str, what: str) -> ArchiveError:
    return ArchiveError(f"{archive}: {name!r} is {what}, which no dataset needs. Nothing was unpacked; do not use it")
