"""The text files of CUB-200-2011: a row a line, its columns divided by blanks, the number of a thing first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.annotations import Box

PARTS = (
    *("back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg", "left wing", "nape"),
    *("right eye", "right leg", "right wing", "tail", "throat"),
)
"""By their numbers less 1."""
FILES = ("images.txt", "train_test_split.txt", "bounding_boxes.txt", "parts/parts.txt", "parts/part_locs.txt")


@dataclass(frozen=True, slots=True)
class Bird:
    """What the files say of an image.

    Attributes:
        number: of the image.
        name: `<class>/<stem>`.
        file: of the image below `images`.
        for_training: whether the suggested split has it for training.
        box: around the bird, (xmin, ymin, xmax, ymax), image frame.
        parts: (15, 3): x, y, image frame, and whether the part can be seen, 0 or 1.
    """

    number: int
    name: str
    file: str
    for_training: bool
    box: Box
    parts: Float[np.ndarray, "k 3"]


def read_birds(root: Path) -> Sequence[Bird]:
    """All images, by their numbers.

    Raises:
        DatasetError: a file is missing or malformed, or lacks an image.
    """
    _require_parts(root / "parts" / "parts.txt")
    files = _file_names(root / "images.txt")
    training = _numbers(root / "train_test_split.txt", files, width=1)
    boxes = _numbers(root / "bounding_boxes.txt", files, width=4)
    parts = _parts(root / "parts" / "part_locs.txt", files)
    birds = []
    for number, file in files.items():
        (told,), (x, y, width, height) = training[number], boxes[number]
        if told not in (0, 1):
            raise DatasetError(f"{root / 'train_test_split.txt'}: image {number} must have 0 or 1, not {told:g}")
        if min(width, height) <= 0:
            raise DatasetError(
                f"{root / 'bounding_boxes.txt'}: image {number} has an empty box: {width:g} x {height:g}"
            )
        name = PurePosixPath(file).with_suffix("").as_posix()
        birds.append(Bird(number, name, file, told == 1, (x, y, x + width, y + height), parts[number]))
    return birds


def _rows(path: Path, *, columns: int) -> list[tuple[str, list[str]]]:
    """The rows of a file with their places, for errors; the last column may hold blanks."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a text in UTF-8: {error}") from error
    rows = [(f"{path}: line {n}", line.split(maxsplit=columns - 1)) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DatasetError(f"{path} is empty")
    for where, row in rows:
        if len(row) != columns:
            raise DatasetError(f"{where} must have {columns} columns divided by blanks, not {len(row)}")
    return rows


def _number(text: str, *, where: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise DatasetError(f"{where}: '{text}' must be a number from 1 on")
    return int(text)


def _values(texts: Sequence[str], *, where: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, texts))
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    if not np.isfinite(values).all():
        raise DatasetError(f"{where}: {' '.join(texts)} must be finite numbers")
    return values


def _file_names(path: Path) -> dict[int, str]:
    """The files of the images by their numbers, sorted."""
    files: dict[int, str] = {}
    stems: set[str] = set()
    for where, (text, file) in _rows(path, columns=2):
        number, place = _number(text, where=where), PurePosixPath(file)
        if len(place.parts) != 2 or place.is_absolute() or ".." in place.parts or "\\" in file or not place.suffix:
            raise DatasetError(f"{where}: '{file}' must be <class>/<name>.jpg")
        if number in files or str(place.with_suffix("")) in stems:
            raise DatasetError(f"{where}: image {number}, {file}, stands there twice")
        files[number] = file
        stems.add(str(place.with_suffix("")))
    return dict(sorted(files.items()))


def _numbers(path: Path, images: Mapping[int, str], *, width: int) -> dict[int, tuple[float, ...]]:
    """So many values of each image."""
    found: dict[int, tuple[float, ...]] = {}
    for where, (text, *values) in _rows(path, columns=1 + width):
        number = _number(text, where=where)
        if number in found or number not in images:
            raise DatasetError(f"{where}: image {number} {'stands there twice' if number in found else 'is not known'}")
        found[number] = _values(values, where=where)
    _require_all(path, images, found)
    return found


def _parts(path: Path, images: Mapping[int, str]) -> dict[int, Float[np.ndarray, "k 3"]]:
    """x, y and visibility of each image's parts."""
    found: dict[int, Float[np.ndarray, "k 3"]] = {}
    seen: set[tuple[int, int]] = set()
    for where, (text, part_text, *values) in _rows(path, columns=5):
        number, part = _number(text, where=where), _number(part_text, where=where)
        if number not in images or not 1 <= part <= len(PARTS):
            raise DatasetError(f"{where}: part {part} of image {number} is not known")
        if (number, part) in seen:
            raise DatasetError(f"{where}: part {part} of image {number} stands there twice")
        x, y, visible = _values(values, where=where)
        if visible not in (0, 1):
            raise DatasetError(f"{where}: a part is visible, 1, or it is not, 0; not {visible:g}")
        seen.add((number, part))
        found.setdefault(number, np.zeros((len(PARTS), 3), np.float32))[part - 1] = x, y, visible
    _require_all(path, images, found)
    return found


def _require_all(path: Path, images: Mapping[int, str], found: Mapping[int, object]) -> None:
    missing = [number for number in images if number not in found]
    if missing:
        raise DatasetError(f"{path} has no line for image {missing[0]}, {images[missing[0]]}")


def _require_parts(path: Path) -> None:
    """Refuses parts of other names: which of them mirror each other is known by their numbers."""
    rows = {_number(number, where=where): (where, name.strip()) for where, (number, name) in _rows(path, columns=2)}
    for number, name in enumerate(PARTS, start=1):
        where, told = rows.get(number, (str(path), "missing"))
        if told != name:
            raise DatasetError(f"{where}: part {number} must be '{name}', not '{told}'")
