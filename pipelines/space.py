"""Whether there is room on the disk for what an extraction will write."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from matchkit.cache import group
from matchkit.cache.layout import image_bytes
from matchkit.cache.places.place import is_url, open_place
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec


def absent(where: Path | str, spec: FeatureSpec, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that are not complete in a store, which need not be there yet; nothing is written.

    Raises:
        StoreError: the place holds something else.
        SpecMismatchError: the store that is there was made under another spec.
    """
    if not group.exists(open_place(where)):
        return list(ids)
    return FeatureStore.open(where, spec).missing(ids)


def free_bytes(where: Path | str) -> int | None:
    """Bytes that are free where a store will lie; None for object stores, which have no end."""
    if is_url(where):
        return None
    path = Path(where).absolute()
    return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free


def require_space(where: Path | str, spec: FeatureSpec, *, images: int) -> None:
    """Refuses to begin what cannot be finished.

    Raises:
        StoreError: the disk has less room than the images will take.
    """
    needed, free = images * image_bytes(spec), free_bytes(where)
    if free is not None and free < needed:
        raise StoreError(
            f"{where}: {images:,} images will take {needed / 1e9:,.2f} GB, and its disk has {free / 1e9:,.2f} GB free. "
            "Free some, give another --out or a smaller --set dtype=int8, or begin all the same with --force"
        )
