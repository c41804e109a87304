"""What is known of two pictures together: which point is which, and one object's pose in the other's paint.

Objects of a category are built of the same meshes in the same order. Where a mesh has as many triangles in both, a
place on a triangle of one is the same place on that triangle of the other: that is the truth, exactly. A bird's wings
differ when one pair is spread and the other folded; for these there is none.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.toy.camera import place_camera
from matchkit.extract.datasets.toy.part_names import LABEL_OF_MESH
from matchkit.extract.datasets.toy.render import REACH, Rendering, render
from matchkit.extract.datasets.toy.scene import Instance, View, filmed_by

JUMP: float = 0.06
"""Object units (an object's radius is 1) by which the depths of two neighbouring pixels differ at an edge."""
FAR: float = 100.0
"""Object units: stands for the depth of the background."""


@dataclass(frozen=True)
class Shot:
    """An object, the view on it, and the picture that they make."""

    instance: Instance
    view: View
    rendering: Rendering


def shoot(instance: Instance, view: View, *, size: int) -> Shot:
    """Takes a picture of `size` x `size` pixels."""
    return Shot(instance, view, render(instance, view, size=size))


def part_labels(shot: Shot) -> UInt8[np.ndarray, "h w"]:
    """The label in `CLASSES` of the part that each pixel sees, 0 where none."""
    face = shot.rendering.face
    labels = np.asarray(LABEL_OF_MESH[shot.instance.category], np.uint8)[shot.instance.face_part[face]]
    return np.where(face >= 0, labels, 0).astype(np.uint8)


def depth_edges(rendering: Rendering) -> Bool[np.ndarray, "h w"]:
    """The outlines of all that stands before something else: of two neighbours at an edge, the nearer pixel."""
    depth = np.where(np.isfinite(rendering.depth), rendering.depth, FAR)
    below, right = np.diff(depth, axis=0), np.diff(depth, axis=1)
    edges = np.zeros(depth.shape, bool)
    edges[:-1] |= below > JUMP
    edges[1:] |= below < -JUMP
    edges[:, :-1] |= right > JUMP
    edges[:, 1:] |= right < -JUMP
    return edges


def correspondences(target: Shot, exemplar: Shot) -> Float32[np.ndarray, "h w 2"]:
    """Where the exemplar shows the point of the object that each pixel of the target sees.

    As (x, y) in the exemplar's image frame; NaN where the target sees no object, or the exemplar does not show the
    point, or there is no truth.

    Raises:
        DatasetError: the objects are of two categories.
    """
    if target.instance.category != exemplar.instance.category:
        raise DatasetError(f"a {target.instance.category} and a {exemplar.instance.category} have no point in common")
    found = np.full((*target.rendering.face.shape, 2), np.nan, np.float32)
    rows, columns = np.nonzero(target.rendering.face >= 0)
    face = _counterparts(target.instance, exemplar.instance)[target.rendering.face[rows, columns]]
    known = face >= 0
    rows, columns, face = rows[known], columns[known], face[known]
    points = _points(exemplar.instance, face, target.rendering.place[rows, columns])
    camera = place_camera(exemplar.instance, exemplar.view, size=len(exemplar.rendering.face))
    flat = camera.project(points.astype(float))
    shown = _shown(exemplar.rendering, flat, np.linalg.norm(points - camera.position, axis=1))
    found[rows[shown], columns[shown]] = flat[shown]
    return found


def dressed(target: Shot, exemplar: Shot) -> Rendering:
    """The target's object from the target's camera, in the exemplar's paint, light and surroundings.

    Raises:
        DatasetError: the objects are of two categories.
    """
    ours, theirs = target.instance, exemplar.instance
    if ours.category != theirs.category:
        raise DatasetError(f"a {ours.category} does not wear the paint of a {theirs.category}")
    painted = replace(ours, paints=theirs.paints, seed=theirs.seed, colour=theirs.colour)
    return render(painted, filmed_by(target.view, exemplar.view), size=len(target.rendering.face))


def _counterparts(ours: Instance, theirs: Instance) -> Int[np.ndarray, " f"]:
    """For each of our triangles theirs, -1 where their mesh has another number of them."""
    meshes = len(ours.paints)
    count, other = (np.bincount(instance.face_part, minlength=meshes) for instance in (ours, theirs))
    start, other_start = (np.concatenate([[0], np.cumsum(sizes)[:-1]]) for sizes in (count, other))
    same = np.asarray(count == other)[ours.face_part]
    shifted = np.arange(len(ours.faces)) + (other_start - start)[ours.face_part]
    return np.where(same, shifted, -1)


def _points(
    instance: Instance, face: Int[np.ndarray, " n"], place: Float32[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 3"]:
    """Points on triangles, object frame."""
    corners = instance.vertices[instance.faces[face]]
    weights = np.concatenate([1 - place.sum(1, keepdims=True), place], 1)
    points: Float[np.ndarray, "n 3"] = np.einsum("nk,nkd->nd", weights, corners)
    return points


def _shown(
    rendering: Rendering, flat: Float[np.ndarray, "n 2"], distance: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Whether points at image points and distances from the camera are in the picture and nothing hides them.

    The nearest of the four pixels around a point counts, so that one on an outline is not lost to the background.
    """
    size = len(rendering.depth)
    inside = np.asarray(((flat > -0.5) & (flat < size - 0.5)).all(1))
    low = np.clip(np.floor(np.where(inside[:, None], flat, 0)).astype(int), 0, size - 1)
    high = np.minimum(low + 1, size - 1)
    around = [rendering.depth[y[:, 1], x[:, 0]] for y in (low, high) for x in (low, high)]
    away = np.abs(np.stack(around) - distance).min(0)
    return np.asarray(inside & (away < REACH))
