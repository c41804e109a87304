"""The toy categories and their keypoints. Left and right are the object's own."""

from collections.abc import Mapping

from matchkit.core.keypoints import KeypointScheme

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

_ALIKE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "car": (("front_wheel", "rear_wheel"), ("front_roof", "rear_roof")),
    "chair": (("seat_front", "seat_rear"), ("front_foot", "rear_foot")),
    "dog": (("front_paw", "hind_paw"),),
}
"""Parts of one kind in front and behind."""


def _scheme(category: str) -> KeypointScheme:
    ids = {name: str(number) for number, name in enumerate(KEYPOINT_NAMES[category])}
    pairs = {name.removeprefix("left_"): _pair(name.removeprefix("left_")) for name in ids if name.startswith("left_")}
    alike = _ALIKE.get(category, ())
    alone = tuple((part,) for part in pairs if not any(part in parts for parts in alike))
    return KeypointScheme(
        flips=tuple((ids[left], ids[right]) for left, right in pairs.values()),
        groups=tuple(tuple(ids[name] for part in parts for name in pairs[part]) for parts in (*alike, *alone)),
    )


SCHEMES: Mapping[str, KeypointScheme] = {category: _scheme(category) for category in CATEGORIES}
"""By the keypoints' ids. A group is the left and the right of a part, or all four of one kind: as GeoAware-SC §3.4."""
