"""Matchings by name, as publications and their code have them: a matcher, the rule of keypoints, a pose alignment.

`matchkit match --set preset=NAME` takes one, or `preset: NAME` in the section `match` of params.yaml, whose other keys
override it. A preset says nothing of the features and the head that it is meant for.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from matchkit.core.presets import Presets

ALIGNMENTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "paper": {"poses": ["hflip", "rot90", "rot270"], "pooling": "sum", "mask_target": False},
        "code": {"poses": ["hflip"], "masked_out": "far", "alignment_grid": 64, "mask_sampling": "corner"},
        "source-001": {
            "poses": ["hflip", "rot90", "rot270"],
            "neighbour": "dot",
            "power": "squared",
            "mask_target": False,
        },
    }
)
"""Parameters over the defaults: the published formula, the released code, and source document 001 (GeoAware-SC §9).

The document tests every pose under the unposed mask; here each pose has its own.
"""
GEOAWARE: dict[str, Any] = {
    "matcher": "window-soft-argmax",
    "window": 7,
    "temperature": 0.02,
    "query": "cell",
    "outside": "zero",
    "points": "patch",
}
"""GeoAware-SC §4.2 and §4.3: a trained head, in a window of 15 x 15 cells."""
TOLD: dict[str, tuple[str, dict[str, Any]]] = {
    "geoaware-paper": (
        "Telling Left from Right after training, with nothing outside the window",
        GEOAWARE | {"outside": "nothing"},
    ),
    "geoaware-code": ("Telling Left from Right after training, as its code does it", GEOAWARE),
    "geoaware-zero-shot": (
        "Telling Left from Right without training, with its code's pose alignment",
        GEOAWARE | {"window": 5, **ALIGNMENTS["code"]},
    ),
    "source-001": (
        "source document 001: its temperature and its pose alignment",
        {
            **{"matcher": "window-soft-argmax", "window": 7, "temperature": 1.0, "query": "cell"},
            **{"outside": "nothing", **ALIGNMENTS["source-001"]},
        },
    ),
    "sd4match": (
        "SD4Match's test",
        {
            **{"matcher": "kernel-soft-argmax", "sigma": 7.0, "temperature": 0.04, "query": "sampled"},
            "points": "align-corners",
        },
    ),
    "sd-dino": (
        "A Tale of Two Features: the nearest cell",
        # a window of one cell with nothing outside is its peak, whatever the temperature
        GEOAWARE | {"window": 0, "outside": "nothing"},
    ),
}
"""What each is, and its parameters."""

PRESETS = Presets("match", "matcher", TOLD)
