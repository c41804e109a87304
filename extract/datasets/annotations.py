"""Annotations whose every complaint names the file and the field, and pair files that may have lost their colon."""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import DatasetError

Size = tuple[int, int]
Box = tuple[float, float, float, float]


class Fields:
    """The fields of a JSON annotation.

    Raises:
        DatasetError: the file cannot be read, or holds no JSON object; so do all methods of a field that does not fit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path} is not a readable JSON annotation: {error}") from error
        if not isinstance(self.data, dict):
            raise DatasetError(f"{path} must hold a JSON object, not {type(self.data).__name__}")

    def value(self, field: str) -> object:
        """Whatever the field holds."""
        if field not in self.data:
            raise DatasetError(f"{self.path}: field '{field}' is missing")
        return self.data[field]

    def text(self, field: str) -> str:
        """A name that is no path."""
        value = self.value(field)
        if not isinstance(value, str) or not value or "/" in value or "\\" in value:
            raise DatasetError(f"{self.path}: field '{field}' must be a plain name, not {value!r}")
        return value

    def integer(self, field: str) -> int:
        """A whole number."""
        value = self.value(field)
        if not isinstance(value, int) or isinstance(value, bool):
            raise DatasetError(f"{self.path}: field '{field}' must be an integer, not {value!r}")
        return value

    def rows(self, field: str, value: object, *, width: int) -> Float[np.ndarray, "n w"]:
        """Rows of so many finite numbers each, of a value of the field."""
        if value == []:
            return np.zeros((0, width), np.float32)
        try:
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
                array = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"{self.path}: field '{field}' must hold numbers, not {value!r}") from error
        if array.ndim != 2 or array.shape[1] != width or not np.isfinite(array).all():
            raise DatasetError(f"{self.path}: field '{field}' must hold rows of {width} numbers, not {value!r}")
        return array

    def points(self, field: str, *, within: Size) -> Float[np.ndarray, "n 2"]:
        """Keypoints (x, y) in an image of (width, height) pixels; VOC counts from 1, so the size itself passes."""
        points = self.rows(field, self.value(field), width=2)
        self.require_inside(field, points, [str(n) for n in range(len(points))], within=within)
        return points

    def keypoints(self, field: str, *, within: Size) -> dict[str, tuple[float, float]]:
        """The points of an object {id: (x, y) or null} that are not null; none where there is no such field."""
        held = self.data.get(field, {})
        if not isinstance(held, dict):
            raise DatasetError(f"{self.path}: field '{field}' must hold points by their ids, not {held!r}")
        seen = {name: point for name, point in held.items() if point is not None}
        points = self.rows(field, list(seen.values()), width=2)
        self.require_inside(field, points, list(seen), within=within)
        return {name: (float(x), float(y)) for name, (x, y) in zip(seen, points, strict=True)}

    def require_inside(
        self, field: str, points: Float[np.ndarray, "n 2"], names: Sequence[str], *, within: Size
    ) -> None:
        """Refuses a point outside an image of (width, height) pixels; VOC counts from 1, so the size itself passes."""
        outside = (points < 0).any(axis=1) | (points > np.asarray(within)).any(axis=1)
        if outside.any():
            n = int(np.flatnonzero(outside)[0])
            x, y = points[n]
            raise DatasetError(
                f"{self.path}: field '{field}': keypoint {names[n]} at ({x:g}, {y:g}) lies outside "
                f"the image of {within[0]} x {within[1]} pixels"
            )

    def box(self, field: str) -> Box:
        """A box of some area, as (xmin, ymin, xmax, ymax)."""
        xmin, ymin, xmax, ymax = (float(x) for x in self.rows(field, [self.value(field)], width=4)[0])
        if xmax <= xmin or ymax <= ymin:
            raise DatasetError(f"{self.path}: field '{field}' is an empty box: {self.data[field]}")
        return xmin, ymin, xmax, ymax


class PairFiles:
    """The pair annotations of one folder, found by name whatever became of the colon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path:
        """The file of a pair.

        Raises:
            DatasetError: there is none.
        """
        path = self.folder / f"{name}.json"
        if path.exists():
            return path
        # NTFS cuts a name off at the colon, so the part before it is looked up too
        for key in (letters(name), letters(name.partition(":")[0])):
            if key in self._by_letters:
                return self._by_letters[key]
        raise DatasetError(f"{path} is missing: no annotation for pair '{name}'")

    @cached_property
    def _by_letters(self) -> dict[str, Path]:
        if not self.folder.is_dir():
            return {}
        return {letters(path.name.removesuffix(".json")): path for path in sorted(self.folder.iterdir())}


def letters(name: str) -> str:
    """What is left of a file's name on any disk: letters and digits."""
    return re.sub(r"[^0-9a-z]", "", name.lower())
