"""A car: hatchback, saloon or van, about two units long."""

import numpy as np

from matchkit.extract.datasets.toy.meshes import Colour, Mesh, Paint, Parts, disc, ellipsoid, loft, moved, tube
from matchkit.extract.datasets.toy.palettes import CAR_COLOURS, near, pick, shaded

GLASS = Paint((0.10, 0.13, 0.17), gloss=0.5)
TYRE = Paint((0.07, 0.07, 0.07))


def build(rng: np.random.Generator) -> tuple[Parts, str, tuple[str, ...]]:
    """A car's parts, its colour in a word, and what a caption says of it."""
    parts = Parts()
    name, colour = pick(CAR_COLOURS, rng)
    kind = ("saloon", "hatchback", "van")[int(rng.integers(3))]
    half, side = rng.uniform(0.92, 1.1), rng.uniform(0.38, 0.45)
    wheel = rng.uniform(0.165, 0.205)
    floor, belt = wheel * 0.75, wheel * 0.75 + rng.uniform(0.30, 0.38)
    hood = belt - rng.uniform(0.02, 0.09)
    _body(parts, half=half, side=side, floor=floor, belt=belt, hood=hood, colour=colour)
    tall = rng.uniform(0.27, 0.36) if kind != "van" else rng.uniform(0.36, 0.46)
    front_low = half * {"saloon": 0.42, "hatchback": 0.45, "van": 0.62}[kind]
    rear_low = -half * {"saloon": 0.72, "hatchback": 0.92, "van": 0.96}[kind]
    front_high = front_low - {"saloon": 0.34, "hatchback": 0.32, "van": 0.26}[kind] * rng.uniform(0.85, 1.15)
    rear_high = rear_low + {"saloon": 0.30, "hatchback": 0.17, "van": 0.05}[kind]
    roof = near((0.90, 0.90, 0.90), rng) if rng.random() < 0.2 else colour
    _cabin(
        parts,
        low=(rear_low, front_low),
        high=(rear_high, front_high),
        side=side,
        belt=belt,
        top=belt + tall,
        colour=colour,
        roof=roof,
    )
    _wheels(parts, half=half, side=side, radius=wheel, hub=near((0.68, 0.69, 0.71), rng))
    _lights(parts, half=half, side=side, floor=floor, belt=belt, hood=hood)
    y = side + 0.055
    mirror = np.array([front_low - 0.06, y, belt + 0.055])
    parts.add_both(ellipsoid(mirror, (0.045, 0.06, 0.045), around=8, rows=6), Paint(shaded(colour, 0.8)))
    parts.mark_both("mirror", moved(mirror, (0.0, 0.05, 0.01)))
    traits = ("dark windows", {"saloon": "a long boot", "hatchback": "a short back", "van": "a tall roof"}[kind])
    return parts, name, traits


def _section(x: float, *, side: float, low: float, high: float) -> np.ndarray:
    """One rounded rectangle across the car at x, 12 points."""
    cut = min(0.09, (high - low) * 0.3)
    inner = side - cut * 0.8
    right = [
        (inner, low),
        (side, low + cut * 0.6),
        (side, (low + high) / 2),
        (side * 0.985, high - cut),
        (inner, high),
        (inner * 0.4, high + 0.012),
    ]
    ring = right + [(-y, z) for y, z in reversed(right)]
    return np.array([(x, y, z) for y, z in ring])


def _body(parts: Parts, *, half: float, side: float, floor: float, belt: float, hood: float, colour: Colour) -> None:
    """The lower body; its sills are dark."""
    rings = [
        _section(-half, side=side * 0.86, low=floor + 0.08, high=belt - 0.07),
        _section(-half + 0.05, side=side * 0.96, low=floor + 0.01, high=belt - 0.02),
        _section(-half + 0.25, side=side, low=floor, high=belt),
        _section(half * 0.35, side=side, low=floor, high=belt),
        _section(half * 0.5, side=side, low=floor, high=(belt + hood) / 2),
        _section(half - 0.20, side=side * 0.98, low=floor, high=hood - 0.01),
        _section(half - 0.05, side=side * 0.92, low=floor + 0.01, high=hood - 0.05),
        _section(half, side=side * 0.82, low=floor + 0.07, high=hood - 0.11),
    ]
    paint = Paint(
        colour, (0.13, 0.13, 0.14), "split", origin=(0, 0, floor + 0.06), direction=(0, 0, -1.0), width=0.02, gloss=0.35
    )
    parts.add(loft(np.stack(rings)), paint)


def _frustum(
    low: tuple[float, float], high: tuple[float, float], *, y: tuple[float, float], z: tuple[float, float]
) -> Mesh:
    """A block that tapers upwards: x range below and above, half width below and above, z range."""
    rings = [
        [(x1, half, height), (x0, half, height), (x0, -half, height), (x1, -half, height)]
        for (x0, x1), half, height in zip((low, high), y, z, strict=True)
    ]
    return loft(np.array(rings))


def _cabin(
    parts: Parts,
    *,
    low: tuple[float, float],
    high: tuple[float, float],
    side: float,
    belt: float,
    top: float,
    colour: Colour,
    roof: Colour,
) -> None:
    """Windows, pillars and roof."""
    lower, upper = side * 0.93, side * 0.76
    parts.add(_frustum(low, high, y=(lower, upper), z=(belt - 0.02, top)), GLASS)
    pillar = Paint(colour, gloss=0.35)
    for below, above in ((low[0], high[0]), (low[1], high[1]), (sum(low) / 2 - 0.03, sum(high) / 2 - 0.03)):
        path = np.array([(below, lower - 0.01, belt - 0.03), (above, upper - 0.005, top)])
        parts.add_both(tube(path, [0.034, 0.03], around=6, round_ends=False), pillar)
    slab = _frustum(
        (high[0] - 0.03, high[1] + 0.03),
        (high[0] + 0.03, high[1] - 0.04),
        y=(upper + 0.022, upper - 0.04),
        z=(top - 0.02, top + 0.045),
    )
    parts.add(slab, Paint(roof, gloss=0.35))
    parts.mark_both("front_roof", (high[1] + 0.012, upper + 0.004, top + 0.005))
    parts.mark_both("rear_roof", (high[0] - 0.012, upper + 0.004, top + 0.005))


def _wheels(parts: Parts, *, half: float, side: float, radius: float, hub: Colour) -> None:
    for name, x in (("front_wheel", half * 0.62), ("rear_wheel", -half * 0.60)):
        parts.add_both(disc((x, side - 0.045, radius * 1.02), radius * 1.2, width=0.105), Paint((0.11, 0.11, 0.12)))
        parts.add_both(disc((x, side - 0.02, radius), radius, width=0.13), TYRE)
        parts.add_both(disc((x, side - 0.01, radius), radius * 0.58, width=0.13), Paint(hub, gloss=0.3))
        parts.mark_both(name, (x, side + 0.056, radius))


def _lights(parts: Parts, *, half: float, side: float, floor: float, belt: float, hood: float) -> None:
    """Yellowish lamps ahead with a dark grille between, red ones behind, and bumpers."""
    lamp = np.array([half - 0.035, side * 0.66, hood - 0.13])
    parts.add_both(ellipsoid(lamp, (0.07, 0.085, 0.062), around=10, rows=6), Paint((1.0, 0.93, 0.62), gloss=0.5))
    parts.mark_both("headlight", moved(lamp, (0.066, 0.008, 0.008)))
    grille = np.array([half - 0.01, 0.0, hood - 0.14])
    parts.add(ellipsoid(grille, (0.04, side * 0.36, 0.045), around=10, rows=6), Paint((0.10, 0.10, 0.11)))
    tail = np.array([-half + 0.03, side * 0.74, belt - 0.14])
    parts.add_both(ellipsoid(tail, (0.065, 0.075, 0.07), around=10, rows=6), Paint((0.80, 0.05, 0.05), gloss=0.4))
    parts.mark_both("taillight", moved(tail, (-0.06, 0.01, 0.01)))
    for x, width in ((half - 0.02, side * 0.84), (-half + 0.02, side * 0.86)):
        path = np.array(
            [(x, -width, floor + 0.075), (x + np.sign(x) * 0.03, 0, floor + 0.075), (x, width, floor + 0.075)]
        )
        parts.add(tube(path, [0.05, 0.05, 0.05], around=6), Paint((0.30, 0.31, 0.32)))
