"""Left and right by their names: what a mirrored photograph makes of a part, a class or a limb."""

import re
from collections.abc import Collection, Sequence

JOIN = "-"
"""What stands between the two joints in a limb's name."""
SIDE = re.compile(
    r"(?<![A-Za-z])(?:left|right|Left|Right|LEFT|RIGHT|[lrLR])(?![a-z])"  # left_eye, eye_l, x/left_y, LShoulder
    r"|(?<=[a-z])(?:Left|Right)(?![a-z])"  # eyeLeft
)
SWAPPED = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}
SWAPPED |= {right: left for left, right in SWAPPED.items()}


def partner(name: str, names: Collection[str]) -> str:
    """What a thing of the mirrored photograph is called: one of the names, or its own where none is of its other side.

    A limb is the same from either end.

    Example:
        >>> partner("dog/left_paw", ["dog/left_paw", "dog/right_paw"]), partner("l_lip", ["l_lip", "u_lip"])
        ('dog/right_paw', 'l_lip')
    """
    other = SIDE.sub(lambda side: SWAPPED[side.group()], name)
    ends = JOIN.join(reversed(other.split(JOIN)))
    return next((found for found in (other, ends) if found in names), name)


def partners(names: Sequence[str]) -> list[int]:
    """For each of some names the place of its partner; applied twice it changes nothing."""
    places = {name: place for place, name in enumerate(names)}
    return [places[partner(name, places)] for name in names]
