"""The three frames, and every change between them.

A point is (x, y) with pixel (or cell) centres at integers, in one of three frames: **image**, original pixels;
**input**, pixels of what the network sees; **grid**, cells of a feature map. Nothing outside this file may convert.

    image -> input   x_input = (x_image + 0.5) * scale - 0.5 + offset      (a `Placement`)
    grid  -> input   x_input = (x_grid + 0.5) * stride - 0.5
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from matchkit.core.errors import ConfigError
from matchkit.core.records import Placement

Fit = Literal["stretch", "letterbox"]
Points = Float[np.ndarray, "*b 2"]


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


def cell_index(points: Points, grid: tuple[int, int]) -> Int[np.ndarray, "*b"]:
    """The flat, row-major index of the cell nearest to each point of the grid frame.

    Points outside are first clipped to the grid and then rounded half to even, as the published losses do.
    """
    height, width = grid
    x = np.rint(np.clip(points[..., 0], 0, width - 1)).astype(np.int64)
    y = np.rint(np.clip(points[..., 1], 0, height - 1)).astype(np.int64)
    return np.asarray(y * width + x)
