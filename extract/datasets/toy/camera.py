"""The camera of a view: rays out of pixels, and points into them.

Pixels are (x, y) with the centre of the first pixel at (0, 0): the image frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from matchkit.extract.datasets.toy.scene import Instance, View


@dataclass(frozen=True)
class Camera:
    """A pinhole: `axes` rows are right, down and forwards (object frame); `focal` and `centre` are in pixels."""

    position: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    focal: float
    centre: Float[np.ndarray, " 2"]

    def project(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """Object frame to image frame."""
        local = (points - self.position) @ self.axes.T
        flat: Float[np.ndarray, "n 2"] = local[:, :2] / local[:, 2:] * self.focal + self.centre
        return flat

    def directions(self, pixels: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 3"]:
        """Unit directions, object frame, of the rays through image points."""
        flat = (pixels - self.centre) / self.focal
        rays = flat @ self.axes[:2] + self.axes[2]
        scaled: Float32[np.ndarray, "n 3"] = (rays / lengths(rays)).astype(np.float32)
        return scaled


def lengths(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 1"]:
    """Their lengths; written out, as numpy is slow at sums over a short axis."""
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    result: Float[np.ndarray, "n 1"] = np.sqrt(x * x + y * y + z * z)[:, None]
    return result


def place_camera(instance: Instance, view: View, *, size: int) -> Camera:
    """Stands a camera on the view's azimuth and elevation and zooms so that the object's box has the view's span."""
    azimuth, elevation, roll = np.deg2rad([view.azimuth, view.elevation, view.roll])
    away = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    down = np.cross(-away, right)
    right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    plain = Camera(away * view.distance, np.stack([right, down, -away]), 1.0, np.zeros(2))
    flat = plain.project(instance.vertices.astype(float))
    low, high = flat.min(0), flat.max(0)
    focal = float(view.span * size / (high - low).max())
    box = focal * (high - low)
    offset = np.asarray(view.offset)
    within = np.clip(offset, -1, 1)
    shift = within * np.maximum((size - box) / 2, 0) + (offset - within) * box / 2
    centre = (size - 1) / 2 + shift - focal * (low + high) / 2
    return Camera(plain.position, plain.axes, focal, centre)
