"""Mesh primitives, and the list in which a shape collects them.

Everything here lives in the object frame: x forwards, y to the object's own left, z up, in units of the shape's
designer (about one body length). A part is closed and its triangles face outwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Points = Float[np.ndarray, "... 3"]
Triangles = Int[np.ndarray, "m 3"]
Number = int | float  # at run time an int is no float to beartype
Vector = tuple[Number, Number, Number]
Colour = tuple[float, float, float]
Pattern = Literal["plain", "split", "patches", "stripes", "band"]


@dataclass(frozen=True)
class Paint:
    """How a part is coloured.

    Attributes:
        colour: Main colour, red green blue in [0, 1].
        second: The other colour of a pattern, in [0, 1].
        pattern: `plain`; `split` (second colour on the side of `origin` that `direction` points to); `patches` (blobs);
            `stripes` (across `direction`); `band` (one stripe of half width `width` about `origin`).
        origin: A point of the pattern, object frame.
        direction: Its unit direction, object frame.
        width: Softness, blob size, stripe period or half width, object units.
        gloss: Strength of the highlight in [0, 1].
    """

    colour: Colour
    second: Colour = (0.0, 0.0, 0.0)
    pattern: Pattern = "plain"
    origin: Vector = (0.0, 0.0, 0.0)
    direction: Vector = (0.0, 0.0, 1.0)
    width: float = 0.1
    gloss: float = 0.05


@dataclass(frozen=True)
class Mesh:
    """Vertices (object frame, designer's units) and the triangles over them."""

    vertices: Points
    faces: Triangles

    def outward(self) -> "Mesh":
        """The same mesh with triangles that face outwards, told from the sign of its volume."""
        a, b, c = (self.vertices[self.faces[:, i]] - self.vertices.mean(0) for i in range(3))
        volume = np.einsum("ij,ij->", a, np.cross(b, c))
        return self if volume >= 0 else replace(self, faces=self.faces[:, ::-1])


@dataclass
class Parts:
    """The parts of a shape in the making: meshes with their paint, and named keypoints."""

    meshes: list[Mesh] = field(default_factory=list)
    paints: list[Paint] = field(default_factory=list)
    keypoints: dict[str, Points] = field(default_factory=dict)

    def add(self, mesh: Mesh, paint: Paint) -> None:
        """Adds one closed part."""
        self.meshes.append(mesh.outward())
        self.paints.append(paint)

    def add_both(self, mesh: Mesh, paint: Paint) -> None:
        """Adds a left part and its mirror image on the right."""
        self.add(mesh, paint)
        self.add(mirrored(mesh), paint)

    def mark(self, name: str, point: Points | Vector) -> None:
        """Names a point of the surface, object frame."""
        self.keypoints[name] = np.asarray(point, float)

    def mark_both(self, name: str, point: Points | Vector) -> None:
        """Names a point on the left, `left_<name>`, and its mirror image, `right_<name>`."""
        left = np.asarray(point, float)
        self.mark(f"left_{name}", left)
        self.mark(f"right_{name}", left * (1, -1, 1))


def mirrored(mesh: Mesh) -> Mesh:
    """The mirror image across the plane y = 0."""
    return Mesh(mesh.vertices * (1, -1, 1), mesh.faces)


def as_vector(point: Points) -> Vector:
    """The point as a plain tuple, as `Paint` keeps it."""
    return (float(point[0]), float(point[1]), float(point[2]))


def unit(vector: Points | Vector) -> Points:
    """The vector at length 1."""
    array = np.asarray(vector, float)
    scaled: Points = array / np.linalg.norm(array, axis=-1, keepdims=True)
    return scaled


def moved(point: Points, by: Vector) -> Points:
    """The point shifted by (x, y, z)."""
    shifted: Points = point + np.asarray(by, float)
    return shifted


def turned(points: Points | Vector, *, about: Points | Vector, axis: Vector, degrees: float) -> Points:
    """Points turned about an axis through a point, right-handed, in degrees."""
    k, angle = unit(axis), np.deg2rad(degrees)
    x = np.asarray(points, float) - np.asarray(about, float)
    dot = (x @ k)[..., None] * k
    result: Points = np.asarray(about, float) + dot + np.cos(angle) * (x - dot) + np.sin(angle) * np.cross(k, x)
    return result


def loft(rings: Float[np.ndarray, "r n 3"]) -> Mesh:
    """A closed skin over a row of rings of as many points each; both ends are capped by a fan."""
    count, around = rings.shape[:2]
    vertices = np.concatenate([rings.reshape(-1, 3), rings[:1].mean(1), rings[-1:].mean(1)])
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(count - 1), np.arange(around), indexing="ij"))
    a, b = i * around + j, i * around + (j + 1) % around
    sides = np.concatenate([np.stack([a, b, b + around], 1), np.stack([a, b + around, a + around], 1)])
    j = np.arange(around)
    last = (count - 1) * around
    first_cap = np.stack([np.full(around, count * around), (j + 1) % around, j], 1)
    last_cap = np.stack([np.full(around, count * around + 1), last + j, last + (j + 1) % around], 1)
    return Mesh(vertices, np.concatenate([sides, first_cap, last_cap]).astype(np.int64))


def tube(
    path: Points | Sequence[Vector],
    radii: Sequence[Number | tuple[Number, Number]],
    *,
    around: int = 10,
    round_ends: bool = True,
) -> Mesh:
    """A tube along a path; a radius is one number, or (sideways, upwards).

    Sideways is y made square to the path, so tubes keep their left and right.
    """
    centres = np.asarray(path, float)
    radius = np.array([r if isinstance(r, tuple) else (r, r) for r in radii], float)
    tangents = unit(np.gradient(centres, axis=0))
    if round_ends:
        ends = [centres[0] - tangents[0] * radius[0].mean() * 0.5, centres[-1] + tangents[-1] * radius[-1].mean() * 0.5]
        centres = np.concatenate([ends[:1], centres, ends[1:]])
        radius = np.concatenate([radius[:1] * 0.6, radius, radius[-1:] * 0.6])
        tangents = np.concatenate([tangents[:1], tangents, tangents[-1:]])
    helper = np.array([0.0, 1.0, 0.0]) if abs(tangents[:, 1]).mean() < 0.8 else np.array([1.0, 0.0, 0.0])
    sideways = unit(helper - (tangents @ helper)[:, None] * tangents)
    upwards = np.cross(tangents, sideways)
    angle = np.arange(around) * 2 * np.pi / around
    rings = (
        centres[:, None]
        + np.cos(angle)[:, None] * (sideways * radius[:, :1])[:, None]
        + np.sin(angle)[:, None] * (upwards * radius[:, 1:])[:, None]
    )
    return loft(rings)


def ellipsoid(centre: Points | Vector, radii: Vector, *, around: int = 12, rows: int = 8, pitch: float = 0.0) -> Mesh:
    """An ellipsoid with its axes along x, y, z, then pitched about y by `pitch` degrees (positive: front down)."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[1:-1]
    angle = np.arange(around) * 2 * np.pi / around
    ring = np.stack(
        [
            np.cos(latitude)[:, None] * np.cos(angle),
            np.cos(latitude)[:, None] * np.sin(angle),
            np.repeat(np.sin(latitude)[:, None], around, 1),
        ],
        -1,
    )
    mesh = loft(ring)
    mesh.vertices[-2:] = [(0, 0, -1), (0, 0, 1)]
    points = mesh.vertices * np.asarray(radii) + np.asarray(centre, float)
    return Mesh(turned(points, about=centre, axis=(0, 1, 0), degrees=pitch), mesh.faces)


def box(low: Vector, high: Vector, *, top: tuple[float, float] = (1.0, 1.0), shear: float = 0.0) -> Mesh:
    """A box between two corners; its top is scaled by `top` in x and y about its middle and moved by `shear` in x."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    square = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
    middle = square.mean(0)
    upper = middle + (square - middle) * top + (shear, 0)
    return loft(np.stack([np.c_[square, np.full(4, z0)], np.c_[upper, np.full(4, z1)]]))


def wing(root: Points, tip: Points, *, thick: tuple[float, float], normal: Vector, sections: int = 3) -> Mesh:
    """A tapering blade between two chords (leading and trailing point each), `thick` at root and tip along `normal`.

    `sections` is the number of cross sections, root and tip included: more give a smoother shade.
    """
    along = np.array([0.0, 0.12, 0.4, 0.75, 1.0, 0.75, 0.4, 0.12])
    height = np.array([0.0, 0.35, 0.5, 0.3, 0.0, -0.3, -0.5, -0.35])
    rings = []
    for share in np.linspace(0, 1, sections):
        lead, trail = np.asarray(root) * (1 - share) + np.asarray(tip) * share
        depth = thick[0] * (1 - share) + thick[1] * share
        rings.append(lead + along[:, None] * (trail - lead) + height[:, None] * depth * unit(normal))
    return loft(np.stack(rings))


def disc(centre: Vector, radius: float, *, width: float, around: int = 18) -> Mesh:
    """A wheel: a flat cylinder whose axis is y; `width` is its whole width."""
    x, y, z = centre
    half = width / 2
    path = [(x, y - half, z), (x, y - half * 0.7, z), (x, y + half * 0.7, z), (x, y + half, z)]
    return tube(path, [radius * 0.9, radius, radius, radius * 0.9], around=around, round_ends=False)
