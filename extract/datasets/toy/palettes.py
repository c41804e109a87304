"""Named colours that belong to a category, as red green blue in [0, 1]."""

from collections.abc import Mapping

import numpy as np

from matchkit.extract.datasets.toy.meshes import Colour

COATS: Mapping[str, Colour] = {
    "brown": (0.47, 0.29, 0.16),
    "golden": (0.78, 0.57, 0.30),
    "cream": (0.88, 0.79, 0.63),
    "white": (0.90, 0.88, 0.85),
    "grey": (0.50, 0.49, 0.49),
    "black": (0.17, 0.16, 0.16),
}
CAR_COLOURS: Mapping[str, Colour] = {
    "red": (0.74, 0.10, 0.10),
    "blue": (0.13, 0.27, 0.62),
    "white": (0.90, 0.90, 0.90),
    "silver": (0.66, 0.68, 0.70),
    "green": (0.12, 0.40, 0.24),
    "yellow": (0.90, 0.72, 0.15),
    "orange": (0.86, 0.43, 0.12),
}
WOODS: Mapping[str, Colour] = {
    "brown": (0.48, 0.30, 0.17),
    "light": (0.76, 0.58, 0.37),
    "dark": (0.27, 0.17, 0.11),
    "white": (0.88, 0.87, 0.84),
}
FABRICS: Mapping[str, Colour] = {
    "red": (0.66, 0.20, 0.18),
    "blue": (0.24, 0.36, 0.60),
    "green": (0.33, 0.48, 0.31),
    "grey": (0.56, 0.57, 0.58),
    "cream": (0.85, 0.79, 0.66),
}
HULLS: Mapping[str, Colour] = {"white": (0.93, 0.93, 0.94), "grey": (0.70, 0.72, 0.75), "cream": (0.90, 0.87, 0.79)}
LIVERIES: Mapping[str, Colour] = {
    "red": (0.76, 0.13, 0.14),
    "blue": (0.14, 0.28, 0.66),
    "green": (0.13, 0.48, 0.32),
    "orange": (0.91, 0.50, 0.13),
}
FEATHERS: Mapping[str, Colour] = {
    "brown": (0.45, 0.31, 0.20),
    "blue": (0.25, 0.42, 0.68),
    "grey": (0.47, 0.49, 0.53),
    "black": (0.16, 0.16, 0.19),
    "green": (0.36, 0.50, 0.22),
    "red": (0.68, 0.22, 0.17),
}
BELLIES: Mapping[str, Colour] = {
    "white": (0.92, 0.90, 0.86),
    "cream": (0.90, 0.80, 0.60),
    "orange": (0.88, 0.56, 0.28),
    "yellow": (0.92, 0.80, 0.34),
}
GARISH: Mapping[str, Colour] = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.10),
    "yellow": (0.90, 0.85, 0.15),
    "green": (0.15, 0.75, 0.20),
    "blue": (0.15, 0.25, 0.85),
    "purple": (0.60, 0.15, 0.75),
    "pink": (0.95, 0.45, 0.70),
    "brown": (0.50, 0.30, 0.15),
    "grey": (0.50, 0.50, 0.50),
    "white": (0.95, 0.95, 0.95),
    "black": (0.10, 0.10, 0.10),
}


def pick(palette: Mapping[str, Colour], rng: np.random.Generator) -> tuple[str, Colour]:
    """A colour of the palette, a little off its nominal value, and its name."""
    name = list(palette)[int(rng.integers(len(palette)))]
    return name, near(palette[name], rng)


def near(colour: Colour, rng: np.random.Generator) -> Colour:
    """A colour close to the given one: lighter or darker by up to 12 %, each channel off by about 0.02."""
    shifted = np.clip(np.asarray(colour) * rng.uniform(0.88, 1.12) + rng.normal(0, 0.015, 3), 0.02, 0.98)
    return (float(shifted[0]), float(shifted[1]), float(shifted[2]))


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour and the rest of the first."""
    r, g, b = ((1 - share) * x + share * y for x, y in zip(first, second, strict=True))
    return (r, g, b)


def shaded(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or lighter, clipped to [0, 1]."""
    r, g, b = (min(max(x * factor, 0.0), 1.0) for x in colour)
    return (r, g, b)
