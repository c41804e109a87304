"""A bird that stands or flies, about one unit long."""

from dataclasses import dataclass, replace

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
    unit,
    wing,
)
from matchkit.extract.datasets.toy.palettes import BELLIES, FEATHERS, near, pick, shaded

LEFT: Points = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class _Body:
    """Where the body is: its centre, its own unit directions ahead and upwards, half its length and its girth."""

    centre: Points
    ahead: Points
    upper: Points
    length: float
    girth: float

    def at(self, along: float, up: float, aside: float) -> Points:
        """A point given in half lengths ahead, girths upwards and girths to the left."""
        ahead, upper = self.ahead * self.length * along, self.upper * self.girth * up
        return np.asarray(self.centre + ahead + upper + LEFT * self.girth * aside)


def build(rng: np.random.Generator) -> tuple[Parts, str, tuple[str, ...]]:
    """A bird's parts, its colour in a word, and what a caption says of it."""
    parts = Parts()
    name, colour = pick(FEATHERS, rng)
    belly_name, belly = pick(BELLIES, rng)
    length, girth = rng.uniform(0.30, 0.38), rng.uniform(0.19, 0.25)
    pitch = rng.uniform(-38, -12)
    leg = rng.uniform(0.18, 0.34)
    tilt = np.deg2rad(-pitch)
    ahead, upper = np.array([np.cos(tilt), 0.0, np.sin(tilt)]), np.array([-np.sin(tilt), 0.0, np.cos(tilt)])
    body = _Body(np.array([0.0, 0.0, leg + girth * 0.8]), ahead, upper, length, girth)
    _torso(parts, body, pitch=pitch, colour=colour, belly=belly)
    _head(parts, rng, neck=body.at(0.78, 0.3, 0.0), colour=colour, throat=belly)
    _tail(parts, rng, root=body.at(-0.8, 0.0, 0.0), ahead=ahead, colour=shaded(colour, 0.6))
    if rng.random() < 0.4:
        _spread_wings(parts, rng, body=body, colour=colour)
        pose = "spread wings"
    else:
        _folded_wings(parts, body=body, colour=colour)
        pose = "folded wings"
    _feet(parts, rng, centre=body.centre, girth=girth)
    return parts, name, (f"a {belly_name} belly" if belly_name != "orange" else "an orange belly", pose)


def _torso(parts: Parts, body: _Body, *, pitch: float, colour: Colour, belly: Colour) -> None:
    """The body with a belly of another colour."""
    down = unit(0.45 * body.ahead - 0.9 * body.upper)
    origin = as_vector(body.centre + down * body.girth * 0.25)
    feathers = Paint(colour, belly, "split", origin=origin, direction=as_vector(down), width=0.05)
    radii = (body.length, body.girth * 0.92, body.girth)
    parts.add(ellipsoid(body.centre, radii, around=16, rows=12, pitch=pitch), feathers)
    parts.mark("breast", body.at(0.80, -0.60, 0.0))
    parts.mark("back", body.at(0.0, 1.0, 0.0))


def _head(
    parts: Parts,
    rng: np.random.Generator,
    *,
    neck: Points,
    colour: Colour,
    throat: Colour,
) -> None:
    """Head with a throat of the belly's colour, beak, eyes."""
    size = rng.uniform(0.125, 0.16)
    centre = moved(neck, (size * 0.35, 0, size * 0.75))
    paint = Paint(
        shaded(colour, 0.85),
        throat,
        "split",
        origin=as_vector(centre - (0, 0, size * 0.35)),
        direction=(0, 0, -1.0),
        width=0.04,
    )
    parts.add(
        tube(np.array([neck - (0.05, 0, 0.05), centre]), [size * 1.15, size * 0.9], around=12),
        replace(paint, second=throat),
    )
    parts.add(ellipsoid(centre, (size * 1.05, size * 0.95, size), around=14, rows=9), paint)
    parts.mark("crown", moved(centre, (0, 0, size)))
    long = rng.uniform(0.10, 0.22)
    start = moved(centre, (size * 0.8, 0, -size * 0.1))
    tip = moved(start, (size * 0.2 + long, 0, -0.02))
    orange = near((0.93, 0.58, 0.12), rng)
    parts.add(
        tube(np.array([start, start * 0.5 + tip * 0.5, tip]), [size * 0.42, size * 0.28, size * 0.07], around=8),
        Paint(orange, gloss=0.2),
    )
    parts.mark("beak_tip", moved(tip, (0.003, 0, 0)))
    eye = centre + np.array([0.55, 0.68, 0.32]) * size
    parts.add_both(ellipsoid(eye, (size * 0.27,) * 3, around=8, rows=6), Paint((0.95, 0.93, 0.85)))
    pupil = centre + np.array([0.62, 0.80, 0.36]) * size
    parts.add_both(ellipsoid(pupil, (size * 0.2,) * 3, around=8, rows=6), Paint((0.05, 0.05, 0.05), gloss=0.6))
    parts.mark_both("eye", pupil + np.array([0.10, 0.15, 0.06]) * size)


def _tail(parts: Parts, rng: np.random.Generator, *, root: Points, ahead: Points, colour: Colour) -> None:
    """A flat tail, narrower at the root."""
    long, broad = rng.uniform(0.26, 0.46), rng.uniform(0.09, 0.15)
    drop = np.array([0, 0, rng.uniform(-0.08, 0.10)])
    tip = root - ahead * long + drop
    path = np.array([root + ahead * 0.1, root, root * 0.4 + tip * 0.6, tip])
    parts.add(
        tube(path, [(0.10, 0.08), (broad * 0.75, 0.05), (broad, 0.032), (broad * 0.9, 0.02)], around=10), Paint(colour)
    )
    parts.mark("tail_tip", tip - ahead * (broad * 0.9 + 0.02) / 4 + (0, 0, 0.008))


def _spread_wings(parts: Parts, rng: np.random.Generator, *, body: _Body, colour: Colour) -> None:
    """Wings held out sideways; the far half is darker."""
    ahead, upper = body.ahead, body.upper
    shoulder = body.at(0.42, 0.35, 0.72)
    up, span, chord = rng.uniform(-0.10, 0.30), rng.uniform(0.48, 0.66), body.length * rng.uniform(0.65, 0.85)
    tip = shoulder + LEFT * span + upper * up - ahead * 0.16
    root = np.stack([shoulder - LEFT * 0.06 + ahead * 0.04, shoulder - LEFT * 0.06 - ahead * chord])
    end = np.stack([tip + ahead * 0.05, tip - ahead * chord * 0.45])
    half = as_vector(shoulder + LEFT * span * 0.5)
    paint = Paint(colour, shaded(colour, 0.55), "split", origin=half, direction=(0.0, 1.0, 0.0), width=0.08)
    left = wing(root, end, thick=(0.085, 0.045), normal=as_vector(upper))
    parts.add(left, paint)
    other = replace(paint, origin=(half[0], -half[1], half[2]), direction=(0.0, -1.0, 0.0))
    parts.add(mirrored(left), other)
    parts.mark_both("wing_tip", tip + ahead * 0.02 + LEFT * 0.004)
    parts.mark_both("shoulder", shoulder + ahead * 0.035 + LEFT * 0.03)


def _folded_wings(parts: Parts, *, body: _Body, colour: Colour) -> None:
    """Wings along the flanks; the rear is darker."""
    shoulder, middle, girth = body.at(0.42, 0.35, 0.72), body.at(-0.25, 0.28, 0.93), body.girth
    front, rear = shoulder + body.ahead * 0.05, body.at(-1.12, 0.12, 0.62)
    path = np.stack([front, shoulder - body.ahead * body.length * 0.15 + LEFT * girth * 0.1, middle, rear])
    radii = [(0.03, 0.07), (0.05, girth * 0.5), (0.045, girth * 0.5), (0.02, 0.035)]
    paint = Paint(shaded(colour, 0.75), shaded(colour, 0.55), "split", origin=as_vector(middle))
    paint = replace(paint, direction=as_vector(-body.ahead), width=0.12)
    parts.add_both(tube(path, radii, around=10), paint)
    parts.mark_both("wing_tip", rear - body.ahead * 0.008 + LEFT * 0.014)
    parts.mark_both("shoulder", shoulder + body.ahead * 0.03 + LEFT * 0.045)


def _feet(parts: Parts, rng: np.random.Generator, *, centre: Points, girth: float) -> None:
    """Legs, each with three toes."""
    orange = Paint(near((0.92, 0.60, 0.15), rng))
    y, thick = girth * 0.48, 0.022
    for side in (1, -1):
        x = centre[0] - 0.02 + rng.uniform(-0.06, 0.06)
        top, foot = np.array([centre[0] - 0.02, y * side, centre[2] - girth * 0.6]), np.array([x, y * side, 0.02])
        parts.add(
            tube(np.stack([top, (top + foot) / 2 - (0.015, 0, 0), foot]), [thick * 1.6, thick, thick], around=7), orange
        )
        for aside in (-0.045, 0.0, 0.045):
            toe = moved(foot, (0.11 - abs(aside) * 0.4, aside, -0.003))
            parts.add(tube(np.stack([foot, toe]), [thick, thick * 0.7], around=6), orange)
        parts.mark(f"{'left' if side == 1 else 'right'}_foot", moved(foot, (0.012, 0, 0.024)))
