"""Variants of a pair with mirrored images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import ConfigError
from matchkit.core.flips import Flips, FlipWeights
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair

SCHEME = KeypointScheme(flips=(("1", "2"),))
SOURCE = {"0": (3.0, 4.0), "1": (0.0, 9.0), "5": (9.0, 1.0)}
TARGET = {"0": (7.0, 7.0), "1": (1.0, 2.0), "2": (19.0, 3.0)}
IMAGES = {
    "dog/a": ImageRecord("dog/a", Path("a.jpg"), (10, 20), "dog", keypoints=SOURCE),
    "dog/b": ImageRecord("dog/b", Path("b.jpg"), (20, 10), "dog", keypoints=TARGET),
}
PAIR = Pair(
    *("ab", "dog/a", "dog/b", "dog"),
    source_points=np.array([SOURCE["0"], SOURCE["1"]], np.float32),
    target_points=np.array([TARGET["0"], TARGET["1"]], np.float32),
    keypoint_ids=("0", "1"),
    source_box=(0.0, 1.0, 9.0, 9.0),
    target_box=(1.0, 2.0, 19.0, 7.0),
)


def points(pair: Pair) -> dict[str, tuple[list[float], list[float]]]:
    both = zip(pair.source_points.tolist(), pair.target_points.tolist(), strict=True)
    return dict(zip(pair.keypoint_ids, both, strict=True))


def variants(**weights: float) -> list[tuple[float, Pair]]:
    return Flips(FlipWeights(**weights), IMAGES, {"dog": SCHEME})(PAIR)


def test_a_mirrored_left_paw_is_sought_as_a_right_paw_wherever_the_images_show_it() -> None:
    ((weight, pair),) = variants(single_flip=1.0)
    assert (weight, pair.source, pair.target, pair.target_box) == (1.0, "dog/a@flip", "dog/b", PAIR.target_box)
    # keypoint 1 of the source is keypoint 2 once mirrored, which the target shows though the pair does not list it
    assert points(pair) == {"0": ([6.0, 4.0], [7.0, 7.0]), "2": ([9.0, 9.0], [19.0, 3.0])}


def test_both_images_mirrored() -> None:
    ((weight, pair),) = variants(double_flip=0.5)
    assert (weight, pair.source, pair.target) == (0.5, "dog/a@flip", "dog/b@flip")
    assert pair.target_box == (0.0, 2.0, 18.0, 7.0)
    assert points(pair) == {"0": ([6.0, 4.0], [12.0, 7.0]), "2": ([9.0, 9.0], [18.0, 2.0])}


def test_an_image_and_its_mirrored_copy() -> None:
    ((weight, pair),) = variants(self_flip=0.25)
    assert (weight, pair.source, pair.target, pair.target_box) == (0.25, "dog/a@flip", "dog/a", PAIR.source_box)
    assert points(pair) == {"0": ([6.0, 4.0], [3.0, 4.0]), "5": ([0.0, 1.0], [9.0, 1.0])}


def test_the_copies_that_are_needed() -> None:
    pairs = [PAIR, replace(PAIR, source="dog/b", target="dog/a")]
    assert Flips(FlipWeights(), IMAGES, {}).copies(pairs) == []
    assert Flips(FlipWeights(self_flip=1.0), IMAGES, {}).copies([PAIR]) == ["dog/a@flip"]
    assert Flips(FlipWeights(double_flip=1.0), IMAGES, {}).copies([PAIR]) == ["dog/a@flip", "dog/b@flip"]
    assert Flips(FlipWeights(single_flip=1.0), IMAGES, {}).copies(pairs) == ["dog/a@flip", "dog/b@flip"]


def test_a_variant_without_a_keypoint_in_common_is_left_out() -> None:
    lone = {**IMAGES, "dog/b": replace(IMAGES["dog/b"], keypoints={"1": (1.0, 2.0)})}
    flips = Flips(FlipWeights(single_flip=1.0, double_flip=1.0), lone, {"dog": SCHEME})
    assert [pair.target for _, pair in flips(PAIR)] == ["dog/b@flip"]


def test_where_the_dataset_does_not_tell_what_images_show_the_pairs_keypoints_count() -> None:
    untold = {name: replace(record, keypoints={}) for name, record in IMAGES.items()}
    ((_, pair),) = Flips(FlipWeights(single_flip=1.0), untold, {"dog": SCHEME})(PAIR)
    assert points(pair) == {"0": ([6.0, 4.0], [7.0, 7.0])}


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        FlipWeights(self_flip=-0.25)
