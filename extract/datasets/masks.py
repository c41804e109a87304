"""Segmentations: which pixels of an image show its object."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from matchkit.core.errors import DatasetError

VOID = 255
"""What PASCAL VOC's segmentations hold on the seam between two objects."""
DEEP_MODES = ("I", "F")
"""How Pillow's modes of more than 8 bits begin."""
PLAIN = ("1", "L", "P")
"""Pillow's modes of one channel of at most 8 bits; of a palette the indices count."""


def read_class(path: Path, *, size: tuple[int, int], label: int | None) -> Bool[np.ndarray, "h w"]:
    """The pixels of a class in a segmentation that holds the classes' indices.

    Args:
        path: a PNG file of one channel.
        size: (width, height) of its image.
        label: the class's index. Without one, and where no pixel has it, every pixel that has a class counts.

    Raises:
        DatasetError: the file is missing or broken, of another size, or holds colours.
    """
    image = _decoded(path, size)
    if image.mode not in PLAIN:
        raise DatasetError(f"{path} must hold the index of a class at each pixel, not colours (mode {image.mode})")
    labels = np.asarray(image).astype(np.uint8)
    if label is not None and (labels == label).any():
        return np.asarray(labels == label)
    return np.asarray((labels != 0) & (labels != VOID))


def read_marked(path: Path, *, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels of a picture that are not black.

    Args:
        path: a PNG file.
        size: (width, height) of the image whose object it marks.

    Raises:
        DatasetError: the file is missing or broken, or of another size.
    """
    image = _decoded(path, size)
    if image.mode.startswith(DEEP_MODES):
        return np.asarray(np.asarray(image) != 0)
    return np.asarray((np.asarray(image.convert("RGB")) != 0).any(axis=2))


def _decoded(path: Path, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(path) as opened:
            image = opened.copy()
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing: it says which pixels show the object") from error
    except Exception as error:  # the decoders of a dozen formats, and what a broken file makes of them
        raise DatasetError(f"{path} cannot be decoded: {error}") from error
    if image.size != size:
        raise DatasetError(f"{path} is {image.size[0]} x {image.size[1]} pixels, but its image {size[0]} x {size[1]}")
    return image
