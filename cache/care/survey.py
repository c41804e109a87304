"""A store as it lies in its place, whole or damaged, for looking after it: its files, its ledger, its writers."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from matchkit.cache import group
from matchkit.cache.codecs.codec import codec
from matchkit.cache.journal import CHUNK, FOLDED, FOLDER, JOURNAL
from matchkit.cache.layout import ArrayLayout
from matchkit.cache.ledger import CHECKSUMS, ROWS, Ledger
from matchkit.cache.places.local import PARTIAL, LocalPlace
from matchkit.cache.places.place import Place, open_place

SHARD = re.compile(r"c\.(\d+)(\.0)+")


class Survey:
    """What is in a store's place, as of the last `refresh`; its arrays' metadata may be damaged or gone.

    Args:
        place: where it lies.

    Raises:
        StoreError: no store there, or its `zarr.json` is damaged.

    Attributes:
        place: where it lies.
        layout: what the group's attribute says.
        arrays: all arrays, in the order of an image's checksums.
        folders: those that hold a layer, by its name; of what a codec keeps for all images there may be none.
        columns: of the ledger.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.layout = group.read_layout(place)
        encoding = codec(self.layout.spec.dtype, {})
        parts = {layer.name: self.layout.arrays(layer, encoding) for layer in self.layout.spec.layers}
        self.arrays = tuple(array for arrays in parts.values() for array in arrays)
        self.folders = {
            layer: (*(array.name for array in arrays), *(f"{layer}{suffix}" for suffix in group.STATICS))
            for layer, arrays in parts.items()
        }
        self.columns = CHECKSUMS + len(self.arrays) * len(self.layout.spec.timesteps)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """What is complete.

        Raises:
            StoreError: a part of the ledger has a wrong length.
        """
        return Ledger(self.place, chunks=self.columns - CHECKSUMS)

    @classmethod
    def open(cls, where: str | Path) -> "Survey":
        """The store at a path or URL."""
        return cls(open_place(where))

    def refresh(self) -> None:
        """Takes up what writers have done since the last time."""
        self.ledger.refresh()
        self.layout = group.read_layout(self.place)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of each part of the folded ledger."""
        return 4 * ROWS * self.columns

    @property
    def complete(self) -> list[str]:
        """The ids of the complete images."""
        return [image_id for row, image_id in enumerate(self.layout.ids) if self.ledger.is_complete(row)]

    def writers(self) -> list[int]:
        """The numbers of the other writers that live; in a bucket also of killed ones."""
        return [number for number in self.place.held("writer") if number != self.place.writer]

    def group_of(self, row: int) -> int:
        """The number of the images that are claimed together with this one."""
        return row // max(array.images for array in self.arrays)

    def rows(self, array: ArrayLayout, shard: int) -> range:
        """The rows whose images belong into a shard file, though there may be fewer images."""
        return range(shard * array.images, (shard + 1) * array.images)

    def present(self, array: ArrayLayout, shard: int) -> list[bool]:
        """Which images of a shard file are complete."""
        return [self.ledger.is_complete(row) for row in self.rows(array, shard)]

    def usage(self) -> Mapping[str, tuple[int, int]]:
        """The number of files and their bytes in each array's folder, in `ledger` and, as "", in the root."""
        folders = [*(name for names in self.folders.values() for name in names), FOLDER, ""]
        sizes = ((folder, self.place.sizes(folder)) for folder in folders)
        return {folder: (len(files), sum(files.values())) for folder, files in sizes if files}


def shard_number(array: ArrayLayout, name: str) -> int | None:
    """The number of a shard file by its name within the array's folder, complete or not; None if it is none."""
    found = SHARD.fullmatch(name.removesuffix(PARTIAL) if array.images > 1 else name)
    return int(found[1]) if found and len(found[0].split(".")) == len(array.shape) + 2 else None


def temporary_folders(place: LocalPlace) -> dict[int, Path]:
    """The folders that writers write beside in, by the writer's number."""
    folders = ((path.name.removeprefix("tmp."), path) for path in place.root.glob(f"{FOLDER}/tmp.*"))
    return {int(number): path for number, path in folders if number.isdecimal()}


def is_ledger_file(name: str) -> bool:
    """Whether a file in the ledger's folder is one that belongs there."""
    known = ("zarr.json", "manifest.json", "pulse", "claims")
    return name in known or bool(JOURNAL.fullmatch(name) or CHUNK.fullmatch(name) or FOLDED.fullmatch(name))
