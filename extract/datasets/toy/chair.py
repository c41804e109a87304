"""A chair of wood with a seat of wood or fabric, about one unit high."""

from dataclasses import dataclass

import numpy as np

from matchkit.extract.datasets.toy.meshes import Paint, Parts, Points, box, moved, tube
from matchkit.extract.datasets.toy.palettes import FABRICS, WOODS, pick


@dataclass(frozen=True)
class _Frame:
    """Measures of a chair: half width and half depth of the seat, its height, and the line of the back."""

    wide: float
    deep: float
    seat: float
    back: float
    lean: float

    def at(self, share: float, y: float) -> Points:
        """A point of the back, `share` of the way from the seat (0) to the top (1)."""
        return np.array([-self.deep + 0.02 - self.lean * share, y, self.seat + self.back * share])


def build(rng: np.random.Generator) -> tuple[Parts, str, tuple[str, ...]]:
    """A chair's parts, its colour in a word, and what a caption says of it."""
    parts = Parts()
    name, colour = pick(WOODS, rng)
    wood = Paint(colour, gloss=0.1)
    frame = _Frame(
        wide=rng.uniform(0.22, 0.29), deep=rng.uniform(0.21, 0.27), seat=rng.uniform(0.38, 0.50),
        back=rng.uniform(0.42, 0.62), lean=rng.uniform(0.02, 0.14),
    )  # fmt: skip
    fabric_name, fabric = pick(FABRICS, rng)
    soft = rng.random() < 0.7
    cushion = Paint(fabric) if soft else Paint(colour, gloss=0.1)
    thick = rng.uniform(0.05, 0.09) if soft else 0.045
    _seat(parts, frame, cushion=cushion, wood=wood, thick=thick)
    _legs(parts, rng, frame=frame, wood=wood)
    back_word = _back(parts, rng, frame=frame, wood=wood, cushion=cushion)
    arms = _arms(parts, frame, wood) if rng.random() < 0.3 else ""
    seat_word = f"a {fabric_name} seat" if soft else f"a {name} seat"
    colour_word = {"light": "light brown", "dark": "dark brown"}.get(name, name)
    seat_word = seat_word.replace(f"a {name} seat", f"a {colour_word} seat") if not soft else seat_word
    return parts, colour_word, tuple(word for word in (seat_word, back_word, arms) if word)


def _seat(parts: Parts, frame: _Frame, *, cushion: Paint, wood: Paint, thick: float) -> None:
    x, y, z = frame.deep, frame.wide, frame.seat
    parts.add(box((-x, -y, z - 0.05), (x, y, z)), wood)
    parts.add(box((-x + 0.01, -y + 0.008, z - 0.001), (x + 0.012, y - 0.008, z + thick), top=(0.93, 0.93)), cushion)
    parts.mark_both("seat_front", (x * 0.955, y * 0.915, z + thick))
    parts.mark("seat_front_middle", (x * 0.965, 0.0, z + thick))
    parts.mark_both("seat_rear", (-x + 0.035, y - 0.004, z + 0.02))


def _legs(parts: Parts, rng: np.random.Generator, *, frame: _Frame, wood: Paint) -> None:
    thick, splay = rng.uniform(0.026, 0.038), rng.uniform(0.0, 0.07)
    for name, x, outward in (("front_foot", frame.deep - 0.03, 1.0), ("rear_foot", -frame.deep + 0.03, -1.0)):
        foot = np.array([x + outward * splay, frame.wide - 0.03 + splay * 0.6, 0.012])
        path = np.array([(x, frame.wide - 0.03, frame.seat - 0.02), foot])
        parts.add_both(tube(path, [thick, thick * 0.8], around=8), wood)
        parts.mark_both(name, moved(foot, (outward * thick * 0.3, thick * 0.5, thick * 0.2)))
    if rng.random() < 0.5:
        z = frame.seat * 0.45
        path = np.array(
            [
                (frame.deep - 0.03 + splay * 0.5, frame.wide - 0.02, z),
                (-frame.deep + 0.03 - splay * 0.5, frame.wide - 0.02, z),
            ]
        )
        parts.add_both(tube(path, [thick * 0.6] * 2, around=6), wood)


def _back(parts: Parts, rng: np.random.Generator, *, frame: _Frame, wood: Paint, cushion: Paint) -> str:
    """Two posts and between them slats, spindles or a panel."""
    y = frame.wide - 0.03
    posts = np.stack([frame.at(-0.05, y), frame.at(0.5, y), frame.at(1.0, y)])
    parts.add_both(tube(posts, [0.034, 0.032, 0.032], around=8), wood)
    parts.mark_both("back_top", moved(frame.at(1.0, y), (0, 0.012, 0.022)))
    parts.mark("back_top_middle", frame.at(0.95 + 0.04 / frame.back, 0.0))  # the upper edge of the top rail
    kind = ("slats", "bars", "panel")[int(rng.integers(3))]
    _rail(parts, frame, share=0.95, tall=0.04, paint=wood)
    if kind == "slats":
        for share in np.linspace(0.28, 0.72, int(rng.integers(2, 4))):
            _rail(parts, frame, share=float(share), tall=0.045, paint=wood)
    elif kind == "bars":
        _rail(parts, frame, share=0.18, tall=0.03, paint=wood)
        for aside in np.linspace(-y * 0.6, y * 0.6, int(rng.integers(3, 6))):
            parts.add(tube(np.stack([frame.at(0.15, aside), frame.at(0.95, aside)]), [0.017] * 2, around=6), wood)
    else:
        _rail(parts, frame, share=0.56, tall=frame.back * 0.36, paint=cushion, thick=0.028)
    return {"slats": "a slatted back", "bars": "a barred back", "panel": "a solid back"}[kind]


def _rail(parts: Parts, frame: _Frame, *, share: float, tall: float, paint: Paint, thick: float = 0.02) -> None:
    """A board across the back, `tall` in half height (object units)."""
    centre, y = frame.at(share, 0.0), frame.wide - 0.04
    slope = -frame.lean / frame.back
    low = (centre[0] - thick - slope * tall, -y, centre[2] - tall)
    high = (centre[0] + thick - slope * tall, y, centre[2] + tall)
    parts.add(box(low, high, shear=2 * slope * tall), paint)


def _arms(parts: Parts, frame: _Frame, wood: Paint) -> str:
    y, top = frame.wide - 0.005, frame.seat + 0.22
    back = frame.at(0.22 / frame.back, y)
    front = np.array([frame.deep - 0.05, y + 0.01, top])
    parts.add_both(tube(np.stack([moved(back, (0, 0, top - back[2])), front]), [(0.032, 0.02)] * 2, around=8), wood)
    parts.add_both(tube(np.stack([front, front - (0.0, 0.02, 0.25)]), [0.022] * 2, around=8), wood)
    return "arms"
