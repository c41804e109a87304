"""What is behind the object: sky, ground and its noise, at one colour a pixel."""

import numpy as np
from jaxtyping import Float, Float32

from matchkit.extract.datasets.toy.camera import Camera
from matchkit.extract.datasets.toy.palettes import GARISH
from matchkit.extract.datasets.toy.scene import View

Rows = Float[np.ndarray, "n 3"]
WALL: float = 2.2
"""Distance of a room's wall behind the object's centre, object units."""


def ground_points(camera: Camera, rays: Rows, *, floor: float) -> tuple[Rows, Float[np.ndarray, " n"]]:
    """Where rays meet the plane z = floor, object frame, and how far away; infinite where they do not."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (floor - camera.position[2]) / rays[:, 2]
    distance = np.where((distance > 0) & np.isfinite(distance), distance, np.inf)
    reach = np.where(np.isfinite(distance), distance, 0.0)
    return camera.position + reach[:, None] * rays, distance


def noise(
    points: Float[np.ndarray, "n d"], rng: np.random.Generator, *, scale: float, waves: int = 6
) -> Float[np.ndarray, " n"]:
    """Smooth noise of about unit variance: a sum of plane waves of about `scale` units."""
    total: Float32[np.ndarray, " n"] = np.zeros(len(points), np.float32)
    flat: Float32[np.ndarray, "n d"] = points.astype(np.float32)
    for _ in range(waves):
        direction = np.asarray(rng.normal(0, 1, points.shape[1]), np.float32)
        total += np.sin(flat @ (direction * np.float32(2 / scale)) + np.float32(rng.uniform(0, 2 * np.pi)))
    scaled: Float[np.ndarray, " n"] = total / np.float32(np.sqrt(waves / 2))
    return scaled


def calm(view: View, camera: Camera, *, rays: Rows, floor: float, size: int) -> Rows:
    """Sky over ground, or wall over floor, in quiet colours; red green blue in [0, 1], a row a pixel."""
    rng = np.random.default_rng(view.texture)
    upper, horizon, near, far = (np.asarray(colour) for colour in view.palette)
    grid = _pixel_grid(size)
    height = 0.5 - grid[:, 1:] + 0.6 * rays[:, 2:] if view.ground == "sky" else rays[:, 2:] * 2.2 + 0.1
    colours = horizon + (upper - horizon) * _clipped(height)
    clouds = noise(grid * (1, 1.8), rng, scale=0.35) * (0.030 if view.ground == "sky" else 0.012)
    colours = colours + clouds[:, None]
    if view.ground == "sky":
        return _clipped(colours)
    points, distance = ground_points(camera, rays, floor=floor)
    depth = np.clip((distance - view.distance * 0.7) / (view.distance * 2.5), 0, 1)[:, None]
    ground = near + (far - near) * depth
    fine = noise(points[:, :2], rng, scale=0.45) * 0.018 * (1 - depth[:, 0])
    coarse = noise(points[:, :2], rng, scale=1.6) * 0.02
    ground = ground + (fine + coarse)[:, None]
    share = _ground_share(view, camera, points=points, distance=distance)
    return _clipped(colours * (1 - share) + ground * share)


def _ground_share(
    view: View, camera: Camera, *, points: Rows, distance: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 1"]:
    """1 on the ground, 0 on what is beyond it: the wall of a room, or the haze before the horizon."""
    if view.ground == "floor":
        behind = -(points[:, :2] @ _flat(camera.position))
        share = np.where(np.isfinite(distance), _clipped((WALL - behind) / 0.06 + 0.5), 0.0)
    else:
        share = _clipped((60 - distance) / 45)
    return share[:, None]


def _flat(vector: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 2"]:
    """The unit vector of the horizontal part."""
    scaled: Float[np.ndarray, " 2"] = vector[:2] / max(float(np.linalg.norm(vector[:2])), 1e-6)
    return scaled


def _clipped(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The values held within [0, 1]."""
    held: Float[np.ndarray, ...] = np.clip(values, 0, 1)
    return held


def _pixel_grid(size: int) -> Float[np.ndarray, "n 2"]:
    """Positions (x, y) of the pixels as shares of the image edge, row by row."""
    y, x = np.mgrid[:size, :size].reshape(2, -1) / size
    return np.stack([x, y], 1)


def hard(view: View, *, size: int) -> Rows:
    """Loud gradients, waves, boxes and discs; red green blue in [0, 1], a row a pixel."""
    rng = np.random.default_rng(view.texture)
    colours = np.array(list(GARISH.values()))
    grid = _pixel_grid(size)
    first, second, third = colours[rng.integers(len(colours), size=3)]
    share = grid @ rng.normal(0, 1, 2)
    share = (share - share.min()) / max(float(np.ptp(share)), 1e-6)
    rows = first + (second - first) * share[:, None]
    wave = 0.5 + 0.5 * np.sin(noise(grid, rng, scale=0.12) + grid @ rng.normal(0, 40, 2))
    rows = rows + (third - rows) * (wave * rng.uniform(0.2, 0.6))[:, None]
    for _ in range(int(rng.integers(1, 6))):
        away = np.abs(grid - rng.uniform(0, 1, 2)) / rng.uniform(0.08, 0.3, 2)
        inside = (away.max(1) if rng.random() < 0.5 else np.hypot(away[:, 0], away[:, 1])) < 1
        rows[inside] = rows[inside] * 0.4 + colours[rng.integers(len(colours))] * 0.6
    return _clipped(rows)
