"""A passenger aeroplane, about two units long."""

from dataclasses import replace

import numpy as np

from matchkit.extract.datasets.toy.meshes import Colour, Paint, Parts, ellipsoid, mirrored, moved, tube, wing
from matchkit.extract.datasets.toy.palettes import HULLS, LIVERIES, near, pick, shaded

WINDOW = Paint((0.09, 0.11, 0.15), gloss=0.5)


def build(rng: np.random.Generator) -> tuple[Parts, str, tuple[str, ...]]:
    """An aeroplane's parts, its colour in a word, and what a caption says of it."""
    parts = Parts()
    name, colour = pick(HULLS, rng)
    livery_name, livery = pick(LIVERIES, rng)
    half, radius = rng.uniform(0.85, 1.0), rng.uniform(0.135, 0.175)
    _fuselage(parts, rng, half=half, radius=radius, colour=colour, livery=livery)
    high = bool(rng.random() < 0.3)
    _wings(parts, rng, half=half, radius=radius, z=radius * (0.55 if high else -0.45), colour=colour)
    _tail(parts, rng, half=half, radius=radius, colour=colour, livery=livery)
    article = "an" if livery_name == "orange" else "a"
    return parts, name, (f"{article} {livery_name} tail fin", "high wings" if high else "low wings")


def _fuselage(
    parts: Parts, rng: np.random.Generator, *, half: float, radius: float, colour: Colour, livery: Colour
) -> None:
    """The body with a stripe along it, cockpit windows and a row of cabin windows."""
    x = np.array([-1.0, -0.8, -0.45, 0.0, 0.55, 0.76, 0.9, 0.97]) * half
    size = np.array([0.18, 0.5, 0.9, 1.0, 1.0, 0.88, 0.60, 0.34]) * radius
    z = np.array([0.55, 0.38, 0.10, 0.0, 0.0, -0.04, -0.12, -0.18]) * radius
    hull = Paint(colour, livery, "plain", gloss=0.3)
    kind = rng.integers(3)
    if kind == 0:
        hull = replace(hull, pattern="band", origin=(0, 0, -radius * 0.28), width=radius * 0.16)
    elif kind == 1:
        hull = replace(
            hull,
            pattern="split",
            origin=(0, 0, -radius * 0.4),
            direction=(0, 0, -1.0),
            width=0.03,
            second=shaded(colour, 0.62),
        )
    parts.add(tube(np.stack([x, 0 * x, z], 1), [float(r) for r in size], around=16), hull)
    parts.mark("nose", (half * 0.97 + radius * 0.165, 0.0, -radius * 0.18))
    parts.mark("tail_end", (-half - radius * 0.085, 0.0, radius * 0.55))
    glass = np.array([half * 0.80, 0.0, radius * 0.42])
    parts.add(ellipsoid(glass, (half * 0.085, radius * 0.66, radius * 0.26), around=12, rows=6, pitch=28.0), WINDOW)
    parts.mark("cockpit", moved(glass, (half * 0.03, 0, radius * 0.235)))
    for share in np.linspace(-0.42, 0.55, 8):
        centre = (half * share, radius * 0.955, radius * 0.22)
        parts.add_both(ellipsoid(centre, (0.035, 0.02, 0.032), around=6, rows=4), WINDOW)


def _wings(parts: Parts, rng: np.random.Generator, *, half: float, radius: float, z: float, colour: Colour) -> None:
    """Swept wings and an engine under (or before) each."""
    span, sweep, rise = rng.uniform(0.72, 0.95), rng.uniform(0.12, 0.42), rng.uniform(0.02, 0.12)
    chord, front = rng.uniform(0.40, 0.50), half * rng.uniform(0.22, 0.34)
    side = radius * 0.55
    root = np.array([(front, side, z), (front - chord, side, z)])
    lead = np.array([front - sweep, side + span, z + rise])
    tip = np.stack([lead, lead - (chord * rng.uniform(0.42, 0.55), 0, 0)])
    paint = Paint(
        shaded(colour, 0.82),
        shaded(colour, 0.55),
        "band",
        origin=(0, 0, 0),
        direction=(1.0, 0, 0),
        width=0.0,
        gloss=0.2,
    )
    left = wing(root, tip, thick=(0.105, 0.06), normal=(0, 0, 1.0))
    parts.add_both(left, replace(paint, pattern="plain"))
    parts.mark_both("wing_tip", tip[0] * 0.72 + tip[1] * 0.28 + (0, 0.004, 0.012))
    seen = radius * 0.85
    share = (seen - side) / span
    parts.mark_both("wing_front", root[0] * (1 - share) + lead * share + (0.004, 0.03, 0.0))
    at = rng.uniform(0.30, 0.42)
    mount = root[0] * (1 - at) + lead * at
    size = rng.uniform(0.062, 0.082)
    drop = size * 0.95 + 0.03
    middle = moved(mount, (-0.06, 0, -drop if rng.random() < 0.8 else 0.0))
    path = np.stack([middle - (0.17, 0, 0), middle, moved(middle, (0.14, 0, 0))])
    engine = Paint(near((0.52, 0.54, 0.58), rng), gloss=0.3)
    parts.add_both(tube(path, [size * 0.6, size, size * 0.95], around=12, round_ends=False), engine)
    intake = ellipsoid(moved(middle, (0.14, 0, 0)), (0.012, size * 0.78, size * 0.78), around=12, rows=6)
    parts.add_both(intake, Paint((0.08, 0.08, 0.09)))
    parts.mark_both("engine", moved(middle, (0.150, 0, 0)))


def _tail(
    parts: Parts, rng: np.random.Generator, *, half: float, radius: float, colour: Colour, livery: Colour
) -> None:
    """A coloured fin and two tailplanes."""
    tall, back = rng.uniform(0.34, 0.46), rng.uniform(0.14, 0.26)
    root = np.array([(-half * 0.62, 0.0, radius * 0.55), (-half * 0.97, 0.0, radius * 0.6)])
    top = np.array(
        [(-half * 0.76 - back * 0.6, 0.0, radius * 0.6 + tall), (-half * 0.96 - back * 0.6, 0.0, radius * 0.6 + tall)]
    )
    parts.add(wing(root, top, thick=(0.075, 0.05), normal=(0, 1.0, 0)), Paint(livery, gloss=0.2))
    parts.mark("fin_tip", top[0] * 0.6 + top[1] * 0.4 + (0, 0, 0.002))
    parts.mark("fin_root", (-half * 0.655, 0.0, radius * 0.97))
    span, sweep = rng.uniform(0.28, 0.38), rng.uniform(0.08, 0.2)
    root = np.array([(-half * 0.70, radius * 0.2, radius * 0.42), (-half * 0.95, radius * 0.15, radius * 0.48)])
    lead = root[0] + (-sweep, span, 0.03)
    tip = np.stack([lead, lead - (0.13, 0, 0)])
    plane = wing(root, tip, thick=(0.06, 0.045), normal=(0, 0, 1.0), sections=2)
    paint = Paint(livery if rng.random() < 0.3 else shaded(colour, 0.82), gloss=0.2)
    parts.add(plane, paint)
    parts.add(mirrored(plane), paint)
    parts.mark_both("tailplane_tip", tip[0] * 0.7 + tip[1] * 0.3 + (0, 0.003, 0.008))
