"""What the meshes of a toy object are parts of. Left and right are the object's own.

A chair's parts differ from chair to chair (slats, bars, a panel; arms or none), so chairs have no names here.
"""

from collections.abc import Mapping

BACKGROUND = "background"


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


def _legs(at: str) -> tuple[str, ...]:
    """A leg and its paw, the left one and the right one."""
    return (f"left_{at}_leg",) * 2 + (f"right_{at}_leg",) * 2


PART_OF_MESH: Mapping[str, tuple[str, ...]] = {
    "aeroplane": (
        *("fuselage", "cockpit"), *("fuselage",) * 16, *_both("wing"), *_both("engine") * 2, "fin", *_both("tailplane"),
    ),
    "bird": (
        *("torso", "head", "head", "beak"), *("head",) * 4, "tail", *_both("wing"),
        *("left_foot",) * 4, *("right_foot",) * 4,
    ),
    "car": (
        *("body", "windows"), *("windows",) * 6, "roof", *_both("front_wheel") * 3, *_both("rear_wheel") * 3,
        *_both("headlight"), "grille", *_both("taillight"), "front_bumper", "rear_bumper", *_both("mirror"),
    ),
    "dog": (
        "torso", *_legs("front"), *_legs("hind"), "tail", "neck", "head", "muzzle", "muzzle", "head", "head",
        *_both("ear"),
    ),
}  # fmt: skip
"""The part that each mesh belongs to, in the order in which an object's meshes are built."""

PARTS: Mapping[str, tuple[str, ...]] = {
    category: tuple(dict.fromkeys(names)) for category, names in PART_OF_MESH.items()
}
"""A category's parts, each once."""

CLASSES: tuple[str, ...] = (
    BACKGROUND,
    *(f"{category}/{part}" for category, parts in PARTS.items() for part in parts),
)
"""The classes of a mask of parts, of all categories together; class `CLASSES[i]` is the label i."""

LABEL_OF_MESH: Mapping[str, tuple[int, ...]] = {
    category: tuple(CLASSES.index(f"{category}/{part}") for part in names) for category, names in PART_OF_MESH.items()
}
"""The label of each mesh's pixels."""

LIMBS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "aeroplane": (
        ("nose", "cockpit"), ("cockpit", "fin_root"), ("fin_root", "fin_tip"), ("fin_root", "tail_end"),
        ("left_wing_front", "left_wing_tip"), ("right_wing_front", "right_wing_tip"),
        ("left_wing_front", "left_engine"), ("right_wing_front", "right_engine"),
        ("tail_end", "left_tailplane_tip"), ("tail_end", "right_tailplane_tip"),
    ),
    "bird": (
        ("beak_tip", "crown"), ("crown", "left_eye"), ("crown", "right_eye"), ("crown", "back"), ("back", "tail_tip"),
        ("breast", "left_shoulder"), ("breast", "right_shoulder"),
        ("left_shoulder", "left_wing_tip"), ("right_shoulder", "right_wing_tip"),
        ("breast", "left_foot"), ("breast", "right_foot"),
    ),
    "car": (
        *((f"{side}_{one}", f"{side}_{other}") for side in ("left", "right") for one, other in (
            ("headlight", "front_wheel"), ("front_wheel", "rear_wheel"), ("rear_wheel", "taillight"),
            ("headlight", "front_roof"), ("front_roof", "rear_roof"), ("rear_roof", "taillight"),
            ("front_roof", "mirror"),
        )),
        *((f"left_{end}", f"right_{end}") for end in ("headlight", "taillight", "front_roof", "rear_roof")),
    ),
    "dog": (
        ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear_tip"), ("right_eye", "right_ear_tip"),
        ("nose", "withers"), ("withers", "tail_root"), ("tail_root", "tail_tip"),
        ("withers", "left_front_knee"), ("withers", "right_front_knee"),
        ("left_front_knee", "left_front_paw"), ("right_front_knee", "right_front_paw"),
        ("tail_root", "left_hind_paw"), ("tail_root", "right_hind_paw"),
    ),
}  # fmt: skip
"""What joins a category's keypoints in a picture of its pose."""
