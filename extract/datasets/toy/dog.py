"""A dog: a parametric quadruped, about one unit long."""

from dataclasses import replace

import numpy as np

from matchkit.extract.datasets.toy.meshes import (
    Colour,
    Paint,
    Parts,
    Points,
    as_vector,
    ellipsoid,
    mirrored,
    moved,
    tube,
    turned,
)
from matchkit.extract.datasets.toy.palettes import COATS, mixed, near, pick, shaded

DARK: Colour = (0.06, 0.05, 0.05)


def build(rng: np.random.Generator) -> tuple[Parts, str, tuple[str, ...]]:
    """A dog's parts, its colour in a word, and what a caption says of it."""
    parts = Parts()
    name, colour = pick(COATS, rng)
    coat, ears, second, said = _coat(name, colour, rng)
    leg = rng.uniform(0.30, 0.58)
    half = rng.uniform(0.36, 0.50)
    girth = rng.uniform(0.135, 0.19)
    _torso(parts, half=half, girth=girth, height=leg, paint=coat)
    for at, front in ((half * 0.78, True), (-half * 0.82, False)):
        _legs(parts, at=at, front=front, girth=girth, height=leg, paint=coat, paw=Paint(second), rng=rng)
    tail_word = _tail(parts, rng, root=np.array([-half - girth * 0.55, 0.0, leg + girth * 0.62]), coat=coat)
    _head(parts, rng, chest=np.array([half, 0.0, leg + girth * 0.55]), girth=girth, coat=coat, ears=ears, muzzle=second)
    parts.mark("withers", (half * 0.62, 0.0, leg + girth * 1.2))
    legs_word = "long legs" if leg > 0.47 else "short legs" if leg < 0.38 else ""
    return parts, name, tuple(word for word in (legs_word, said, tail_word) if word)


def _coat(name: str, colour: Colour, rng: np.random.Generator) -> tuple[Paint, Paint, Colour, str]:
    """Paint of the body and of the ears, the colour of muzzle and paws, and the caption's word for them."""
    light = near((0.90, 0.86, 0.78), rng)
    darker = shaded(colour, rng.uniform(0.35, 0.55))
    dark = name == "black"
    ears = Paint(mixed(colour, (0.45, 0.28, 0.16), 0.7) if dark else darker)
    muzzle = mixed(colour, (0.62, 0.42, 0.24), 0.8) if dark else (light if rng.random() < 0.4 else darker)
    body = Paint(colour)
    if rng.random() < 0.35:
        return (
            Paint(colour, light if name != "white" else (0.35, 0.24, 0.17), "patches", width=0.33),
            ears,
            muzzle,
            "patches",
        )
    if rng.random() < 0.5:
        below = light if not dark else (0.55, 0.38, 0.22)
        body = Paint(colour, below, "split", direction=(0.25, 0, -0.97), width=0.05)
        return body, ears, muzzle, "a light belly" if not dark else "a brown belly"
    return body, ears, muzzle, "brown ears" if dark else "dark ears"


def _torso(parts: Parts, *, half: float, girth: float, height: float, paint: Paint) -> None:
    z = height + girth * 0.1
    if paint.pattern == "split":
        paint = replace(paint, origin=(0.0, 0.0, z - girth * 0.45))
    path = [
        (-half, 0, z + 0.02),
        (-half * 0.55, 0, z + 0.02),
        (0, 0, z + 0.015),
        (half * 0.55, 0, z),
        (half, 0, z + 0.03),
    ]
    radii = [girth * 0.85, girth * 0.98, girth * 0.92, girth * 1.12, girth * 0.95]
    parts.add(tube(path, [(r * 0.9, r) for r in radii], around=14), paint)


def _legs(
    parts: Parts,
    *,
    at: float,
    front: bool,
    girth: float,
    height: float,
    paint: Paint,
    paw: Paint,
    rng: np.random.Generator,
) -> None:
    """A front or hind pair; a hind leg has its hock behind."""
    thick = rng.uniform(0.042, 0.062)
    foot = 0.035
    for side in (1, -1):
        swing = rng.uniform(-0.09, 0.09)
        y = girth * 0.62
        bend = 0.03 if front else -0.075
        path: Points = np.array(
            [
                (at, y, height + girth * 0.15),
                (at - (0.02 if front else -0.05), y, height * 0.62),
                (at + bend * 0.8 + swing * 0.5, y, height * 0.36 if front else height * 0.40),
                (at + swing + (0.0 if front else -0.03), y, foot),
            ]
        ) * (1, side, 1)
        thigh = thick * (1.7 if front else 2.1)
        parts.add(
            tube(path, [thigh, thick * 1.3, thick * 0.95, thick * 0.85], around=8), replace(paint, pattern="plain")
        )
        end = path[-1] + (0.03, 0, 0.005)
        parts.add(ellipsoid(end, (thick * 1.55, thick * 1.15, 0.042), around=8, rows=5), paw)
        name = "left" if side == 1 else "right"
        parts.mark(f"{name}_{'front' if front else 'hind'}_paw", moved(end, (thick * 1.2, 0, 0.012)))
        if front:
            parts.mark(f"{name}_front_knee", path[2] + (thick * 0.9, 0, 0))


def _tail(parts: Parts, rng: np.random.Generator, *, root: Points, coat: Paint) -> str:
    """A tail that hangs, stands or curls; its tip is darker."""
    length = rng.uniform(0.22, 0.48)
    lift, curl = rng.uniform(-50, 65), rng.uniform(-20, 75)
    points, angle = [moved(root, (0.05, 0, -0.02))], np.deg2rad(180 - lift)
    sway = rng.uniform(-0.25, 0.25)
    for _ in range(4):
        step = np.array([np.cos(angle), sway * 0.5, np.sin(angle)])
        points.append(points[-1] + step * length / 4)
        angle -= np.deg2rad(curl / 3)
    thick = rng.uniform(0.026, 0.042)
    end, along = as_vector(points[3]), as_vector(points[4] - points[3])
    tip = Paint(coat.colour, shaded(coat.colour, 0.5), "split", origin=end, direction=along, width=0.05)
    parts.add(tube(np.array(points), [thick * 1.3, thick * 1.2, thick, thick * 0.85, thick * 0.55], around=8), tip)
    upper = np.array([np.sin(np.deg2rad(180 - lift)), 0.0, -np.cos(np.deg2rad(180 - lift))])
    parts.mark("tail_root", points[0] * 0.4 + points[1] * 0.6 + upper * thick * 1.2)
    parts.mark("tail_tip", points[-1] + (points[-1] - points[-2]) * 0.1)
    return "a long tail" if length > 0.38 else "a short tail" if length < 0.28 else ""


def _head(
    parts: Parts,
    rng: np.random.Generator,
    *,
    chest: Points,
    girth: float,
    coat: Paint,
    ears: Paint,
    muzzle: Colour,
) -> None:
    """Neck, head, muzzle, eyes and ears; the whole head is turned sideways by up to 25 degrees."""
    size = rng.uniform(0.125, 0.16)
    neck = rng.uniform(0.13, 0.27)
    centre = moved(chest, (neck * 0.72, 0, neck + 0.05))
    plain = replace(coat, pattern="plain")
    parts.add(
        tube(
            np.array([chest - (0.07, 0, 0.04), (chest + centre) / 2, centre]), [girth * 0.85, size * 0.82, size * 0.75]
        ),
        plain,
    )
    head = Parts()
    head.add(ellipsoid(centre, (size * 1.1, size * 0.95, size), around=14, rows=9), plain)
    long = rng.uniform(0.12, 0.23)
    start = moved(centre, (size * 0.5, 0, -size * 0.25))
    end = moved(start, (size * 0.35 + long, 0, -0.03))
    head.add(
        tube(np.array([start, (start + end) / 2, end]), [size * 0.66, size * 0.52, size * 0.40], around=10),
        Paint(muzzle),
    )
    nose = moved(end, (size * 0.16, 0, size * 0.24))
    head.add(ellipsoid(nose, (size * 0.22, size * 0.24, size * 0.2), around=8, rows=6), Paint(DARK, gloss=0.5))
    head.mark("nose", moved(nose, (size * 0.2, 0, 0.0)))
    eye = moved(centre, (size * 0.84, size * 0.48, size * 0.42))
    head.add_both(ellipsoid(eye, (size * 0.2,) * 3, around=8, rows=6), Paint(DARK, gloss=0.6))
    head.mark_both("eye", eye + np.array([0.16, 0.09, 0.08]) * size)
    _ears(head, rng, centre=centre, size=size, paint=ears)
    yaw = rng.uniform(-25, 25)
    for mesh, paint in zip(head.meshes, head.paints, strict=True):
        mesh.vertices[:] = turned(mesh.vertices, about=centre, axis=(0, 0, 1), degrees=yaw)
        parts.add(mesh, paint)
    for name, point in head.keypoints.items():
        parts.mark(name, turned(point, about=centre, axis=(0, 0, 1), degrees=yaw))


def _ears(head: Parts, rng: np.random.Generator, *, centre: Points, size: float, paint: Paint) -> None:
    """Standing or hanging ears."""
    long = rng.uniform(0.9, 1.35) * size
    if rng.random() < 0.5:
        base, tip = (
            moved(centre, (-size * 0.1, size * 0.55, size * 0.55)),
            moved(centre, (-size * 0.15, size * 0.85, size * 0.6 + long)),
        )
        radii = [(size * 0.40, size * 0.24), (size * 0.36, size * 0.2), (size * 0.1, size * 0.08)]
    else:
        base, tip = (
            moved(centre, (-size * 0.05, size * 0.72, size * 0.62)),
            moved(centre, (0.0, size * 1.28, size * 0.45 - long)),
        )
        radii = [(size * 0.26, size * 0.18), (size * 0.36, size * 0.44), (size * 0.14, size * 0.24)]
    left = tube(np.array([base, base * 0.45 + tip * 0.55, tip]), radii, around=8)
    head.add(left, paint)
    head.add(mirrored(left), paint)
    head.mark_both("ear_tip", tip + (tip - base) * 0.02)
