"""What a dataset is: images once, pairs by reference; and the placement of an image in a network's input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from matchkit.core.errors import ConfigError
from matchkit.core.keypoints import KeypointScheme


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photograph of a dataset.

    Attributes:
        id: `<category>/<stem>`, unique in its dataset, e.g. `aeroplane/2008_007604`.
        path: where the file lies.
        size: (width, height) in original pixels.
        category: the object's class, or "" where the dataset has none.
        azimuth: the viewpoint bin of the object (SPair: 0..7, 0 frontal, 1-3 the object's left), or None.
        keypoints: (x, y) of those that can be seen, by the dataset's raw ids; image frame. None for a posed copy.
    """

    id: str
    path: Path
    size: tuple[int, int]
    category: str = ""
    azimuth: int | None = None
    keypoints: Mapping[str, tuple[float, float]] = field(default_factory=dict)


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


Resample = Literal["bilinear", "bicubic", "lanczos"]
"""Pillow's filters for resizing, by the names that parameters use; all of them antialias."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """How a photograph becomes the input of a network.

    Attributes:
        size: (width, height) of the input in pixels.
        fit: `stretch` loses the aspect ratio, `letterbox` keeps it between bars; `crop` cuts the middle out of an image
            whose shorter side is 8/7 of the input's, for a network that sees the image beside the first one.
        resample: the filter.
        bars: the value in [0, 1] of the letterbox's bars.
        oriented: whether an EXIF orientation is applied first; the published code ignores it.

    Raises:
        ConfigError: bars of no brightness.
    """

    size: tuple[int, int]
    fit: Literal["stretch", "letterbox", "crop"]
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

    def scheme(self, category: str) -> KeypointScheme:
        """What is known of a category's keypoints.

        Raises:
            DatasetError: nothing is.
        """
        ...

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """Which pixels of an image, in the image frame, show its object.

        Raises:
            DatasetError: the dataset has no segmentation of it, or one of another size.
        """
        ...
