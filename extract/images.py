"""Photographs decoded and put into a network's input."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import ExifTags, Image, ImageOps

from matchkit.core.errors import DatasetError
from matchkit.core.geometry import letterboxed_size, place
from matchkit.core.records import MIRRORED, Canvas, ImageRecord, Placement

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
DEEP_MODES = ("I", "F")
"""How Pillow's modes of more than 8 bits begin."""
SIDEWAYS = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""


def load_image(record: ImageRecord, *, oriented: bool = False) -> Image.Image:
    """Decodes an image to RGB as the published code does.

    Grey stands in all three channels, transparency is dropped (what lies under it shows), a colour profile is not
    applied, and of several frames the first is taken.

    Args:
        record: which one; its mirrored copy where the id ends in `@flip`.
        oriented: whether an EXIF orientation is applied, which the published code ignores; the record's size, and all
            that is annotated in the image frame, is then that of the turned image.

    Raises:
        DatasetError: the file is missing, broken, too large to be true, of more than 8 bits a channel, or of another
            size than annotated.
    """
    try:
        decoded = _decode(record.path, oriented=oriented)
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{record.path} is missing: the file of image '{record.id}'") from error
    except Exception as error:  # the decoders of a dozen formats, and what a broken file makes of them
        raise DatasetError(f"{record.path} cannot be decoded: {error}") from error
    if decoded.size != record.size:
        raise DatasetError(_other_size(record, decoded.size, oriented=oriented))
    return ImageOps.mirror(decoded) if record.id.endswith(MIRRORED) else decoded


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of an image with its EXIF orientation applied, from its header alone.

    Raises:
        DatasetError: it is no image, or one with a broken header.
    """
    try:
        with Image.open(path) as image:
            return image.size[::-1] if _is_sideways(image) else image.size
    except Exception as error:  # the decoders of a dozen formats, and what a broken header makes of them
        raise DatasetError(f"{path} is not a readable image: {error}") from error


def _is_sideways(image: Image.Image) -> bool:
    """Whether an EXIF orientation that is not applied yet exchanges width and height."""
    if image.format == "TIFF":  # Pillow applies it by itself, and says the size that this gives
        return False
    # the method of a PNG decodes all of the image first, in search of what may stand behind it
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation) in SIDEWAYS


def _other_size(record: ImageRecord, size: tuple[int, int], *, oriented: bool) -> str:
    if not oriented and upright_size(record.path) == record.size:
        turned, remedy = " as it lies in its file", ". Apply its EXIF orientation: --set oriented=true"
    else:
        turned, remedy = (" once its EXIF orientation is applied" if oriented else ""), ""
    return (
        f"{record.path} is {size[0]} x {size[1]} pixels{turned}, but its annotation says "
        f"{record.size[0]} x {record.size[1]}{remedy}"
    )


def _decode(path: Path, *, oriented: bool) -> Image.Image:
    with Image.open(path) as image:
        if _is_deep(image):
            raise DatasetError(f"{path} has more than 8 bits a channel (mode {image.mode}); convert it first")
        upright = ImageOps.exif_transpose(image) if oriented else image
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")  # the same colours, without Pillow's warning
        return upright.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    """Whether a channel has more than 8 bits; Pillow says RGB of a 16-bit colour image and would cut it."""
    return image.mode.startswith(DEEP_MODES) or any(map(_is_deep_tile, getattr(image, "tile", ())))


def _is_deep_tile(tile: tuple[str, object, int, object]) -> bool:
    codec, _, _, arguments = tile
    if codec.startswith("ppm") and isinstance(arguments, tuple):  # ends in the largest value
        return int(arguments[-1]) > 255
    return ";16" in str(arguments)


def to_input(image: Image.Image, canvas: Canvas) -> tuple[Float[torch.Tensor, "3 h w"], Placement]:
    """Puts an image into an input; values in [0, 1]."""
    placement = place(image.size, canvas.size, fit=canvas.fit)
    inner = canvas.size if canvas.fit == "stretch" else letterboxed_size(image.size, canvas.size)
    resized = image if image.size == inner else image.resize(inner, FILTERS[canvas.resample])
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    if inner == canvas.size:
        return pixels.contiguous(), placement
    left, top = (int(x) for x in placement.offset)
    whole = torch.full((3, canvas.size[1], canvas.size[0]), float(canvas.bars))
    whole[:, top : top + inner[1], left : left + inner[0]] = pixels
    return whole, placement
