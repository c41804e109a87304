"""Features in the files of other programs, read and written an image at a time (`docs/interchange.md`).

A `Source` is somebody's files seen as images under one `FeatureSpec`, a `Target` takes a store's images into files.
Neither knows of the other: a store stands between them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from matchkit.cache.reader import ImageMaps
from matchkit.core.spec import FeatureSpec


@runtime_checkable
class Source(Protocol):
    """Features of images in files."""

    @property
    def spec(self) -> FeatureSpec:
        """What made the features, as far as the files say or the user told."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The images whose files are all there."""
        ...

    @property
    def refused(self) -> Sequence[str]:
        """Why other images cannot be taken, a line each."""
        ...

    @property
    def notes(self) -> Mapping[str, Any]:
        """What a store is to keep about these features beside the spec, by name, as plain JSON data."""
        ...

    def image_crc32c(self, image_id: str) -> int:
        """The CRC-32C of the photograph's file, 0 where nobody knows it."""
        ...

    def read(self, image_id: str) -> ImageMaps:
        """The maps of one of `ids`, {layer: (t,c,gh,gw)}.

        Raises:
            StoreError: a file is damaged, or does not hold what the spec says.
        """
        ...

    def close(self) -> None:
        """Closes what is open."""
        ...


@runtime_checkable
class Target(Protocol):
    """Files that take the features of images."""

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` whose files are not there or not whole."""
        ...

    def write(self, image_id: str, maps: ImageMaps, *, image_crc32c: int) -> None:
        """Writes the maps {layer: (t,c,gh,gw)} of one image.

        Raises:
            StoreError: the files cannot be written.
        """
        ...

    def finish(self) -> None:
        """Gives the files their names, once every image is in them."""
        ...

    def close(self) -> None:
        """Closes what is open; what was not finished is removed."""
        ...
