"""Which cells of a feature map show an object: masks posed, of boxes, and on a grid."""

from typing import Literal

import numpy as np
from jaxtyping import Bool

from matchkit.core.geometry import input_to_image
from matchkit.core.poses import Pose
from matchkit.core.records import Placement

MaskSampling = Literal["centre", "corner"]
"""Which input pixel of a cell tells its mask: that at its centre, or that in its upper left corner."""
Box = tuple[float, float, float, float]


def posed_mask(mask: Bool[np.ndarray, "h w"], pose: Pose) -> Bool[np.ndarray, "_ _"]:
    """The mask of an image's copy in a pose."""
    if pose == "hflip":
        return mask[:, ::-1]
    return np.rot90(mask, {"none": 0, "rot90": 1, "rot270": 3}[pose])


def box_mask(box: Box, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels of an image of (width, height) that lie in a box, its edges among them."""
    xs, ys = np.arange(size[0]), np.arange(size[1])
    return np.outer((ys >= box[1]) & (ys <= box[3]), (xs >= box[0]) & (xs <= box[2]))


def mask_on_grid(
    mask: Bool[np.ndarray, "h w"], placement: Placement, grid: tuple[int, int], *, sampling: MaskSampling
) -> Bool[np.ndarray, "gh gw"]:
    """A mask of the image frame on a grid of (height, width) cells, by nearest pixels; bars of a letterbox are outside.

    A cell takes the value of one input pixel, and this the value of the image's pixel that is nearest to it.
    """
    shift = 0.5 if sampling == "centre" else 0.0
    width, height = placement.input_size
    xs = np.floor((np.arange(grid[1]) + shift) * width / grid[1])
    ys = np.floor((np.arange(grid[0]) + shift) * height / grid[0])
    at = np.stack(np.meshgrid(xs, ys), -1).astype(np.float32)
    x, y = np.moveaxis(np.rint(input_to_image(at, placement)).astype(np.int64), -1, 0)
    inside = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
    return np.asarray(inside & mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)])
