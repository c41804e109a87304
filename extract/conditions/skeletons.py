"""Skeletons: the joints of a body, the limbs between them, and the colours in which they are drawn."""

import colorsys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.extract.conditions.sides import JOIN


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What a pose is drawn from.

    Attributes:
        joints: their names; those of a left and a right side tell which (`l_knee`, `left_paw`), for mirrored copies.
        limbs: the two joints that each is between, by their places.

    Raises:
        ConfigError: no joint or limb, a name that stands twice or holds a `-`, or a limb not between two joints.
    """

    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.joints or not self.limbs:
            raise ConfigError("a skeleton needs joints and limbs")
        if len(set(self.joints)) < len(self.joints) or any(JOIN in joint for joint in self.joints):
            raise ConfigError(f"the joints of a skeleton need names of their own without '{JOIN}': {self.joints}")
        for limb in self.limbs:
            if limb[0] == limb[1] or not all(0 <= joint < len(self.joints) for joint in limb):
                raise ConfigError(f"a limb is between two of {len(self.joints)} joints, counted from 0, not {limb}")
        if len(set(self.limb_names)) < len(self.limbs):
            raise ConfigError(f"a limb of the skeleton stands twice: {self.limbs}")

    @property
    def limb_names(self) -> tuple[str, ...]:
        """The names of the limbs: `<joint>-<joint>`."""
        return tuple(f"{self.joints[one]}{JOIN}{self.joints[other]}" for one, other in self.limbs)

    @property
    def colours(self) -> Float[np.ndarray, "n 3"]:
        """The colour 0..255 of each joint and of each limb, by its place: the wheel of hues in equal steps.

        Red and blue are exchanged, as in the published pictures: the first is blue. Source: CoCosNet §4.3.
        """
        count = max(len(self.joints), len(self.limbs))
        wheel = [colorsys.hsv_to_rgb(n / count, 1.0, 1.0)[::-1] for n in range(count)]
        return np.rint(np.asarray(wheel, np.float32) * 255)


OPENPOSE_18 = Skeleton(
    joints=(
        *("nose", "neck", "r_shoulder", "r_elbow", "r_wrist", "l_shoulder", "l_elbow", "l_wrist"),
        *("r_hip", "r_knee", "r_ankle", "l_hip", "l_knee", "l_ankle", "r_eye", "l_eye", "r_ear", "l_ear"),
    ),
    limbs=(
        *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
        *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
    ),
)
"""OpenPose's body of 18 joints, and the 17 of its limbs that are drawn. Source: CoCosNet §4.3."""
