"""OpenPose's skeleton, and others."""

import numpy as np
import pytest

from matchkit.core.errors import ConfigError
from matchkit.extract.conditions.skeletons import OPENPOSE_18, Skeleton

PUBLISHED = (
    *((2, 3), (2, 6), (3, 4), (4, 5), (6, 7), (7, 8), (2, 9), (9, 10), (10, 11), (2, 12), (12, 13), (13, 14), (2, 1)),
    *((1, 15), (15, 17), (1, 16), (16, 18)),
)


def test_openposes_limbs_are_the_published_ones() -> None:
    assert len(OPENPOSE_18.joints) == 18
    assert tuple((one + 1, other + 1) for one, other in OPENPOSE_18.limbs) == PUBLISHED
    assert OPENPOSE_18.limb_names[:2] == ("neck-r_shoulder", "neck-l_shoulder")
    assert OPENPOSE_18.limb_names[-1] == "l_eye-l_ear"


def test_its_colours_are_openposes_wheel_with_red_and_blue_exchanged() -> None:
    colours = OPENPOSE_18.colours
    assert colours.shape == (18, 3)
    assert colours[[0, 1, 2, 3, 4, 12, 17]].tolist() == [
        *([0, 0, 255], [0, 85, 255], [0, 170, 255], [0, 255, 255], [0, 255, 170], [255, 0, 0], [85, 0, 255])
    ]


def test_another_skeletons_colours_are_spread_over_the_wheel() -> None:
    colours = Skeleton(("nose", "neck", "tail"), ((0, 1), (1, 2))).colours
    assert colours.tolist() == [[0, 0, 255], [0, 255, 0], [255, 0, 0]]
    assert len(np.unique(Skeleton(tuple("abcdefg"), ((0, 1),)).colours, axis=0)) == 7


@pytest.mark.parametrize(
    ("joints", "limbs", "message"),
    [
        ((), ((0, 1),), "needs joints and limbs"),
        (("a", "b"), (), "needs joints and limbs"),
        (("a", "a"), ((0, 1),), "names of their own"),
        (("a-b", "c"), ((0, 1),), "names of their own without '-'"),
        (("a", "b"), ((0, 2),), r"between two of 2 joints, counted from 0, not \(0, 2\)"),
        (("a", "b"), ((-1, 0),), "between two of 2 joints"),
        (("a", "b"), ((1, 1),), "between two of 2 joints"),
        (("a", "b"), ((0, 1), (0, 1)), "stands twice"),
    ],
)
def test_what_is_no_skeleton(joints: tuple[str, ...], limbs: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Skeleton(joints, limbs)
