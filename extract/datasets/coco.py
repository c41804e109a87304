"""COCO's annotations of animals: lists of entries in one JSON file, keypoints with their visibility, boxes."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.annotations import Box, Fields, Size


class Entry(Fields):
    """An entry of a list of a JSON file: its complaints name the file, the list and the place in it, from 0."""

    def __init__(self, path: Path, data: dict[str, Any]) -> None:
        self.path = path
        self.data = data


def entries(file: Fields, field: str) -> list[Entry]:
    """The entries of a list of a file.

    Raises:
        DatasetError: there is no such list, or it holds something else than objects.
    """
    held = file.value(field)
    if not isinstance(held, list):
        raise DatasetError(f"{file.path}: field '{field}' must hold a list, not {type(held).__name__}")
    for number, data in enumerate(held):
        if not isinstance(data, dict):
            raise DatasetError(f"{file.path}: {field}[{number}] must be a JSON object, not {data!r}")
    return [Entry(file.path.with_name(f"{file.path.name}: {field}[{n}]"), data) for n, data in enumerate(held)]


def keypoint_rows(fields: Fields) -> Float[np.ndarray, "n 3"]:
    """x, y and visibility of 0, 1 or 2 of every keypoint; all but those of 0 are annotated.

    Raises:
        DatasetError: the field `keypoints` is missing or is no flat list of such numbers.
    """
    flat = fields.value("keypoints")
    if not isinstance(flat, list):
        raise DatasetError(f"{fields.path}: field 'keypoints' must hold a list of numbers, not {flat!r}")
    return fields.rows("keypoints", [flat[n : n + 3] for n in range(0, len(flat), 3)], width=3)


def box(fields: Fields) -> Box:
    """An animal's box as (xmin, ymin, xmax, ymax); the file has x, y, width and height.

    Raises:
        DatasetError: the field `bbox` is missing, or no box of some area.
    """
    x, y, width, height = (float(edge) for edge in fields.rows("bbox", [fields.value("bbox")], width=4)[0])
    if min(width, height) <= 0:
        raise DatasetError(f"{fields.path}: field 'bbox' is an empty box: {fields.data['bbox']}")
    return x, y, x + width, y + height


def size(fields: Fields) -> Size:
    """An image's (width, height) in pixels.

    Raises:
        DatasetError: one of both is missing or no whole number above 0.
    """
    width, height = fields.integer("width"), fields.integer("height")
    if min(width, height) < 1:
        raise DatasetError(f"{fields.path}: an image of {width} x {height} pixels has nothing in it")
    return width, height
