"""Photographs decoded and put into a network's input."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.geometry import Fit, letterboxed_size, place
from matchkit.core.records import ImageRecord, Placement

DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L"}


def load_image(record: ImageRecord) -> Image.Image:
    """Decodes an image to RGB; an EXIF orientation is not applied, as in the published code.

    Raises:
        DatasetError: the file is missing, truncated, of more than 8 bits a channel, or of another size than annotated.
    """
    try:
        with Image.open(record.path) as image:
            if _is_deep(image):
                raise DatasetError(
                    f"{record.path} has more than 8 bits a channel (mode {image.mode}); convert it first"
                )
            decoded = image.convert("RGB")
    except FileNotFoundError as error:
        raise DatasetError(f"{record.path} is missing: the file of image '{record.id}'") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{record.path} cannot be decoded: {error}") from error
    if decoded.size != record.size:
        raise DatasetError(
            f"{record.path} is {decoded.width} x {decoded.height} pixels, but its annotation says "
            f"{record.size[0]} x {record.size[1]}"
        )
    return decoded


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits; Pillow says RGB of a 16-bit colour PNG and would cut it."""
    return image.mode in DEEP_MODES or any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def to_input(
    image: Image.Image, input_size: tuple[int, int], *, fit: Fit
) -> tuple[Float[torch.Tensor, "3 h w"], Placement]:
    """Resizes an image into an input of (width, height) pixels; values in [0, 1], letterbox bars at 0.5.

    The filter is Pillow's antialiased bilinear, that of the published code.
    """
    placement = place(image.size, input_size, fit=fit)
    inner = input_size if fit == "stretch" else letterboxed_size(image.size, input_size)
    resized = image if image.size == inner else image.resize(inner, Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    if inner == input_size:
        return pixels.contiguous(), placement
    left, top = (int(x) for x in placement.offset)
    canvas = torch.full((3, input_size[1], input_size[0]), 0.5)
    canvas[:, top : top + inner[1], left : left + inner[0]] = pixels
    return canvas, placement
