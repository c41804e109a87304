"""How far each pixel is from a shape, as the conditions hold it."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_cdt

STEP = 3.0
"""Pixels for which a distance grows by 1/255. Source: CoCosNet §4.3."""
STEPS = 255
FAR = 1.0
"""The distance to a shape that is not there, and the largest of all."""


def distance_map(shape: Bool[np.ndarray, "h w"], *, step: float = STEP) -> Float[np.ndarray, "h w"]:
    """The L1 distance of each pixel to the nearest one of a shape, in whole steps of `step` pixels a 1/255, float32.

    It is 0 on the shape and at most 1, and 1 throughout where there is no shape to measure from.
    Source: CoCosNet §4.3, where it is kept as 8 bits.
    """
    if not shape.any():
        return np.full(shape.shape, FAR, np.float32)
    steps = np.floor(np.arange(sum(shape.shape)) / step)  # of every distance that there can be
    table = (np.minimum(steps, STEPS) / STEPS).astype(np.float32)
    return np.asarray(table.take(_pixels(shape)))


def _pixels(shape: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """L1 distances in pixels: measured in the box around the shape, from which they grow by one a row and a column."""
    (rows, below), (columns, beside) = (_nearest_within(np.asarray(shape.any(axis=axis))) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    box = shape[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    measured = np.asarray(distance_transform_cdt(~box, metric="taxicab"))
    return np.asarray(measured.take(columns - left, axis=1).take(rows - top, axis=0) + below[:, None] + beside)


def _nearest_within(marked: Bool[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """For each place the nearest one between the first and the last that are marked, and how far that is."""
    places, within = np.arange(len(marked), dtype=np.int32), np.flatnonzero(marked)
    nearest = places.clip(within[0], within[-1])
    return nearest, np.abs(places - nearest)
