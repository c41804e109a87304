"""Pictures of a translation to look at: conditions and confidences as colours, and many pictures side by side."""

import colorsys
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from matchkit.core.conditions import ConditionSpec
from matchkit.core.errors import ConfigError
from matchkit.extract.conditions.pose import PICTURE

Picture = UInt8[np.ndarray, "_ _ 3"]
GAP = 4
"""Pixels between pictures, and around all of them."""
LINE = 14
"""Pixels of a line of Pillow's default font."""
PAPER, INK = (255, 255, 255), (0, 0, 0)
GOLDEN = (5**0.5 - 1) / 2
"""Of the wheel of hues from one class to the next, so that neighbours differ however many there are."""


def as_bytes(pixels: Float[torch.Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture in [0, 1] as values 0..255."""
    values = (pixels.detach().float().cpu().clamp(0, 1) * 255).round().byte()
    return values.permute(1, 2, 0).contiguous().numpy()


def heat(values: Float[torch.Tensor, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Values in [0, 1] as matplotlib's viridis, 0 dark blue and 1 yellow."""
    colours: UInt8[np.ndarray, "h w 4"] = mpl.colormaps["viridis"](values.detach().float().cpu().numpy(), bytes=True)
    return np.ascontiguousarray(colours[..., :3])


def condition_picture(given: Float[torch.Tensor, "c h w"], spec: ConditionSpec) -> UInt8[np.ndarray, "h w 3"]:
    """A condition, as a network is given it, as a person looks at it.

    Of a pose its skeleton, of edges all of them in white, of a mask a colour a class, black for the first one.

    Raises:
        ConfigError: the condition is not one of the spec.
    """
    if len(given) != spec.width:
        raise ConfigError(f"a condition of {len(given)} channels is no {spec.kind} of {spec.width}")
    values = given.detach().float().cpu()
    if spec.classes:
        return np.asarray(_class_colours(len(spec.classes))[values.argmax(0).numpy()])
    shown = [spec.channels.index(name) for name in PICTURE if name in spec.channels]
    return as_bytes(values[shown] if len(shown) == len(PICTURE) else values[:1].expand(3, -1, -1))


def _class_colours(count: int) -> UInt8[np.ndarray, "n 3"]:
    wheel = [colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.65, 0.9) for number in range(1, count)]
    return np.asarray(np.rint(np.asarray([(0.0, 0.0, 0.0), *wheel]) * 255), np.uint8)


def contact_sheet(
    rows: Sequence[Sequence[Picture]], *, columns: Sequence[str], captions: Sequence[str] = (), side: int = 192
) -> Image.Image:
    """Rows of pictures side by side, what a column shows above it and what a row shows above that.

    Args:
        rows: the pictures, values 0..255, of any sizes.
        columns: what each column shows.
        captions: what each row shows; none for rows without.
        side: pixels of the square in which a picture stands; one that is smaller is enlarged in whole pixels' colours,
            so that its own pixels can be seen.

    Raises:
        ConfigError: a row of another number of pictures than columns, or captions for another number of rows.
    """
    if not rows or any(len(row) != len(columns) for row in rows) or len(captions) not in (0, len(rows)):
        raise ConfigError(
            f"a contact sheet of {len(columns)} columns wants as many pictures a row, and a caption a row or none: "
            f"it was given rows of {[len(row) for row in rows]} and {len(captions)} captions"
        )
    told = LINE if captions else 0
    pitch = told + side + GAP
    size = (GAP + len(columns) * (side + GAP), GAP + LINE + len(rows) * pitch)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        draw.text((GAP + column * (side + GAP), 1), _cut(draw, title, side), fill=INK)
    for number, row in enumerate(rows):
        top = GAP + LINE + number * pitch
        if captions:
            draw.text((GAP, top), _cut(draw, captions[number], size[0] - 2 * GAP), fill=INK)
        for column, picture in enumerate(row):
            sheet.paste(_tile(picture, side), (GAP + column * (side + GAP), top + told))
    return sheet


def _cut(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    while draw.textlength(text) > width:
        text = text[:-1]
    return text


def _tile(picture: Picture, side: int) -> Image.Image:
    """A picture in the middle of a square."""
    height, width = picture.shape[:2]
    ratio = side / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    resized = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST if ratio > 1 else Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (side, side), PAPER)
    tile.paste(resized, ((side - size[0]) // 2, (side - size[1]) // 2))
    return tile
