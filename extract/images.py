"""Photographs decoded and put into a network's input."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import ExifTags, Image, ImageOps

from matchkit.core.errors import DatasetError
from matchkit.core.geometry import letterboxed_size, place
from matchkit.core.poses import Pose, pose_of, posed_size
from matchkit.core.records import Canvas, ImageRecord, Placement

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
TRANSPOSED: Mapping[Pose, Image.Transpose] = {
    "hflip": Image.Transpose.FLIP_LEFT_RIGHT,
    "rot90": Image.Transpose.ROTATE_90,
    "rot270": Image.Transpose.ROTATE_270,
}
"""Pillow turns counter-clockwise too."""
DEEP_MODES = ("I", "F")
"""How Pillow's modes of more than 8 bits begin."""
CROPPED_FROM = 256 / 224
"""A cropped image's shorter side over the input's: ImageNet's evaluation, and the image processor of DINOv2."""
SIDEWAYS = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""


def load_image(record: ImageRecord, *, oriented: bool = False) -> Image.Image:
    """Decodes an image to RGB as the published code does.

    Grey stands in all three channels, transparency is dropped (what lies under it shows), a colour profile is not
    applied, and of several frames the first is taken.

    Args:
        record: which one, or a posed copy of one: it is posed after it is decoded.
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
    pose = pose_of(record.id)
    if decoded.size != posed_size(record.size, pose):
        raise DatasetError(_other_size(record, decoded.size, oriented=oriented))
    return decoded if pose == "none" else decoded.transpose(TRANSPOSED[pose])


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
    annotated = posed_size(record.size, pose_of(record.id))
    if not oriented and upright_size(record.path) == annotated:
        turned, remedy = " as it lies in its file", ". Apply its EXIF orientation: --set oriented=true"
    else:
        turned, remedy = (" once its EXIF orientation is applied" if oriented else ""), ""
    return (
        f"{record.path} is {size[0]} x {size[1]} pixels{turned}, but its annotation says "
        f"{annotated[0]} x {annotated[1]}{remedy}"
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
    if canvas.fit == "crop":
        return _cropped(image, canvas)
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


def _cropped(image: Image.Image, canvas: Canvas) -> tuple[Float[torch.Tensor, "3 h w"], Placement]:
    """The middle of an image, in whole pixels as image processors of transformers have it."""
    shorter = round(min(canvas.size) * CROPPED_FROM)
    size = (int(shorter * image.width / min(image.size)), int(shorter * image.height / min(image.size)))
    left, top = ((whole - kept) // 2 for whole, kept in zip(size, canvas.size, strict=True))
    resized = image.resize(size, FILTERS[canvas.resample])
    middle = resized.crop((left, top, left + canvas.size[0], top + canvas.size[1]))
    pixels = torch.from_numpy(np.array(middle)).permute(2, 0, 1).float() / 255
    scale = (size[0] / image.width, size[1] / image.height)
    return pixels.contiguous(), Placement(image.size, canvas.size, scale, (float(-left), float(-top)))
