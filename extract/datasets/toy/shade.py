"""Colours of surface points: patterns of paint, then light."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from matchkit.extract.datasets.toy.backdrop import noise
from matchkit.extract.datasets.toy.meshes import Paint, Pattern
from matchkit.extract.datasets.toy.palettes import GARISH, pick
from matchkit.extract.datasets.toy.scene import Instance, View

_LOUD: tuple[Pattern, ...] = ("plain", "stripes", "patches")


@dataclass(frozen=True)
class Surface:
    """What rays hit: `hit` over all rays; of the n that did, triangle, place on it, point, unit normal and ray.

    A place is the weights of the triangle's second and third corner; all else is in the object frame.
    """

    hit: Bool[np.ndarray, " r"]
    face: Int[np.ndarray, " n"]
    place: Float32[np.ndarray, "n 2"]
    points: Float32[np.ndarray, "n 3"]
    normals: Float32[np.ndarray, "n 3"]
    rays: Float32[np.ndarray, "n 3"]


@dataclass(frozen=True)
class Skin:
    """Colour in [0, 1] and strength of the highlight of surface points."""

    colour: Float32[np.ndarray, "n 3"]
    gloss: Float32[np.ndarray, " n"]


def dress(instance: Instance, seen: Surface) -> Skin:
    """The paint of the points seen, unlit, with a faint grain."""
    part = instance.face_part[seen.face]
    paints = instance.paints
    first = np.array([paint.colour for paint in paints], np.float32)[part]
    second = np.array([paint.second for paint in paints], np.float32)[part]
    share = np.zeros(len(part), np.float32)
    for index, paint in enumerate(paints):
        if paint.pattern != "plain":
            inside = np.flatnonzero(part == index)
            share[inside] = _pattern(paint, seen.points[inside], seed=instance.seed)
    colour = first + (second - first) * share[:, None]
    grain = noise(seen.points, np.random.default_rng(instance.seed), scale=0.05, waves=3) * 0.012
    return Skin(colour + grain[:, None], np.array([paint.gloss for paint in paints], np.float32)[part])


def _pattern(paint: Paint, points: Float32[np.ndarray, "n 3"], *, seed: int) -> Float[np.ndarray, " n"]:
    """The share of the second colour at points of one part."""
    along = (points - np.asarray(paint.origin, np.float32)) @ np.asarray(paint.direction, np.float32)
    width = max(paint.width, 1e-4)
    if paint.pattern == "split":
        share = along / width
    elif paint.pattern == "band":
        share = (width - np.abs(along)) / 0.012
    elif paint.pattern == "stripes":
        share = np.sin(along * np.float32(2 * np.pi / width)) * 3
    else:
        share = (noise(points, np.random.default_rng(seed), scale=width * 0.8) - 0.6) * 4
    return np.clip(share + 0.5, 0, 1)


def shade(
    skin: Skin, seen: Surface, view: View, *, lamp: Float32[np.ndarray, " 3"], lit: Bool[np.ndarray, " n"]
) -> Float32[np.ndarray, "n 3"]:
    """Lambert's law and a Phong highlight under one lamp, over light from the sky."""
    above = 0.82 + 0.18 * seen.normals[:, 2:]
    diffuse = np.clip(seen.normals @ lamp, 0, 1) * lit
    product = seen.rays * seen.normals
    against = product[:, 0] + product[:, 1] + product[:, 2]
    mirrored = seen.rays - 2 * against[:, None] * seen.normals
    highlight = np.clip(mirrored @ lamp, 0, 1) ** 24 * skin.gloss * lit
    tint = np.asarray(view.tint, np.float32)
    light = np.float32(view.ambient) * above + np.float32(1.12 - view.ambient) * diffuse[:, None] * tint
    colour: Float32[np.ndarray, "n 3"] = (skin.colour * light + highlight[:, None]).astype(np.float32)
    return colour


def loud(instance: Instance) -> Instance:
    """The instance in random colours and textures, and the name of its new main colour; drawn from its seed."""
    rng = np.random.default_rng([5, instance.seed])
    name, main = pick(GARISH, rng)
    biggest = int(np.bincount(instance.face_part).argmax())
    body = instance.paints[biggest].colour
    paints = []
    for paint in instance.paints:
        colour = main if paint.colour == body else pick(GARISH, rng)[1]
        pattern = _LOUD[int(rng.integers(3))]
        second, width = pick(GARISH, rng)[1], float(rng.uniform(0.08, 0.3))
        paints.append(replace(paint, colour=colour, second=second, pattern=pattern, width=width))
    return replace(instance, paints=tuple(paints), colour=name, traits=())
