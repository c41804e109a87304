"""The edges of a photograph: the borders of its parts, how far each pixel is from each, and what Canny finds beside.

Source: CoCosNet §4.3.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from skimage import feature

from matchkit.core.conditions import ConditionSpec
from matchkit.extract.conditions.distances import FAR, distance_map

EDGES, PART_EDGES, DISTANCE = "edges", "part_edges", "distance"
SIGMA = 1.0
"""Pixels of Canny's Gaussian."""
DRAWN = 128
"""From which brightness on a pixel of a drawn picture is an edge to measure from."""
Parts = Bool[np.ndarray, "p h w"]
Grey = UInt8[np.ndarray, "h w"]
CANNY: Callable[..., Bool[np.ndarray, "h w"]] = feature.canny
"""scikit-image leaves it without types."""


def edge_spec(parts: Sequence[str]) -> ConditionSpec:
    """What edges of named parts are made of: all edges, a distance to the border a part, the borders alone."""
    return ConditionSpec(
        kind="edge",
        channels=(EDGES, *parts, PART_EDGES),
        smooth=(False, *[True] * len(parts), False),
        outside=(0.0, *[FAR] * len(parts), 0.0),
    )


def drawing_spec() -> ConditionSpec:
    """What a picture of edges is made of: its brightness, and the distance to what is bright in it."""
    return ConditionSpec(kind="edge", channels=(EDGES, DISTANCE), smooth=(True, True), outside=(0.0, FAR))


def borders(parts: Parts) -> Parts:
    """Which pixels differ from one of their four neighbours: a border is two pixels thick."""
    edges = np.zeros_like(parts)
    across, down = parts[:, :, 1:] != parts[:, :, :-1], parts[:, 1:] != parts[:, :-1]
    edges[:, :, 1:] |= across
    edges[:, :, :-1] |= across
    edges[:, 1:] |= down
    edges[:, :-1] |= down
    return edges


def render_edges(parts: Parts, photo: Grey, *, open_parts: Sequence[int] = ()) -> Float[np.ndarray, "c h w"]:
    """The condition of a photograph's edges, float32 in [0, 1], as `edge_spec` says.

    Args:
        parts: which pixels belong to each; one that is not there has none. Parts may overlap.
        photo: brightness of the photograph. What Canny finds in it counts outside the parts alone.
        open_parts: places of the parts in which it counts all the same, published: the hair.
    """
    opened = parts[list(open_parts)].any(axis=0)
    of_parts = borders(parts)
    every = of_parts.any(axis=0)
    elsewhere = CANNY(photo, sigma=SIGMA) & (opened | ~parts.any(axis=0))
    distances = [distance_map(border) for border in of_parts]
    return np.stack([every | elsewhere, *distances, every]).astype(np.float32)


def render_drawing(picture: Grey) -> Float[np.ndarray, "2 h w"]:
    """The condition of a picture of edges, bright on black, as `drawing_spec` says; float32 in [0, 1]."""
    return np.stack([picture.astype(np.float32) / 255, distance_map(picture >= DRAWN)])
