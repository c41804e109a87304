"""What a dataset is: images once, pairs by reference; and the placement of an image in a network's input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import ConfigError, DatasetError


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photograph of a dataset.

    Attributes:
        id: `<category>/<stem>`, unique in its dataset, e.g. `aeroplane/2008_007604`.
        path: where the file lies.
        size: (width, height) in original pixels.
        category: the object's class, or "" where the dataset has none.
        azimuth: the viewpoint bin of the object (SPair: 0..7, 0 frontal, 1-3 the object's left), or None.
    """

    id: str
    path: Path
    size: tuple[int, int]
    category: str = ""
    azimuth: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images and the keypoints both of them show.

    Keypoints are (x, y), pixel centres at integers, original pixels (the image frame). Boxes are
    (xmin, ymin, xmax, ymax) in the same frame. The row n of `source_points` and of `target_points` is the same
    part, named by `keypoint_ids[n]`, the dataset's raw id.
    """

    id: str
    source: str
    target: str
    category: str
    source_points: Float[np.ndarray, "n 2"]
    target_points: Float[np.ndarray, "n 2"]
    keypoint_ids: tuple[str, ...]
    source_box: tuple[float, float, float, float] | None = None
    target_box: tuple[float, float, float, float] | None = None
    variations: Mapping[str, int] = field(default_factory=dict)


MIRRORED = "@flip"
"""What ends the id of an image's mirrored copy: the same photograph, left and right exchanged."""
AZIMUTHS = 8
"""Viewpoint bins around an object, counted by turning it one way: mirrored, they count the other way."""


def mirrored(record: ImageRecord) -> ImageRecord:
    """The record of an image's mirrored copy: the same file under the id `<id>@flip`.

    Raises:
        DatasetError: the id ends so already.
    """
    if record.id.endswith(MIRRORED):
        raise DatasetError(
            f"image '{record.id}': the ending {MIRRORED} is kept for mirrored copies; rename {record.path}"
        )
    azimuth = None if record.azimuth is None else -record.azimuth % AZIMUTHS
    return replace(record, id=record.id + MIRRORED, azimuth=azimuth)


Resample = Literal["bilinear", "bicubic", "lanczos"]
"""Pillow's filters for resizing, by the names that parameters use; all of them antialias."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """How a photograph becomes the input of a network.

    Attributes:
        size: (width, height) of the input in pixels.
        fit: `stretch` loses the aspect ratio, `letterbox` keeps it between bars.
        resample: the filter.
        bars: the value in [0, 1] of the letterbox's bars.
        oriented: whether an EXIF orientation is applied first; the published code ignores it.

    Raises:
        ConfigError: bars of no brightness.
    """

    size: tuple[int, int]
    fit: Literal["stretch", "letterbox"]
    resample: Resample = "bilinear"
    bars: float = 0.5
    oriented: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.bars <= 1:
            raise ConfigError(f"bars must lie in 0..1, not {self.bars}")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in a network's input: `x_input = (x_image + 0.5) * scale - 0.5 + offset`.

    Attributes:
        image_size: (width, height) of the photograph in original pixels.
        input_size: (width, height) of the network's input in pixels.
        scale: input pixels an original pixel, for x and y; the two differ when the image was stretched.
        offset: input pixels left of and above the image; not zero when the image was letterboxed.
    """

    image_size: tuple[int, int]
    input_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]


@runtime_checkable
class PairDataset(Protocol):
    """Images once, pairs by reference."""

    @property
    def name(self) -> str:
        """The dataset's name in paths: `features/<name>/...`."""
        ...

    @property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every image by its id, sorted by id."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The names `pairs` knows, e.g. trn, val, test."""
        ...

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of a split in the dataset's own order."""
        ...
