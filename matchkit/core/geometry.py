"""The three frames, and every change between them.

A point is (x, y) with pixel (or cell) centres at integers, in one of three frames: **image**, original pixels;
**input**, pixels of what the network sees; **grid**, cells of a feature map. Nothing outside this file may convert.

    image -> input   x_input = (x_image + 0.5) * scale - 0.5 + offset      (a `Placement`)
    grid  -> input   x_input = (x_grid + 0.5) * stride - 0.5
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from matchkit.core.errors import ConfigError
from matchkit.core.poses import Pose
from matchkit.core.records import Placement

Fit = Literal["stretch", "letterbox"]
Points = Float[np.ndarray, "*b 2"]
EDGE = 1e-4
"""Input pixels by which `align-corners` keeps keypoints off the centres of the input's first and last pixels.
Source: SD4Match §3.1."""


def place(image_size: tuple[int, int], input_size: tuple[int, int], *, fit: Fit) -> Placement:
    """Puts an image of (width, height) pixels into an input of (width, height) pixels.

    `stretch` fills the input and loses the aspect ratio; `letterbox` keeps it and centres the image between bars of
    whole pixels.
    """
    width, height = image_size
    if min(width, height) < 1:
        raise ConfigError(f"an image of {width} x {height} pixels cannot be placed")
    if fit == "stretch":
        scale = (input_size[0] / width, input_size[1] / height)
        return Placement(image_size, input_size, scale, (0.0, 0.0))
    inner = letterboxed_size(image_size, input_size)
    offset = (float((input_size[0] - inner[0]) // 2), float((input_size[1] - inner[1]) // 2))
    return Placement(image_size, input_size, (inner[0] / width, inner[1] / height), offset)


def letterboxed_size(image_size: tuple[int, int], input_size: tuple[int, int]) -> tuple[int, int]:
    """The (width, height) in whole input pixels that an image takes when its aspect ratio is kept."""
    ratio = min(input_size[0] / image_size[0], input_size[1] / image_size[1])
    return max(1, round(image_size[0] * ratio)), max(1, round(image_size[1] * ratio))


def image_to_input(points: Points, placement: Placement) -> Points:
    """Takes points from the image frame to the input frame."""
    moved = (points + 0.5) * np.asarray(placement.scale) - 0.5 + np.asarray(placement.offset)
    return np.asarray(moved, dtype=np.float32)


def input_to_image(points: Points, placement: Placement) -> Points:
    """Takes points from the input frame to the image frame; those on a letterbox bar fall outside the image."""
    moved = (points - np.asarray(placement.offset) + 0.5) / np.asarray(placement.scale) - 0.5
    return np.asarray(moved, dtype=np.float32)


def stride(placement: Placement, grid: tuple[int, int]) -> tuple[float, float]:
    """Input pixels a cell, for x and y, of a grid given as (height, width) in cells."""
    return placement.input_size[0] / grid[1], placement.input_size[1] / grid[0]


def image_to_grid(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """Takes points from the image frame to the frame of a grid given as (height, width) in cells."""
    moved = (image_to_input(points, placement) + 0.5) / np.asarray(stride(placement, grid)) - 0.5
    return np.asarray(moved, dtype=np.float32)


def grid_to_image(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """Takes points from the frame of a grid given as (height, width) in cells to the image frame."""
    in_input = (points + 0.5) * np.asarray(stride(placement, grid)) - 0.5
    return input_to_image(in_input.astype(np.float32), placement)


def image_to_grid_corner(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """Takes points from the image frame to the grid frame as published code does: without the half-pixel shift.

    `x_grid = (x_image * scale + offset) / stride`. This is half a cell right of and below `image_to_grid`.
    Source: Diffusion Hyperfeatures' keypoint indexing, `y * 64 / H, x * 64 / W`.
    """
    moved = (points * np.asarray(placement.scale) + np.asarray(placement.offset)) / np.asarray(stride(placement, grid))
    return np.asarray(moved, dtype=np.float32)


def grid_to_image_corner(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """What `image_to_grid_corner` undoes."""
    in_input = points * np.asarray(stride(placement, grid))
    moved = (in_input - np.asarray(placement.offset)) / np.asarray(placement.scale)
    return np.asarray(moved, dtype=np.float32)


def image_to_grid_patch(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """Takes points from the image frame to the grid frame with pixels' corners at integers, and cells' centres.

    `x_grid = (x_image * scale + offset) / stride - 0.5`: half an image pixel off `image_to_grid`, and a letterboxed
    image's scale is the same along both axes, although it is resized to whole pixels.
    Source: GeoAware-SC §1.1 and §4.3, whose token is floor(x / 14).
    """
    in_input = points * _even_scale(placement) + np.asarray(placement.offset)
    return np.asarray(in_input / np.asarray(stride(placement, grid)) - 0.5, dtype=np.float32)


def grid_to_image_patch(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """What `image_to_grid_patch` undoes: `x_image * scale + offset` is 14 x + 7 where a cell has 14 pixels."""
    in_input = (points + 0.5) * np.asarray(stride(placement, grid))
    return np.asarray((in_input - np.asarray(placement.offset)) / _even_scale(placement), dtype=np.float32)


def image_to_grid_align_corners(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """Takes points from the image frame to the grid frame with the centres of the corner pixels in the corner cells.

    `x_input = x_image * scale + offset`, kept off the input's edge by `EDGE`, and `x_grid = x_input * (g - 1) /
    (side - 1)`: a cell is wider than the stride by one part in g. Source: SD4Match §3.1.
    """
    last = np.asarray(placement.input_size) - 1
    in_input = points * np.asarray(placement.scale) + np.asarray(placement.offset)
    return np.asarray(np.clip(in_input, EDGE, last - EDGE) * _last_cell(grid) / last, dtype=np.float32)


def grid_to_image_align_corners(points: Points, placement: Placement, grid: tuple[int, int]) -> Points:
    """What `image_to_grid_align_corners` undoes; a grid of one cell has no place but that of its first pixel."""
    in_input = points * (np.asarray(placement.input_size) - 1) / np.maximum(_last_cell(grid), 1)
    return np.asarray((in_input - np.asarray(placement.offset)) / np.asarray(placement.scale), dtype=np.float32)


def _last_cell(grid: tuple[int, int]) -> Int[np.ndarray, "2"]:
    """(x, y) of the last cell of a grid (height, width)."""
    return np.asarray([grid[1] - 1, grid[0] - 1])


def _even_scale(placement: Placement) -> Float[np.ndarray, "2"]:
    """Input pixels an original pixel before the resized image was rounded to whole pixels."""
    filling = np.asarray(placement.input_size) / np.asarray(placement.image_size)
    return filling if np.allclose(placement.scale, filling, rtol=1e-9) else np.full(2, filling.min())


def posed_points(points: Points, size: tuple[int, int], pose: Pose) -> Points:
    """Where points of an image of (width, height) pixels lie in its copy in a pose; both in their image frames.

    Example:
        >>> posed_points(np.float32([[0, 2]]), (10, 5), "rot90")
        array([[2., 9.]], dtype=float32)
    """
    x, y = points[..., 0], points[..., 1]
    right, bottom = size[0] - 1, size[1] - 1
    moved = {"none": (x, y), "hflip": (right - x, y), "rot90": (y, right - x), "rot270": (bottom - y, x)}[pose]
    return np.stack(moved, axis=-1).astype(np.float32)


def cell_index(points: Points, grid: tuple[int, int]) -> Int[np.ndarray, "*b"]:
    """The flat, row-major index of the cell in which each point of the grid frame lies, or of the nearest one."""
    return _flat(np.floor(_inside(points, grid) + 0.5), grid)


def cell_index_even(points: Points, grid: tuple[int, int]) -> Int[np.ndarray, "*b"]:
    """As `cell_index`, with points between two cells rounded to the even one.

    Source: Diffusion Hyperfeatures' losses.
    """
    return _flat(np.rint(_inside(points, grid)), grid)


def _inside(points: Points, grid: tuple[int, int]) -> Points:
    """The points clipped to the grid's cells: one on the image's right or lower edge is of the last cell."""
    return np.asarray(np.clip(points, 0, np.asarray([grid[1] - 1, grid[0] - 1])), np.float32)


def _flat(rounded: Points, grid: tuple[int, int]) -> Int[np.ndarray, "*b"]:
    x, y = rounded[..., 0].astype(np.int64), rounded[..., 1].astype(np.int64)
    return np.asarray(y * grid[1] + x)


@dataclass(frozen=True, slots=True)
class KeypointRule:
    """How keypoints change from the image frame to a grid, and in which of its cells they then lie."""

    to_grid: Callable[[Points, Placement, tuple[int, int]], Points]
    to_image: Callable[[Points, Placement, tuple[int, int]], Points]
    cells: Callable[[Points, tuple[int, int]], Int[np.ndarray, "*b"]]


KeypointRuleName = Literal["centre", "corner", "patch", "align-corners"]
KEYPOINT_RULES: Mapping[KeypointRuleName, KeypointRule] = MappingProxyType(
    {
        "centre": KeypointRule(image_to_grid, grid_to_image, cell_index),
        "corner": KeypointRule(image_to_grid_corner, grid_to_image_corner, cell_index_even),
        "patch": KeypointRule(image_to_grid_patch, grid_to_image_patch, cell_index),
        "align-corners": KeypointRule(image_to_grid_align_corners, grid_to_image_align_corners, cell_index_even),
    }
)
"""`centre` honours pixel centres, `corner` is Diffusion Hyperfeatures' rule, `patch` is GeoAware-SC's, and
`align-corners` SD4Match's."""
