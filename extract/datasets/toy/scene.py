"""What a picture is made from: an instance of a category, and a view on it.

Object frame: x forwards, y to the object's own left, z up; the box around the object is centred on the origin and its
farthest corner lies at distance 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int32

from matchkit.core.errors import UnknownNameError
from matchkit.extract.datasets.toy import aeroplane, bird, car, chair, dog
from matchkit.extract.datasets.toy.keypoints import CATEGORIES, KEYPOINT_NAMES
from matchkit.extract.datasets.toy.meshes import Colour, Paint, Parts, Vector, unit

Ground = Literal["meadow", "floor", "street", "sky"]

_BUILDERS: Mapping[str, Callable[[np.random.Generator], tuple[Parts, str, tuple[str, ...]]]] = {
    "aeroplane": aeroplane.build,
    "bird": bird.build,
    "car": car.build,
    "chair": chair.build,
    "dog": dog.build,
}
_TYPICAL: Mapping[str, tuple[Ground, ...]] = {
    "aeroplane": ("sky", "sky", "street"),
    "bird": ("meadow", "sky", "floor"),
    "car": ("street", "street", "meadow"),
    "chair": ("floor", "floor", "meadow"),
    "dog": ("meadow", "floor", "street"),
}
_GROUNDS: tuple[Ground, ...] = ("meadow", "floor", "street", "sky")


@dataclass(frozen=True)
class Instance:
    """One object: its geometry and its paint. Object frame and units as the module says.

    Attributes:
        category: One of `CATEGORIES`.
        seed: What it was drawn from.
        vertices: Corners of the triangles.
        faces: Three vertices a triangle.
        normals: Unit normal at each corner of each triangle, smooth except across creases.
        face_part: The part, an index into `paints`, that a triangle belongs to.
        paints: Colours of the parts.
        keypoints: In the order of `KEYPOINT_NAMES[category]`.
        floor: Height z of the lowest point.
        colour: The word for its main colour.
        traits: Short phrases for a caption, such as "long legs".
    """

    category: str
    seed: int
    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    normals: Float32[np.ndarray, "f 3 3"]
    face_part: Int32[np.ndarray, " f"]
    paints: tuple[Paint, ...]
    keypoints: Float32[np.ndarray, "k 3"]
    floor: float
    colour: str
    traits: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """Camera, light and background of one picture.

    Attributes:
        azimuth: Where the camera stands, degrees in [0, 360): 0 before the object, 90 at its own left, 180 behind it.
        elevation: Height of the camera above the horizon, degrees.
        roll: Turn of the picture, degrees.
        distance: From the object's centre to the camera, object units (its radius is 1).
        span: Longer edge of the object's box as a share of the image edge.
        offset: Where the box lies in the room that is left, right and down, in [-1, 1]; what goes beyond moves
            half the box as much out of the image.
        light: Unit direction towards the light, object frame before the azimuth is applied (it turns with the camera).
        ambient: Light from everywhere, in [0, 1].
        tint: Colour of the lamp.
        ground: What the object stands on, or `sky`: nothing.
        palette: Colours of the background: upper edge, horizon, near ground, far ground.
        texture: Seed of the background's noise.
    """

    azimuth: float
    elevation: float
    roll: float
    distance: float
    span: float
    offset: tuple[float, float]
    light: Vector
    ambient: float
    tint: Colour
    ground: Ground
    palette: tuple[Colour, Colour, Colour, Colour]
    texture: int


def sample_instance(category: str, *, seed: int) -> Instance:
    """Draws an object: the same seed gives the same one.

    Raises:
        UnknownNameError: If the category is not one of `CATEGORIES`.
    """
    if category not in _BUILDERS:
        raise UnknownNameError(f"no toy category is called {category!r}; there are: {', '.join(CATEGORIES)}")
    rng = np.random.default_rng([CATEGORIES.index(category), seed])
    parts, colour, traits = _BUILDERS[category](rng)
    start = np.cumsum([0] + [len(mesh.vertices) for mesh in parts.meshes])
    vertices = np.concatenate([mesh.vertices for mesh in parts.meshes])
    faces = np.concatenate([mesh.faces + first for mesh, first in zip(parts.meshes, start[:-1], strict=True)])
    centre = (vertices.min(0) + vertices.max(0)) / 2
    scale = 1 / float(np.linalg.norm(vertices - centre, axis=1).max())
    vertices = (vertices - centre) * scale
    keypoints = np.stack([parts.keypoints[name] for name in KEYPOINT_NAMES[category]])
    return Instance(
        category=category,
        seed=seed,
        vertices=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        normals=_corner_normals(vertices, faces),
        face_part=np.repeat(np.arange(len(parts.meshes)), [len(mesh.faces) for mesh in parts.meshes]).astype(np.int32),
        paints=tuple(_placed(paint, centre, scale) for paint in parts.paints),
        keypoints=((keypoints - centre) * scale).astype(np.float32),
        floor=float(vertices[:, 2].min()),
        colour=colour,
        traits=traits,
    )


def _placed(paint: Paint, centre: np.ndarray, scale: float) -> Paint:
    x, y, z = (np.asarray(paint.origin) - centre) * scale
    a, b, c = unit(paint.direction)
    return replace(
        paint,
        origin=(float(x), float(y), float(z)),
        direction=(float(a), float(b), float(c)),
        width=paint.width * scale,
    )


def _corner_normals(vertices: np.ndarray, faces: np.ndarray) -> Float32[np.ndarray, "f 3 3"]:
    """Normals averaged over a vertex's triangles, or a triangle's own where that lies more than 50 degrees away."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    weighted = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], weighted)
    flat = weighted / np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-12)
    smooth = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    corners = smooth[faces]
    crease = np.einsum("fci,fi->fc", corners, flat) < np.cos(np.deg2rad(50))
    normals: Float32[np.ndarray, "f 3 3"] = np.where(crease[..., None], flat[:, None], corners).astype(np.float32)
    return normals


def sample_view(*, seed: int, category: str | None = None, azimuth: float | None = None) -> View:
    """Draws a camera, a lamp and a background: the same arguments give the same view.

    Args:
        seed: Any whole number from 0.
        category: Draws the background mostly from what is usual for this category; without it, from all alike.
        azimuth: Degrees; stands the camera there and leaves all else as drawn.
    """
    rng = np.random.default_rng([77, seed])
    drawn = rng.uniform(0, 360)
    usual = _TYPICAL.get(category or "", _GROUNDS)
    ground = usual[int(rng.integers(len(usual)))] if rng.random() < 0.85 else _GROUNDS[int(rng.integers(3))]
    cut = 1.5 if rng.random() < 0.06 else 0.9
    lamp_azimuth, lamp_height = rng.uniform(-100, 100), rng.uniform(35, 70)
    a, e = np.deg2rad(lamp_azimuth), np.deg2rad(lamp_height)
    return View(
        azimuth=float((drawn if azimuth is None else azimuth) % 360),
        elevation=float(rng.triangular(-5, 12, 45)),
        roll=float(rng.normal(0, 2)),
        distance=float(rng.uniform(3.2, 6.0)),
        span=float(rng.uniform(0.62, 0.97)),
        offset=(float(rng.uniform(-cut, cut)), float(rng.uniform(-cut, cut))),
        light=(float(np.cos(e) * np.cos(a)), float(np.cos(e) * np.sin(a)), float(np.sin(e))),
        ambient=float(rng.uniform(0.42, 0.55)),
        tint=_tint(rng),
        ground=ground,
        palette=_palette(ground, rng),
        texture=int(rng.integers(2**31)),
    )


def filmed_by(camera: View, scene: View) -> View:
    """The light and the surroundings of one view, seen by the camera of another."""
    return replace(
        scene,
        azimuth=camera.azimuth,
        elevation=camera.elevation,
        roll=camera.roll,
        distance=camera.distance,
        span=camera.span,
        offset=camera.offset,
    )


def _tint(rng: np.random.Generator) -> Colour:
    warm = rng.uniform(-0.06, 0.06)
    return (1.0 + float(warm), 1.0, 1.0 - float(warm))


def _palette(ground: Ground, rng: np.random.Generator) -> tuple[Colour, Colour, Colour, Colour]:
    """Calm colours: upper edge, horizon, near ground, far ground."""
    bases: Mapping[Ground, tuple[Colour, Colour, Colour]] = {
        "meadow": ((0.58, 0.72, 0.88), (0.82, 0.87, 0.90), (0.45, 0.55, 0.34)),
        "street": ((0.64, 0.72, 0.82), (0.84, 0.86, 0.87), (0.52, 0.52, 0.52)),
        "floor": ((0.78, 0.75, 0.69), (0.72, 0.69, 0.64), (0.60, 0.49, 0.38)),
        "sky": ((0.42, 0.60, 0.85), (0.74, 0.84, 0.93), (0.66, 0.76, 0.86)),
    }
    upper, horizon, near = (np.asarray(colour) for colour in bases[ground])
    if ground == "floor":
        upper = upper + rng.normal(0, 0.05, 3)
        horizon = upper * 0.93
        near = near + rng.normal(0, 0.06) + rng.normal(0, 0.02, 3)
    bright = rng.normal(0, 0.05)
    far = near * 0.55 + horizon * 0.45
    rows = [np.clip(row + bright + rng.normal(0, 0.02, 3), 0.05, 0.97) for row in (upper, horizon, near, far)]
    first, second, third, fourth = [(float(r[0]), float(r[1]), float(r[2])) for r in rows]
    return first, second, third, fourth
