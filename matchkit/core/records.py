"""What a dataset is: images once, pairs by reference; and the placement of an image in a network's input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


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
