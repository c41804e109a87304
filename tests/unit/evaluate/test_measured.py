"""Errors and reference lengths in each frame, worked out here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.measured import measure, verdicts
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference

Points = list[tuple[float, float]]


def told(
    target: Points,
    errors: Points,
    reference: Reference,
    *,
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
    **protocol: Any,
) -> list[list[bool]]:
    """The verdicts on one pair, a list a keypoint."""
    points = np.asarray(target, np.float32)
    pair = Pair("p", "a", "a", "cat", points, points, tuple(map(str, range(len(points)))), box, box)
    images = {"a": ImageRecord("a", Path("a.jpg"), size)}
    found = Predictions({"p": points + np.asarray(errors, np.float32)}, {})
    found_right: list[list[bool]] = verdicts(
        measure([pair], images, found), EvalProtocol(**protocol), reference
    ).tolist()
    return found_right


def test_by_the_image_of_a_squash_the_bounds_are_those_of_its_side() -> None:
    """SD4Match §4.2: 38.4, 76.8 and 115.2 of 768 pixels, which are 32, 64, 96 of 640 and 24, 48, 72 of 480."""
    squash: dict[str, Any] = {"frame": "squash", "side": 768, "alphas": (0.05, 0.1, 0.15), "size": (640, 480)}
    at_each = [(32.0, 0.0), (64.0, 0.0), (96.0, 0.0), (0.0, 24.0), (0.0, 48.0), (0.0, 72.0)]
    three = [[True] * 3, [False, True, True], [False, False, True]]
    assert told([(0, 0)] * 6, at_each, "image", **squash) == three * 2
    beyond = [(x * 1.001, y * 1.001) for x, y in at_each]
    less = [[False, True, True], [False, False, True], [False] * 3]
    assert told([(0, 0)] * 6, beyond, "image", **squash) == less * 2


def test_a_squash_may_make_the_other_edge_of_a_box_the_longer_one() -> None:
    """80 x 60 of 400 x 200 pixels is 153.6 x 230.4 of 768: within 23.04, which is 12 to the right and 6 down."""
    squash: dict[str, Any] = {"frame": "squash", "side": 768, "alphas": (0.1,), "size": (400, 200)}
    box = (10.0, 10.0, 90.0, 70.0)
    errors = [(12.0, 0.0), (12.1, 0.0), (0.0, 6.0), (0.0, 6.1)]
    assert told([(20, 20)] * 4, errors, "box", box=box, **squash) == [[True], [False], [True], [False]]
    plain = told([(20, 20)] * 4, errors, "box", box=box, alphas=(0.1,), size=(400, 200))
    assert plain == [[False], [False], [True], [True]]


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (499, 400)])
def test_a_letterbox_keeps_what_is_exactly_at_the_bound_there(size: tuple[int, int]) -> None:
    """GeoAware-SC §5.1: at 840 the box and the error grow alike; an error of 10 is not below 0.1 of 100."""
    letterbox: dict[str, Any] = {"frame": "letterbox", "side": 840, "alphas": (0.1,), "size": size}
    for comparison, at_bound in (("<=", True), ("<", False)):
        box, errors = (3.0, 3.0, 53.0, 103.0), [(6.0, 8.0), (9.99, 0.0)]
        found = told([(20, 20)] * 2, errors, "box", box=box, comparison=comparison, **letterbox)
        assert found == [[at_bound], [True]]


def test_by_the_keypoints_the_reference_is_their_longer_extent_in_the_frame() -> None:
    """60 x 40 in original pixels. Squashed from 400 x 200 it is 115.2 x 153.6: 15.36 are 8 to the right."""
    target: Points = [(10, 10), (70, 20), (30, 50)]
    errors: Points = [(6, 0), (7, 0), (8, 0)]
    assert told(target, errors, "keypoints", alphas=(0.1,), size=(400, 200)) == [[True], [False], [False]]
    squash: dict[str, Any] = {"frame": "squash", "side": 768, "alphas": (0.1,), "size": (400, 200)}
    assert told(target, errors, "keypoints", **squash) == [[True]] * 3
    assert told(target, [(8.1, 0)] * 3, "keypoints", **squash) == [[False]] * 3


def test_one_place_has_no_extent() -> None:
    with pytest.raises(DatasetError, match=r"pair 'p' has one place for all its keypoints.*references=\[box\]"):
        told([(10, 10)], [(0, 0)], "keypoints", size=(400, 200))


def test_the_targets_fractions_are_left_out_where_the_protocol_leaves_them_out() -> None:
    """At 10.9, found 10 to the right, within 10 of a box of 100.

    Floored in original pixels the error is 10.9. Of a letterbox of 800 from 400 pixels, 21.8 is floored to 21, which
    is 10.5: 10.4 in original pixels.
    """
    case: dict[str, Any] = {"alphas": (0.1, 0.1035, 0.1045, 0.1095), "size": (400, 200)}
    box = (0.0, 0.0, 100.0, 50.0)
    letterbox: dict[str, Any] = {"frame": "letterbox", "side": 800}
    where: Points = [(10.9, 0.0)]
    off: Points = [(10.0, 0.0)]
    assert told(where, off, "box", box=box, **case) == [[True] * 4]
    assert told(where, off, "box", box=box, floored="original", **case) == [[False, False, False, True]]
    in_frame = told(where, off, "box", box=box, floored="frame", **letterbox, **case)
    assert in_frame == [[False, False, True, True]]


def test_a_keypoint_on_a_whole_pixel_of_the_frame_stays_there() -> None:
    """x * (800 / 350) is just below the whole number for some of these, and x * 800 / 350 is not."""
    whole: Points = [(float(7 * n), 0.0) for n in range(50)]
    case: dict[str, Any] = {"frame": "letterbox", "side": 800, "floored": "frame", "alphas": (1e-9,), "size": (350, 9)}
    assert told(whole, [(0, 0)] * 50, "image", **case) == [[True]] * 50


def test_the_first_pair_without_a_box_is_named() -> None:
    with pytest.raises(DatasetError, match=r"pair 'p' has no target box.*references=\[image\]"):
        told([(10, 10)], [(0, 0)], "box", size=(400, 200))
