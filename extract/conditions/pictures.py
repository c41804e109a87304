"""The pictures that conditions are read from."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from matchkit.core.errors import DatasetError

PLAIN = ("1", "L", "P")
"""Pillow's modes of one channel of at most 8 bits; of a palette the indices count."""
Read = TypeVar("Read")


def stored_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of an image as it lies in its file, from its header alone.

    Raises:
        DatasetError: it is missing or no image.
    """
    return _read(path, lambda image: image.size)


def read_indices(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The index that a picture of one channel holds at each pixel.

    Raises:
        DatasetError: it is missing, broken, or holds colours or more than 8 bits.
    """
    mode, indices = _read(path, lambda image: (image.mode, np.array(image) if image.mode in PLAIN else None))
    if indices is None:
        raise DatasetError(f"{path} must hold the index of a class at each pixel in 8 bits (its mode is {mode})")
    return indices.astype(np.uint8)


def read_grey(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The brightness of a picture at each pixel.

    Raises:
        DatasetError: it is missing or broken, or of more than 8 bits a channel.
    """
    mode, grey = _read(path, lambda image: (image.mode, np.array(image.convert("L"))))
    if mode.startswith(("I", "F")):
        raise DatasetError(f"{path} has more than 8 bits a channel (mode {mode}); convert it first")
    return grey


def fitting(values: UInt8[np.ndarray, "h w"], *, photograph: tuple[int, int], path: Path) -> UInt8[np.ndarray, "h w"]:
    """The values of a file, if they are as large as their photograph of (width, height) pixels.

    Raises:
        DatasetError: they are of another size.
    """
    height, width = values.shape
    if (width, height) != photograph:
        raise DatasetError(f"{path} is {width} x {height} pixels, but its photograph {photograph[0]} x {photograph[1]}")
    return values


def nearest(values: Shaped[np.ndarray, "*c h w"], size: tuple[int, int]) -> Shaped[np.ndarray, "*c H W"]:
    """The values at (width, height) pixels, each the one at whose pixel its centre lies."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(values.shape[-2:], (size[1], size[0]), strict=True)
    )
    return values[..., rows[:, None], columns]


def _read(path: Path, take: Callable[[Image.Image], Read]) -> Read:
    try:
        with Image.open(path) as image:
            return take(image)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except Exception as error:  # the decoders of a dozen formats, and what a broken file makes of them
        raise DatasetError(f"{path} cannot be decoded: {error}") from error
