"""PCK-dagger's second condition, KAP and visibility, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.evidence import Presence, Presences
from matchkit.evaluate.measured import Measured, measure
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.visibility import Seen, itself_nearest, kap, seen, visibility

IMAGES = {name: ImageRecord(name, Path("x.jpg"), (100, 100)) for name in "ab"}


def measured(*pairs: tuple[str, list[tuple[float, float]], list[tuple[float, float]]]) -> Measured:
    """Pairs of a category, where its keypoints are, and where they were found."""
    made, found = [], {}
    for number, (category, target, places) in enumerate(pairs):
        points = np.asarray(target, np.float32)
        ids = tuple(map(str, range(len(points))))
        made.append(Pair(str(number), "a", "b", category, points, points, ids))
        found[str(number)] = np.asarray(places, np.float32)
    return measure(made, IMAGES, Predictions(found, {}))


def test_the_nearest_keypoint_must_be_the_right_one() -> None:
    """The second is found nearer to the first one; of the second pair both are found where they are."""
    keypoints = measured(
        ("cat", [(0, 0), (10, 0), (0, 30)], [(4, 0), (4, 0), (90, 90)]), ("cat", [(5, 5), (6, 5)], [(5, 5), (6, 5)])
    )
    # however far the third one is from its place, no other keypoint is nearer
    assert itself_nearest(keypoints).tolist() == [True, False, True, True, True]


def test_of_two_that_are_equally_near_the_first_one_counts() -> None:
    keypoints = measured(("cat", [(0, 0), (10, 0)], [(5, 0), (5, 0)]))
    assert itself_nearest(keypoints).tolist() == [True, False]


def presences(*entries: tuple[list[float], list[float], float, float]) -> Presences:
    of_pair = {
        str(number): Presence(np.asarray(near)[:, None], np.asarray(far)[:, None], lowest, highest)
        for number, (near, far, lowest, highest) in enumerate(entries)
    }
    return Presences((0.1,), "box", of_pair)


TWO = measured(("cat", [(0, 0), (9, 0)], [(0, 0)] * 2), ("dog", [(0, 0)], [(0, 0)]))
"""Two keypoints of a cat and one of a dog are in both images; the cat's source shows another one, the dog's too."""
SIMILARITIES = presences(([0.9, 0.2, 0.6], [0.5, 0.7, 0.4], -0.1, 0.9), ([0.4, 0.1], [0.6, 0.3], 0.0, 0.8))


def test_similarities_are_between_the_least_and_the_greatest_of_their_pair() -> None:
    found = seen(TWO, SIMILARITIES)
    assert found.near[:, 0].tolist() == pytest.approx([1.0, 0.3, 0.7, 0.5, 0.125])
    assert found.far[:, 0].tolist() == pytest.approx([0.6, 0.8, 0.5, 0.75, 0.375])
    assert found.greatest.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.6, 0.3])
    assert found.shown.tolist() == [True, True, False, True, False]
    assert found.pair.tolist() == [0, 0, 0, 1, 1]
    assert found.category.tolist() == [0, 0, 0, 1, 1]


def test_a_pair_whose_similarities_are_all_the_same_has_none() -> None:
    found = seen(measured(("cat", [(0, 0)], [(0, 0)])), presences(([0.5], [0.5], 0.5, 0.5)))
    assert found.near[:, 0].tolist() == [0.0]


def test_kap_of_the_paper() -> None:
    """Cat: + 1, .3; - .6, .8, and .7 of the absent one. In order + - - - +: (1 + 2/5) / 2. Dog: + .5; - .75, .375."""
    found = kap(seen(TWO, SIMILARITIES), "paper", names=("0.10",))
    cat, dog = (1 + 2 / 5) / 2, 1 / 2
    assert found["image"]["0.10"] == pytest.approx(100 * (cat + dog) / 2, abs=1e-4)
    assert found["keypoint"]["0.10"] == pytest.approx(100 * (3 * cat + 2 * dog) / 5, abs=1e-4)


def test_kap_of_the_code_takes_absent_keypoints_as_positive() -> None:
    """Cat: + 1, .3, .7; - .6, .8, .5. In order + - + - - +. Dog: + .5, .125; - .75, .375: - + - +."""
    found = kap(seen(TWO, SIMILARITIES), "code", names=("0.10",))
    cat, dog = (1 + 2 / 3 + 3 / 6) / 3, (1 / 2 + 2 / 4) / 2
    assert found["image"]["0.10"] == pytest.approx(100 * (cat + dog) / 2, abs=1e-4)
    assert found["keypoint"]["0.10"] == pytest.approx(100 * (3 * cat + 2 * dog) / 5, abs=1e-4)


def test_samples_of_a_category_are_ranked_together() -> None:
    """Of two pairs of cats: + .9, .2; - .8, .1. Each pair by itself has 1; together + - + - has (1 + 2/3) / 2."""
    ones = np.ones(2, np.bool_)
    near, far = np.array([[0.9], [0.2]]), np.array([[0.8], [0.1]])
    cats = Seen(near, far, near[:, 0], ones, np.array([0, 1]), np.array([0, 0]))
    found = kap(cats, "paper", names=("0.10",))
    assert found["image"]["0.10"] == 100.0
    assert found["keypoint"]["0.10"] == pytest.approx(100 * (1 + 2 / 3) / 2, abs=1e-4)


def test_every_radius_by_itself() -> None:
    near, far = np.array([[0.1, 0.9]]), np.array([[0.9, 0.1]])
    one = Seen(near, far, np.array([0.9]), np.array([True]), np.array([0]), np.array([0]))
    assert kap(one, "paper", names=("0.05", "0.10"))["image"] == {"0.05": 50.0, "0.10": 100.0}


def test_visibility_ranks_what_the_target_shows_above_what_it_does_not() -> None:
    """Shown .9, .7, .6; not shown .6, .3: five of six are in order, and one is equal."""
    assert visibility(seen(TWO, SIMILARITIES)) == pytest.approx(100 * 5.5 / 6, abs=1e-4)
    everything = presences(([0.9, 0.2], [0.5, 0.7], -0.1, 0.9), ([0.4], [0.6], 0.0, 0.8))
    assert visibility(seen(TWO, everything)) is None
