"""Room on a disk, asked for before it is needed."""

import shutil
from pathlib import Path

from matchkit.core.errors import DatasetError


def require_space(folder: Path, needed: int, *, purpose: str) -> None:
    """Refuses to begin what does not fit on the disk of `folder`.

    Raises:
        DatasetError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(
            f"{folder} has {free:,} bytes free, and {purpose} takes {needed:,}. Free some space, or choose another "
            "disk with --root DIR"
        )
