"""One's own photographs, and points in them: read as a viewer shows them, and refused in one line where they cannot."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image, ImageOps

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.geometry import Points
from matchkit.core.poses import unposed_id
from matchkit.core.records import ImageRecord
from matchkit.extract.images import DEEP_MODES, load_image, upright_size

Photograph = str | Path | Image.Image
"""A file, or an image of Pillow."""
PointsLike = NDArray[Any] | Sequence[Any]
"""(n, 2) numbers, in whatever numpy makes an array of."""
UNNAMED = "photo"
"""Stands for the name of an image that comes from no file."""
COLUMNS = ("x", "y")


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photograph as a viewer shows it.

    Attributes:
        id: what an extraction would call it, `<category>/<stem>`; noise and prompts go by it.
        name: for messages and captions.
        image: upright, in RGB.
    """

    id: str
    name: str
    image: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, which are those of its image frame."""
        return self.image.size

    def shows(self, points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Which (x, y) of the image frame lie in the photograph, its outermost half pixels included."""
        return np.asarray(((points >= -0.5) & (points <= np.asarray(self.size) - 0.5)).all(axis=1))


def read_photo(given: Photograph, *, category: str = "") -> Photo:
    """Reads a photograph; its EXIF orientation is applied.

    Args:
        given: a file, or an image.
        category: of what it shows, for networks whose prompt names it.

    Raises:
        DatasetError: no such file, or one that is no image, broken, or of more than 8 bits a channel.
    """
    if isinstance(given, Image.Image):
        name = str(getattr(given, "filename", "")) or UNNAMED
        return Photo(_id(Path(name).stem, category), Path(name).name, _upright(given, name))
    path = Path(given).expanduser()
    if not path.is_file():
        raise DatasetError(f"{path} is {'a folder' if path.is_dir() else 'missing'}. Give the file of a photograph")
    record = ImageRecord(_id(path.stem, category), path, upright_size(path))
    return Photo(record.id, path.name, load_image(record, oriented=True))


def _id(stem: str, category: str) -> str:
    plain = unposed_id(stem)
    return f"{category}/{plain}" if category else plain


def _upright(image: Image.Image, name: str) -> Image.Image:
    """An image as `load_image` decodes its file."""
    if image.mode.startswith(DEEP_MODES):
        raise DatasetError(f"{name} has more than 8 bits a channel (mode {image.mode}); convert it first")
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")  # the same colours, without Pillow's warning
        return upright.convert("RGB")
    except Exception as error:  # the decoders of a dozen formats, and what a broken file makes of them
        raise DatasetError(f"{name} cannot be decoded: {error}") from error


def points_in(photo: Photo, told: PointsLike) -> Points:
    """Points of a photograph as (n, 2) float32.

    Raises:
        ConfigError: they are not (x, y) pairs, or one lies outside the photograph.
    """
    try:
        points = np.asarray(told, np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"points are (x, y) pairs of pixels, an array (n, 2), not {told!r}") from error
    if points.shape == (0,):
        points = points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ConfigError(f"points are (x, y) pairs of pixels, an array (n, 2), not one of shape {points.shape}")
    outside = np.flatnonzero(~photo.shows(points))
    if len(outside):
        x, y = points[outside[0]].tolist()
        width, height = photo.size
        raise ConfigError(
            f"point {outside[0] + 1}, ({x:g}, {y:g}), lies outside {photo.name}, which is {width} x {height} pixels as "
            f"a viewer shows it: x is 0..{width - 1}, y 0..{height - 1}"
        )
    return points


def read_points(path: Path) -> list[tuple[float, float]]:
    """The points in the columns x and y of a CSV file.

    Raises:
        DatasetError: no such file, no such columns, a row without numbers, or no row at all.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            if not {*COLUMNS} <= {*(rows.fieldnames or ())}:
                raise DatasetError(f"{path}: its first line must name the columns x and y: 'x,y'")
            points = [_point(row, where=f"{path}, line {rows.line_num}") for row in rows]
    except FileNotFoundError as error:
        raise DatasetError(f"no points at {path}. Give a CSV file with the columns x,y, or --at X,Y") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is no CSV file: {error}") from error
    if not points:
        raise DatasetError(f"{path} has no row of points below its first line")
    return points


def _point(row: dict[str, str | None], *, where: str) -> tuple[float, float]:
    try:
        x, y = (float(row[column] or "") for column in COLUMNS)
    except ValueError as error:
        raise DatasetError(f"{where}: x and y must be numbers, not '{row['x']}' and '{row['y']}'") from error
    return x, y
