"""The toy categories and their keypoints. Left and right are the object's own."""

from collections.abc import Mapping

CATEGORIES: tuple[str, ...] = ("aeroplane", "bird", "car", "chair", "dog")
"""In alphabetical order; category `CATEGORIES[i]` is the value i + 1 of a segmentation mask."""


def _pair(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


KEYPOINT_NAMES: Mapping[str, tuple[str, ...]] = {
    "aeroplane": (
        "nose", "cockpit", *_pair("wing_tip", "wing_front", "engine", "tailplane_tip"),
        "fin_root", "fin_tip", "tail_end",
    ),
    "bird": ("beak_tip", "crown", *_pair("eye", "wing_tip", "shoulder", "foot"), "breast", "back", "tail_tip"),
    "car": _pair("headlight", "taillight", "front_wheel", "rear_wheel", "front_roof", "rear_roof", "mirror"),
    "chair": (
        *_pair("back_top", "seat_front", "seat_rear", "front_foot", "rear_foot"),
        "back_top_middle", "seat_front_middle",
    ),
    "dog": (
        "nose", *_pair("eye", "ear_tip", "front_knee", "front_paw", "hind_paw"), "withers", "tail_root", "tail_tip",
    ),
}  # fmt: skip
"""The names of a category's keypoints; the position is the keypoint's id in the annotations."""

SPLIT_NAMES: tuple[str, ...] = ("trn", "val", "test")
"""SPair-71k's own names of its splits."""


def partner(name: str) -> str:
    """The keypoint's name on the other side; a keypoint of the middle is its own partner."""
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


FLIP: Mapping[str, tuple[int, ...]] = {
    category: tuple(names.index(partner(name)) for name in names) for category, names in KEYPOINT_NAMES.items()
}
"""After a mirrored image, keypoint i of the annotation is keypoint `FLIP[category][i]` of the object."""

GROUPS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    category: tuple(sorted({tuple(sorted({i, j})) for i, j in enumerate(flip)})) for category, flip in FLIP.items()
}
"""Keypoints that only geometry tells apart: every left and right pair, and a keypoint of the middle by itself."""
