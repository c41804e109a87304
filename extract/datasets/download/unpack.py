"""Unpacks what was downloaded: all that has a place, under names that the disk takes, never over another file."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.download.archives import (
    MOST_FILES,
    ArchiveError,
    damage_named,
    entries,
    most_bytes,
    too_large,
)
from matchkit.extract.datasets.download.space import require_space

ILLEGAL = re.compile(r'[<>:"|?*\x7f]|[. ](?=/|$)')
"""What Windows takes in no part of a path, or not at its end."""
DEVICE = re.compile(r"(?:^|(?<=/))(?=(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:[./]|$))", re.IGNORECASE)
"""Before a part of a path that is a device there."""
LITTER = re.compile(r"(?:^|/)(?:__MACOSX/|\._|\.DS_Store$|Thumbs\.db$)")
"""What desktops leave in archives."""
BLOCK = 4096
"""Bytes of a disk that a small file takes."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out of an archive.

    Attributes:
        files: how many.
        size: their bytes.
        left_out: files that have no place.
        renamed: files with a name that this disk does not take.
    """

    files: int
    size: int
    left_out: int
    renamed: int


@dataclass(frozen=True, slots=True)
class _Plan:
    targets: Mapping[str, str]
    counts: Unpacked


def unpack(
    archive: Path,
    into: Path,
    places: Mapping[str, str],
    *,
    progress: Progress = lambda done, total: None,
    windows: bool = os.name == "nt",
) -> Unpacked:
    """Writes the files of an archive to their places (`RemoteFile.places`) below a folder that nobody else uses.

    The whole archive is looked through before the first file is written.

    Args:
        archive: a .zip, .tar.gz or .tgz; any other file goes to its place as it is.
        into: the folder; what is there already is never written over.
        places: what of it goes where.
        progress: is told the files so far and in all.
        windows: whether names must be such as Windows takes.

    Raises:
        ArchiveError: the archive is damaged or dangerous, or has nothing for a place.
        DatasetError: there is no room for it on the disk.
    """
    plan = _plan(archive, places, windows=windows)
    needed = plan.counts.size + BLOCK * plan.counts.files
    require_space(into, needed, purpose=f"what is in {archive.name}")
    done = 0
    for entry in entries(archive, again=True):
        target = plan.targets.get(entry.name)
        if target is None:
            continue
        path = into / target
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with damage_named(archive), path.open("xb") as file, entry.open() as content:
                shutil.copyfileobj(content, file, 1 << 20)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise _twice(archive, entry.name, target) from error
        except OSError as error:
            raise DatasetError(f"{path} cannot be written: {error.strerror}. {archive} is kept; run again") from error
        done += 1
        progress(done, plan.counts.files)
    return plan.counts


def _plan(archive: Path, places: Mapping[str, str], *, windows: bool) -> _Plan:
    targets: dict[str, str] = {}
    taken, used = set(), set()
    size = left_out = renamed = 0
    for number, entry in enumerate(entries(archive)):
        size += entry.size
        if size > most_bytes(archive) or number >= MOST_FILES:
            raise too_large(archive)
        key = None if LITTER.search(entry.name) else _key(entry.name, places)
        if key is None:
            left_out += 1
            continue
        target = _target(entry.name, key, places[key])
        on_disk = portable(target) if windows else target
        # Windows knows no capitals
        same = on_disk.casefold() if windows else on_disk
        if entry.name in targets or same in taken:
            raise _twice(archive, entry.name, on_disk)
        taken.add(same)
        used.add(key)
        renamed += on_disk != target
        targets[entry.name] = on_disk
    missing = [key or "files" for key in places if key not in used]
    if missing:
        raise ArchiveError(
            f"{archive} holds no {', '.join(missing)}: it is not the archive that is known here, or a new release of "
            "another layout"
        )
    return _Plan(targets, Unpacked(len(targets), size, left_out, renamed))


def portable(path: str) -> str:
    """A path with `_` for every sign that Windows does not take; its devices' names get one before them.

    Example:
        >>> portable("test/000001-cat_1-cat_2:cat.json")
        'test/000001-cat_1-cat_2_cat.json'
        >>> portable("con/nul.txt")
        '_con/_nul.txt'
    """
    return DEVICE.sub("_", ILLEGAL.sub("_", path))


def _key(name: str, places: Mapping[str, str]) -> str | None:
    """The place that fits a name: that of its folder, or of its last part."""
    for key in places:
        folder = not key or key.endswith("/")
        if name.startswith(key) if folder else name.rpartition("/")[2] == key:
            return key
    return None


def _target(name: str, key: str, place: str) -> str:
    if key and not key.endswith("/"):
        return place
    rest = name.removeprefix(key)
    return f"{place}/{rest}" if place else rest


def _twice(archive: Path, name: str, target: str) -> ArchiveError:
    return ArchiveError(f"{archive}: {name!r} would be the second file at {target}. Do not use it")
