"""Photographs as the page holds them: small, each once, within the file."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord
from matchkit.extract.images import load_image

SIDE = 480
"""The longest side of a photograph on the page, in pixels."""
QUALITY = 82
"""Of its JPEG."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph on the page.

    Attributes:
        number: by which the page refers to it.
        width: in original pixels, as is `height`: the image frame is the page's as well.
        height: in original pixels.
        uri: the picture itself.
    """

    number: int
    width: int
    height: int
    uri: str


class Album:
    """All photographs of a page, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._photos: dict[str, Photo] = {}

    @property
    def photos(self) -> list[Photo]:
        """Those that were asked for."""
        return list(self._photos.values())

    def photo(self, record: ImageRecord) -> Photo:
        """The photograph of an image, decoded when it is first asked for.

        Raises:
            DatasetError: its file is missing, broken or of another size than annotated.
        """
        if record.id not in self._photos:
            width, height = record.size
            self._photos[record.id] = Photo(len(self._photos), width, height, _uri(_decoded(record)))
        return self._photos[record.id]


def _decoded(record: ImageRecord) -> Image.Image:
    """The picture in its annotated size: upright where only this has it."""
    try:
        return load_image(record)
    except DatasetError as error:
        try:
            return load_image(record, oriented=True)
        except DatasetError:
            raise error from None


def _uri(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    image.save(held, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"
