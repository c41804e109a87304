"""Fetches one file of a dataset with pooch: whole and the one that is known, or not at all."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pooch

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.download.resume import Progress, Resuming
from matchkit.extract.datasets.download.sources import RemoteFile

PAUSE = 1.0
"""Seconds before the second try."""


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    url: str,
    schemes: Sequence[str],
    progress: Progress,
    pause: float = PAUSE,
) -> Path:
    """Brings a file into a folder, going on with what has arrived there; one that is there already is only checked.

    Args:
        file: what is known of it.
        folder: where it goes.
        url: where it lies.
        schemes: that an address may begin with.
        progress: is told how far it is.
        pause: seconds before the second try.

    Raises:
        DatasetError: no such file, another one than the one that is known, or no room for it.
    """
    if not url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise DatasetError(f"{url} is no address that begins with {' or '.join(schemes)}://")
    # what pooch would log, the caller says
    pooch.get_logger().setLevel(logging.WARNING)
    downloader = Resuming(folder / f"{file.name}.part", size=file.size, schemes=schemes, progress=progress, pause=pause)
    try:
        fetched = pooch.retrieve(url, known_hash=file.checksum, fname=file.name, path=folder, downloader=downloader)
    except DatasetError:
        raise
    except ValueError as error:  # pooch's word for a hash that does not fit
        raise DatasetError(
            f"{url}: {error} Run again; should it go on, the file was replaced: a new release that you trust is told "
            "with --sha256 HEX"
        ) from error
    return Path(fetched)


def require_known(file: RemoteFile, path: Path) -> None:
    """Refuses a file that somebody else fetched, where it is not the one that is known.

    Raises:
        DatasetError: it has another size or checksum.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise DatasetError(f"{path} has {size:,} bytes instead of the {file.size:,} that are known. Fetch it again")
    if file.checksum is None:
        return
    algorithm, _, known = file.checksum.partition(":")
    found = pooch.file_hash(path, alg=algorithm)
    if found != known.lower():
        raise DatasetError(
            f"{path} has the {algorithm.upper()} {found} instead of {known}. Fetch it again; a new release that you "
            "trust is told with --sha256 HEX"
        )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return str(pooch.file_hash(path))
