"""Downloads datasets: fetch, check, unpack beside, rename; complete or absent, and a second run does nothing."""

import dataclasses
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from matchkit.core.errors import ConfigError, DatasetError, UnknownNameError, nearest_name
from matchkit.extract.datasets import open_dataset
from matchkit.extract.datasets.download.archives import ArchiveError
from matchkit.extract.datasets.download.fetch import PAUSE, fetch, require_known, sha256
from matchkit.extract.datasets.download.record import FetchedFile, Record, read_record, write_record
from matchkit.extract.datasets.download.sources import SOURCES, RemoteFile, Source
from matchkit.extract.datasets.download.unpack import unpack

log = logging.getLogger(__name__)
HEX = re.compile("[0-9a-f]{64}")
TREE, OLD, LOCK = "tree", "old", "lock"
"""In the folder beside the root: what is being unpacked, what gives way, and who is at work."""


@dataclass(frozen=True, slots=True)
class Ways:
    """How files are fetched.

    Attributes:
        mirror: an address under which they lie, each under its own name; None for their makers' servers.
        archives: a folder with files that are there already.
        schemes: that addresses may begin with.
        pause: seconds before a second try.
    """

    mirror: str | None = None
    archives: Path | None = None
    schemes: Sequence[str] = ("https",)
    pause: float = PAUSE


OFFICIAL = Ways()


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A dataset that was downloaded.

    Attributes:
        root: its tree.
        files: how many files came out of its archives.
        sha256: of the archives.
    """

    root: Path
    files: int
    sha256: dict[str, str]


def download(
    name: str, root: Path | None = None, *, pinned: Sequence[str] = (), ways: Ways = OFFICIAL, replace: bool = False
) -> Downloaded:
    """Downloads a dataset into `root`, by default `data/<name>`, and opens it.

    One that was downloaded before is kept; it gives way on `replace` alone, and to files of the same hashes unless
    others are pinned. What has arrived of an interrupted run lies in `.<root's name>.download` beside `root`.

    Args:
        name: which dataset.
        root: where to.
        pinned: `HEX`, or `FILE=HEX` where there are several files: the SHA-256 that a file must have.
        ways: how files are fetched.
        replace: whether one that was downloaded before gives way.

    Raises:
        UnknownNameError: no such dataset.
        ConfigError: a hash that is none, or of no file.
        DatasetError: a file cannot be had, is not the one that is known, is dangerous or does not fit; or `root` holds
            what was not downloaded.
    """
    source = _source(name)
    root = root or Path("data") / name
    hashes = _hashes(pinned, source, name=name)
    record = read_record(root)
    # what a run that was killed at its very end has left goes too
    if record is None or replace or _beside(root).exists():
        with _alone(root) as work:
            # another process may have finished meanwhile
            record = read_record(root)
            if record is None or replace:
                record = _made(name, source, hashes, ways=ways, root=root, work=work)
    for file, told in hashes.items():
        if record.hashes.get(file) != told:
            raise DatasetError(
                f"{root} was made of a {file} with the SHA-256 {record.hashes.get(file)}, not {told}. Run again with "
                "--replace"
            )
    try:
        open_dataset(name, root)
    except DatasetError as error:
        raise DatasetError(f"{root} holds what was downloaded, but it does not open: {error}") from error
    if source.after:
        log.info("%s: %s.", name, source.after)
    return Downloaded(root, sum(file.files for file in record.files), record.hashes)


def _source(name: str) -> Source:
    if name not in SOURCES:
        hint = nearest_name(name, SOURCES) or f" There are: {', '.join(SOURCES)}."
        raise UnknownNameError(f"'{name}' cannot be downloaded.{hint} (What is rendered: matchkit datasets make)")
    source = SOURCES[name]
    if not source.files:
        raise DatasetError(f"{name} cannot be downloaded. {source.by_hand} Ask at {source.page}")
    return source


def _hashes(pinned: Sequence[str], source: Source, *, name: str) -> dict[str, str]:
    """The SHA-256 that are told, by the files' names."""
    names = [file.name for file in source.files]
    hashes = {}
    for told in pinned:
        file, _, digest = told.rpartition("=")
        file = file or (names[0] if len(names) == 1 else "")
        if file not in names or not HEX.fullmatch(digest.lower()):
            raise ConfigError(f"--sha256 {told}: give FILE=HEX, 64 digits, of a file of {name}: {', '.join(names)}")
        hashes[file] = digest.lower()
    return hashes


def _beside(root: Path) -> Path:
    return root.absolute().with_name(f".{root.absolute().name}.download")


@contextmanager
def _alone(root: Path) -> Iterator[Path]:
    """The folder beside the root, for this process alone; it goes once nothing in it is needed any more."""
    work = _beside(root)
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / LOCK, timeout=0):
            if (work / OLD).exists() and not root.exists():
                (work / OLD).rename(root)
            try:
                yield work
                shutil.rmtree(work)
            finally:
                shutil.rmtree(work / TREE, ignore_errors=True)
                if work.exists() and all(path.name == LOCK for path in work.iterdir()):
                    shutil.rmtree(work)
    except Timeout as error:
        raise DatasetError(f"{root} is being downloaded by another process (it holds {work / LOCK})") from error


def _made(name: str, source: Source, hashes: Mapping[str, str], *, ways: Ways, root: Path, work: Path) -> Record:
    """Fetches and unpacks beside the root, and puts the result in its place."""
    recorded = read_record(root)
    if recorded is None and root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DatasetError(
            f"{root} was not downloaded, so it stays as it is. Move it away, or choose another --root DIR"
        )
    _require_borrowed(name, source, root)
    known = [_known(file, hashes, recorded) for file in source.files]
    found = [_found(name, source, file, ways=ways) for file in known]
    log.info("%s: %s. The terms of its makers: %s", name, source.licence, source.page)
    paths = [_fetch(file, where, ways=ways, work=work) for file, where in zip(known, found, strict=True)]
    tree = work / TREE
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    files = [_unpack(file, path, tree, where) for file, path, where in zip(known, paths, found, strict=True)]
    for folder, other in source.borrowed.items():
        (tree / folder).symlink_to(Path("..") / other / folder, target_is_directory=True)
    record = Record(name, source.licence, source.page, files)
    write_record(tree, record)
    shutil.rmtree(work / OLD, ignore_errors=True)
    if root.exists():
        root.rename(work / OLD)
    tree.rename(root)
    return record


def _require_borrowed(name: str, source: Source, root: Path) -> None:
    for folder, other in source.borrowed.items():
        held = root.with_name(other) / folder
        if not held.is_dir():
            raise DatasetError(
                f"{name} uses {folder} of {other}, and there is no {held}. Run: matchkit datasets download {other} "
                f"--root {root.with_name(other)}"
            )


def _known(file: RemoteFile, hashes: Mapping[str, str], recorded: Record | None) -> RemoteFile:
    """What is known of a file: what was told now, or came with matchkit, or was recorded at the last download."""
    if file.name in hashes:
        return dataclasses.replace(file, checksum=f"sha256:{hashes[file.name]}", size=None)
    if file.checksum is None and recorded is not None and file.name in recorded.hashes:
        return dataclasses.replace(file, checksum=f"sha256:{recorded.hashes[file.name]}")
    return file


def _found(name: str, source: Source, file: RemoteFile, *, ways: Ways) -> Path | str:
    """Where a file is: a path, or an address."""
    if ways.archives is not None and (ways.archives / file.name).is_file():
        return ways.archives / file.name
    if ways.mirror is not None:
        return f"{ways.mirror.rstrip('/')}/{file.name}"
    if not file.url:
        raise DatasetError(
            f"{name}: {file.name} has no address here. {source.by_hand} Fetch it from {source.page}, put it into a "
            f"folder and run: matchkit datasets download {name} --archives FOLDER"
        )
    return file.url


def _fetch(file: RemoteFile, where: Path | str, *, ways: Ways, work: Path) -> Path:
    if isinstance(where, Path):
        require_known(file, where)
        return where
    log.info("%s", where)
    with tqdm(desc=file.name, unit="B", unit_scale=True, disable=None) as progress:

        def show(done: int, total: int | None) -> None:
            if progress.total is None:
                progress.total, progress.initial = total, done
            progress.update(done - progress.n)

        return fetch(file, work, url=where, schemes=ways.schemes, progress=show, pause=ways.pause)


def _unpack(file: RemoteFile, path: Path, tree: Path, where: Path | str) -> FetchedFile:
    digest = sha256(path)
    log.info("%s: SHA-256 %s%s", file.name, digest, "" if file.checksum else " (not known before; recorded)")
    with tqdm(desc=f"unpack {file.name}", unit="file", disable=None) as progress:

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done - progress.n)

        try:
            held = unpack(path, tree, file.places, progress=show)
        except ArchiveError:
            if not isinstance(where, Path):
                path.unlink()
            raise
    for number, what in ((held.left_out, "left out: no place in the tree"), (held.renamed, "renamed for this disk")):
        if number:
            log.info("%s: %s files %s", file.name, f"{number:,}", what)
    url = "" if isinstance(where, Path) else where
    return FetchedFile(file.name, url, path.stat().st_size, digest, held.files, held.size)
