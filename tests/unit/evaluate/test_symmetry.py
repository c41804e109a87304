"""Which part a match is of, on keypoints placed by hand."""

from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.measured import measure
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.symmetry import KINDS, alike, kinds, shares

DOG = KeypointScheme(
    flips=(("left eye", "right eye"), ("left paw", "right paw")), groups=(("left paw", "right paw", "hind paw"),)
)
EYES = {"left eye": (10.0, 10.0), "right eye": (40.0, 10.0)}
TARGET = EYES | {"nose": (25.0, 30.0), "left paw": (10.0, 80.0), "hind paw": (90.0, 80.0)}
"""All that the target shows; its box is 100 pixels wide, so that alpha 0.05 is 5 pixels, and 0.2 is 20."""
BOX = (0.0, 0.0, 100.0, 50.0)
PROTOCOL = EvalProtocol(alphas=(0.05, 0.2), references=("box",))


def told(
    found: dict[str, tuple[float, float]],
    *,
    shown: dict[str, tuple[float, float]] = TARGET,
    protocol: EvalProtocol = PROTOCOL,
    reference: Reference = "box",
) -> list[list[str]]:
    """For each of the found keypoints, its kind at 0.05 and at 0.2."""
    names = tuple(found)
    images = {name: ImageRecord(name, Path("x.jpg"), (200, 100), "dog", None, shown) for name in "ab"}
    points = np.asarray([TARGET[name] for name in names], np.float32)
    pair = Pair("p", "a", "b", "dog", points, points, names, BOX, BOX)
    predictions = Predictions({"p": np.asarray(list(found.values()), np.float32)}, {})
    keypoints = measure([pair], images, predictions)
    found_kinds = kinds(keypoints, images, {"dog": DOG}, protocol=protocol, reference=reference)
    return [[KINDS[place] for place in row] for row in found_kinds]


def test_near_its_own_place_near_its_mirror_image_near_another_and_nowhere() -> None:
    found = {"left eye": (14, 13), "right eye": (10, 15), "nose": (37, 14), "left paw": (60, 45)}
    assert told(found) == [
        ["right part", "right part"],  # 5 pixels from its own place: within, as with PCK
        ["wrong side", "wrong side"],  # 5 from the left eye
        ["other part", "right part"],  # 5 from the right eye, 20 from the nose
        ["elsewhere", "elsewhere"],
    ]


def test_its_own_place_comes_before_its_mirror_image_and_that_before_others() -> None:
    """At (25, 20) all of the face is within 20 pixels; at 0.05 nothing is."""
    assert told({"left eye": (25, 20), "left paw": (25, 20)}) == [
        ["elsewhere", "right part"],
        ["elsewhere", "other part"],
    ]
    assert told({"left eye": (33, 20)}) == [["elsewhere", "wrong side"]]  # 25.1 from its own, 12.2 from the right one


def test_others_of_the_group_count_as_the_wrong_side() -> None:
    assert told({"left paw": (90, 80)}) == [["wrong side"] * 2]


def test_the_other_keypoint_need_not_be_in_the_pair() -> None:
    assert told({"left eye": (40, 10)}) == [["wrong side"] * 2]
    # unless the dataset tells nothing but the pair
    assert told({"left eye": (40, 10)}, shown={}) == [["elsewhere"] * 2]
    assert told({"left eye": (40, 10), "right eye": (40, 10)}, shown={})[0] == ["wrong side"] * 2


def test_the_comparison_is_the_protocols() -> None:
    strict = EvalProtocol(alphas=(0.05, 0.2), references=("box",), comparison="<")
    assert told({"right eye": (10, 15), "left eye": (14, 13)}, protocol=strict) == [
        ["elsewhere", "wrong side"],
        ["elsewhere", "right part"],
    ]


def test_the_reference_is_that_of_the_pair() -> None:
    """The image's longer edge is 200: twice the box's."""
    image = EvalProtocol(alphas=(0.05, 0.2), references=("image",))
    assert told({"right eye": (10, 20)}) == [["elsewhere", "wrong side"]]
    assert told({"right eye": (10, 20)}, protocol=image, reference="image") == [["wrong side", "right part"]]


def test_shares_sum_to_a_hundred() -> None:
    found = shares(np.array([0, 0, 3, 1, 0, 3, 3, 3]))
    assert found == {"right part": 37.5, "wrong side": 12.5, "other part": 0.0, "elsewhere": 50.0}
    assert sum(found.values()) == 100


def test_alike_is_the_partner_and_the_group_without_itself() -> None:
    assert alike("left eye", DOG) == {"right eye"}
    assert alike("hind paw", DOG) == {"left paw", "right paw"}
    assert alike("nose", DOG) == set()


def test_a_category_without_scheme_is_named() -> None:
    images = {name: ImageRecord(name, Path("x.jpg"), (200, 100), "cow", None, TARGET) for name in "ab"}
    points = np.zeros((1, 2), np.float32)
    pair = Pair("p", "a", "b", "cow", points, points, ("nose",), BOX, BOX)
    keypoints = measure([pair], images, Predictions({"p": points}, {}))
    with pytest.raises(DatasetError, match="category 'cow'"):
        kinds(keypoints, images, {"dog": DOG}, protocol=PROTOCOL, reference="box")
