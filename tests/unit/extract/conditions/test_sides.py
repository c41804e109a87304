"""Which name is of the other side."""

import pytest

from matchkit.extract.conditions.sides import partner, partners
from matchkit.extract.conditions.skeletons import OPENPOSE_18


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left_eye", "right_eye"),
        ("l_eye", "r_eye"),
        ("eye_l", "eye_r"),
        ("LShoulder", "RShoulder"),
        ("leftEye", "rightEye"),
        ("eyeLeft", "eyeRight"),
        ("LEFT_EYE", "RIGHT_EYE"),
        ("dog/left_front_paw", "dog/right_front_paw"),
        ("dog/front left paw", "dog/front right paw"),
        ("neck-l_hip", "neck-r_hip"),
        ("l_hip-r_knee", "r_hip-l_knee"),
        ("l_hip-r_knee", "l_knee-r_hip"),  # from its other end
    ],
)
def test_the_other_side(one: str, other: str) -> None:
    assert partner(one, [one, other]) == other
    assert partner(other, [one, other]) == one


@pytest.mark.parametrize(
    "name", ["nose", "leftover", "bright", "l_lip", "ear_r", "neck_l", "l_hip-r_hip", "Al", "left"]
)
def test_what_has_no_other_side_stays_what_it_is(name: str) -> None:
    assert partner(name, [name, "u_lip", "rightover", "bleft", "Ar", "neck"]) == name


def test_partners_are_places_and_twice_is_nothing() -> None:
    names = OPENPOSE_18.limb_names
    places = partners(names)
    assert [places[place] for place in places] == list(range(len(names)))
    assert names[places[names.index("r_hip-r_knee")]] == "l_hip-l_knee"
    assert names[places[names.index("neck-nose")]] == "neck-nose"
    assert sum(place != n for n, place in enumerate(places)) == 16
