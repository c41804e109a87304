"""Renders an instance under a view by ray casting, with all that is known about every pixel.

Needs embreex: `pip install 'matchkit[toy]'`.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.toy import backdrop
from matchkit.extract.datasets.toy.camera import Camera, lengths, place_camera
from matchkit.extract.datasets.toy.caption import describe
from matchkit.extract.datasets.toy.scene import Instance, View
from matchkit.extract.datasets.toy.shade import Surface, dress, loud, shade

Style = Literal["calm", "hard"]
Cast = Callable[..., Any]
REACH: float = 0.035
"""A keypoint counts as seen if nothing lies nearer to the camera than this much before it, object units."""


@dataclass(frozen=True)
class Rendering:
    """A picture and its truth. Image frame: (x, y), pixel centres at integers; arrays are (row, column).

    Attributes:
        image: Red green blue, 0 to 255.
        mask: Where the pixel's centre sees the object.
        surface: The point of the object that the pixel's centre sees, object frame (see `scene`); NaN elsewhere.
        face: The triangle that the pixel's centre sees, -1 where none.
        place: Where on it: the weights of its second and third corner.
        depth: From the camera to that point, object units; infinite elsewhere.
        keypoints: Image frame, in the order of `KEYPOINT_NAMES`, the hidden ones too.
        visible: Whether a keypoint lies in the image and nothing hides it.
        box: xmin, ymin, xmax, ymax of the mask, in pixels, all inside.
        azimuth_id: `round(azimuth / 45) % 8`: 0 frontal, 1 to 3 the object's own left side, 4 rear, 5 to 7 its right.
        caption: A prompt in English.
    """

    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    surface: Float32[np.ndarray, "h w 3"]
    face: Int32[np.ndarray, "h w"]
    place: Float32[np.ndarray, "h w 2"]
    depth: Float32[np.ndarray, "h w"]
    keypoints: Float32[np.ndarray, "k 2"]
    visible: Bool[np.ndarray, " k"]
    box: Float32[np.ndarray, " 4"]
    azimuth_id: int
    caption: str


def render(instance: Instance, view: View, *, size: int = 128, style: Style = "calm") -> Rendering:
    """Renders one picture of `size` x `size` pixels.

    Args:
        instance: The object.
        view: Camera, light, background.
        size: Edge of the image in pixels.
        style: `calm` as described, or `hard`: loud backgrounds, random colours and textures.

    Raises:
        DatasetError: If embreex is not installed.
    """
    if style == "hard":
        instance = loud(instance)
    run = _caster(instance)
    camera = place_camera(instance, view, size=size)
    pixels, columns, rows = _window(instance, camera, size=size)
    centre = _trace(run, instance, camera, pixels)
    mask = np.zeros((size, size), bool)
    mask[rows, columns] = centre.hit
    seen = rows[centre.hit], columns[centre.hit]
    surface = np.full((size, size, 3), np.nan, np.float32)
    surface[seen] = centre.points
    face, place = np.full((size, size), -1, np.int32), np.zeros((size, size, 2), np.float32)
    face[seen], place[seen] = centre.face, centre.place
    depth = np.full((size, size), np.inf, np.float32)
    depth[seen] = lengths(centre.points - camera.position)[:, 0]
    image = _background(run, instance, view, camera=camera, size=size, style=style)
    image[rows, columns] = _antialiased(run, instance, view, camera=camera, pixels=pixels, behind=image[rows, columns])
    keypoints = camera.project(instance.keypoints.astype(float))
    azimuth_id = round(view.azimuth / 45) % 8
    return Rendering(
        image=(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8),
        mask=mask,
        surface=surface,
        face=face,
        place=place,
        depth=depth,
        keypoints=keypoints.astype(np.float32),
        visible=_visible(run, instance, camera, keypoints=keypoints, size=size),
        box=_box(mask),
        azimuth_id=azimuth_id,
        caption=describe(instance, azimuth_id=azimuth_id, elevation=view.elevation),
    )


def require_embreex() -> tuple[ModuleType, ModuleType]:
    """Embreex's modules of scenes and of meshes, imported only now.

    Raises:
        DatasetError: If embreex is not installed.
    """
    try:
        scenes = importlib.import_module("embreex.rtcore_scene")
        meshes = importlib.import_module("embreex.mesh_construction")
    except ImportError as error:
        raise DatasetError(
            "the toy dataset is rendered with embreex, which is missing. Run: pip install 'matchkit[toy]'"
        ) from error
    return scenes, meshes


def _caster(instance: Instance) -> Cast:
    """A function that casts rays on the instance: embreex's `EmbreeScene.run`."""
    scenes, meshes = require_embreex()
    scene = scenes.EmbreeScene()
    meshes.TriangleMesh(scene, instance.vertices, instance.faces)
    return cast("Cast", scene.run)


def _window(
    instance: Instance, camera: Camera, *, size: int
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The pixels that may see the object: their centres (x, y), columns and rows."""
    flat = camera.project(instance.vertices.astype(float))
    low = np.clip(np.floor(flat.min(0)).astype(int), 0, size - 1)
    high = np.clip(np.ceil(flat.max(0)).astype(int), 0, size - 1)
    rows, columns = (grid.ravel() for grid in np.mgrid[low[1] : high[1] + 1, low[0] : high[0] + 1])
    return np.stack([columns, rows], 1).astype(float), columns, rows


def _trace(run: Cast, instance: Instance, camera: Camera, pixels: Float[np.ndarray, "n 2"]) -> Surface:
    rays = camera.directions(pixels)
    origins = np.broadcast_to(camera.position.astype(np.float32), rays.shape)
    found = run(np.ascontiguousarray(origins), rays, output=1)
    hit = found["primID"] >= 0
    face = found["primID"][hit]
    u, v = found["u"][hit, None], found["v"][hit, None]
    w = 1 - u - v
    corners, turned = instance.faces[face], instance.normals[face]
    points = (
        instance.vertices[corners[:, 0]] * w
        + instance.vertices[corners[:, 1]] * u
        + instance.vertices[corners[:, 2]] * v
    )
    normals = turned[:, 0] * w + turned[:, 1] * u + turned[:, 2] * v
    normals /= np.maximum(lengths(normals), 1e-9)
    place = np.concatenate([u, v], 1).astype(np.float32)
    return Surface(hit=hit, face=face, place=place, points=points, normals=normals, rays=rays[hit])


def _to_light(view: View) -> Float32[np.ndarray, " 3"]:
    """Direction towards the lamp, object frame: the lamp turns with the camera, so that pictures are rarely dark."""
    x, y, z = view.light
    angle = np.deg2rad(view.azimuth)
    return np.array([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, z], np.float32)


def _lit(run: Cast, points: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"]:
    """Whether nothing stands between the points and the lamp."""
    found = run(points.astype(np.float32), np.ascontiguousarray(directions, np.float32), query="OCCLUDED")
    return np.asarray(found) < 0


def _antialiased(
    run: Cast,
    instance: Instance,
    view: View,
    *,
    camera: Camera,
    pixels: Float[np.ndarray, "n 2"],
    behind: Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, "n 3"]:
    """Colours of the window's pixels, the mean of 2 x 2 samples each, over the background `behind`."""
    quarter = np.array([(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)])
    seen = _trace(run, instance, camera, (pixels[:, None] + quarter).reshape(-1, 2))
    lamp = _to_light(view)
    facing = seen.normals @ lamp > 0
    lit = np.zeros(len(seen.points), bool)
    towards = np.broadcast_to(lamp, (int(facing.sum()), 3))
    lit[facing] = _lit(run, seen.points[facing] + seen.normals[facing] * 0.012, towards)
    samples = np.repeat(behind.astype(np.float32), 4, axis=0)
    samples[seen.hit] = shade(dress(instance, seen), seen, view, lamp=lamp, lit=lit)
    mean: Float32[np.ndarray, "n 3"] = np.clip(samples, 0, 1).reshape(-1, 4, 3).mean(1)
    return mean


def _background(
    run: Cast, instance: Instance, view: View, *, camera: Camera, size: int, style: Style
) -> Float[np.ndarray, "h w 3"]:
    """The picture without the object, but with its soft shadow on the ground."""
    y, x = np.mgrid[:size, :size].reshape(2, -1)
    rays = camera.directions(np.stack([x, y], 1).astype(float))
    colours = (
        backdrop.hard(view, size=size)
        if style == "hard"
        else backdrop.calm(view, camera, rays=rays, floor=instance.floor, size=size)
    )
    if view.ground == "sky":
        return colours.reshape(size, size, 3)
    points, distance = backdrop.ground_points(camera, rays, floor=instance.floor)
    near = np.isfinite(distance) & (np.abs(points[:, :2]).max(1) < 3.5)
    jitter = np.random.default_rng(view.texture).normal(0, 0.07, (len(points), 3))
    shadow = np.zeros(len(points), np.float32)
    if near.any():
        shadow[near] = ~_lit(run, points[near] + (0, 0, 0.004), (_to_light(view) + jitter)[near])
    soft = _blurred(shadow.reshape(size, size))
    return colours.reshape(size, size, 3) * (1 - 0.42 * soft[..., None])


def _blurred(values: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Smoothed along both axes with the weights 1 4 6 4 1, twice."""
    weights = np.array([1, 4, 6, 4, 1], np.float32) / 16
    for axis in (0, 1, 0, 1):
        padded = np.pad(values, [(2, 2) if axis == i else (0, 0) for i in (0, 1)], mode="edge")
        length = values.shape[axis]
        shifted = (np.take(padded, range(k, k + length), axis) * weights[k] for k in range(5))
        values = np.sum(list(shifted), axis=0)
    return values


def _visible(
    run: Cast, instance: Instance, camera: Camera, *, keypoints: Float[np.ndarray, "k 2"], size: int
) -> Bool[np.ndarray, " k"]:
    """Keypoints inside the image with nothing more than `REACH` before them."""
    away = instance.keypoints - camera.position
    distance = np.linalg.norm(away, axis=1)
    origins = np.broadcast_to(camera.position, away.shape).astype(np.float32)
    rays = (away / distance[:, None]).astype(np.float32)
    first: Float32[np.ndarray, " k"] = np.asarray(run(np.ascontiguousarray(origins), rays, query="DISTANCE"))
    inside = ((keypoints > -0.5) & (keypoints < size - 0.5)).all(1)
    seen: Bool[np.ndarray, " k"] = inside & (first > distance - REACH)
    return seen


def _box(mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, " 4"]:
    """First and last column and row of the mask; the whole image for an empty one."""
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return np.array([0, 0, mask.shape[1] - 1, mask.shape[0] - 1], np.float32)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float32)
