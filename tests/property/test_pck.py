"""Laws that every PCK obeys, whatever the keypoints."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.breakdown import parts
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Frame

ALPHAS = (0.05, 0.1, 0.15, 0.3, 1.0)
FRAMES: dict[str, dict[str, Any]] = {
    "original": {},
    "letterbox": {"frame": "letterbox", "side": 840},
    "squash": {"frame": "squash", "side": 768},
}
coordinates = st.tuples(st.integers(0, 200), st.integers(0, 200))
errors = st.tuples(st.integers(-40, 40), st.integers(-40, 40))
pairs_of_numbers = st.fixed_dictionaries(
    {
        "category": st.sampled_from(["cat", "dog"]),
        "box": st.tuples(st.integers(1, 200), st.integers(1, 200)),
        "keypoints": st.lists(st.tuples(coordinates, errors), min_size=1, max_size=4),
    }
)
cases = st.tuples(
    st.tuples(st.integers(50, 300), st.integers(50, 300)), st.lists(pairs_of_numbers, min_size=1, max_size=5)
)
"""The image's size, and pairs of integer keypoints with the errors of their predictions."""

Numbers = tuple[tuple[int, int], list[dict[str, Any]]]
Case = tuple[list[Pair], dict[str, ImageRecord], dict[str, np.ndarray]]


def made(numbers: Numbers, *, factor: float = 1) -> Case:
    """Pairs, images and predictions, all `factor` times as large.

    A strategy must not make them itself, since beartype looks into them at random.
    """
    size, described = numbers
    images = {"a": ImageRecord("a", Path("a.jpg"), (int(factor * 2 * size[0]), int(factor * 2 * size[1])))}
    pairs, found = [], {}
    for number, values in enumerate(described):
        keypoints = np.asarray(values["keypoints"], np.float32) * np.float32(factor)
        points, ids = keypoints[:, 0], tuple(map(str, range(len(keypoints))))
        box = (3.0, 5.0, 3.0 + values["box"][0], 5.0 + values["box"][1])
        box = (factor * box[0], factor * box[1], factor * box[2], factor * box[3])
        pairs.append(Pair(f"p{number}", "a", "a", values["category"], points, points, ids, box, box))
        found[f"p{number}"] = points + keypoints[:, 1]
    return pairs, images, found


def scored(
    pairs: Sequence[Pair], images: dict[str, ImageRecord], found: dict[str, np.ndarray], **protocol: Any
) -> dict[str, Any]:
    settled: dict[str, Any] = {"alphas": ALPHAS, "resamples": 0} | protocol
    report = score(pairs, images, Predictions(found, {}), EvalProtocol(**settled))
    return {"scores": report.scores, "categories": report.categories, "counts": report.counts}


@given(numbers=cases, comparison=st.sampled_from(["<=", "<"]), frame=st.sampled_from(list(FRAMES)))
def test_it_grows_with_alpha_and_stays_a_percentage(
    numbers: Numbers, comparison: Literal["<=", "<"], frame: str
) -> None:
    for averages in scored(*made(numbers), comparison=comparison, **FRAMES[frame])["scores"].values():
        for values in averages.values():
            shares = list(values.values())
            assert shares == sorted(shares)
            assert all(0 <= share <= 100 for share in shares)


@given(numbers=cases)
def test_strict_never_counts_more(numbers: Numbers) -> None:
    loose, strict = (scored(*made(numbers), comparison=comparison)["scores"] for comparison in ("<=", "<"))
    for reference, averages in loose.items():
        for average, values in averages.items():
            assert all(values[alpha] >= strict[reference][average][alpha] for alpha in values)


@given(numbers=cases, data=st.data())
def test_the_order_of_pairs_does_not_count(numbers: Numbers, data: st.DataObject) -> None:
    pairs, images, found = made(numbers)
    shuffled = [pairs[n] for n in data.draw(st.permutations(range(len(pairs))))]
    one, other = scored(pairs, images, found), scored(shuffled, images, found)
    assert one["counts"] == other["counts"]
    for reference, averages in one["scores"].items():
        for average, values in averages.items():
            assert other["scores"][reference][average] == pytest.approx(values, abs=1e-3)


@given(numbers=cases, factor=st.sampled_from([0.5, 2, 4]), frame=st.sampled_from(list(FRAMES)))
def test_a_larger_copy_of_everything_scores_the_same(numbers: Numbers, factor: float, frame: str) -> None:
    """Powers of two, so that no float is rounded."""
    assert scored(*made(numbers, factor=factor), **FRAMES[frame]) == scored(*made(numbers), **FRAMES[frame])


@given(numbers=cases, comparison=st.sampled_from(["<=", "<"]))
def test_a_letterbox_of_any_side_gives_the_verdicts_of_original_pixels(
    numbers: Numbers, comparison: Literal["<=", "<"]
) -> None:
    boxed = scored(*made(numbers), comparison=comparison, frame="letterbox", side=840)
    assert boxed == scored(*made(numbers), comparison=comparison)


def by_the_lab(case: Case, *, frame: Frame, side: int, floored: str) -> tuple[np.ndarray, np.ndarray]:
    """Errors and boxes' longer edges in pixels of a square, a point at a time, as published code has them."""
    pairs, images, found = case
    errors, lengths = [], []
    for pair in pairs:
        width, height = images[pair.target].size
        longest = max(width, height)
        scale = (side / width, side / height) if frame == "squash" else (side / longest, side / longest)
        assert pair.target_box is not None
        left, top, right, bottom = pair.target_box
        for place, prediction in zip(pair.target_points, found[pair.id], strict=True):
            x, y = (float(value) * by for value, by in zip(place, scale, strict=True))
            if floored == "frame":
                x, y = np.floor(x + 1e-9), np.floor(y + 1e-9)
            errors.append(np.hypot(prediction[0] * scale[0] - x, prediction[1] * scale[1] - y))
            lengths.append(max((right - left) * scale[0], (bottom - top) * scale[1]))
    return np.asarray(errors), np.asarray(lengths)


@given(
    numbers=cases,
    frame=st.sampled_from(["letterbox", "squash"]),
    side=st.sampled_from([100, 768, 840]),
    floored=st.sampled_from(["nothing", "frame"]),
)
def test_a_square_frame_gives_the_share_counted_in_its_own_pixels(
    numbers: Numbers, frame: Literal["letterbox", "squash"], side: int, floored: Literal["nothing", "frame"]
) -> None:
    case = made(numbers)
    errors, lengths = by_the_lab(case, frame=frame, side=side, floored=floored)
    told = scored(*case, references=("box",), frame=frame, side=side, floored=floored)["scores"]["box"]["keypoint"]
    for alpha in ALPHAS:
        if np.abs(errors - alpha * lengths).min() > 1e-6:  # not within a rounding of the bound
            assert told[f"{alpha:.2f}"] == pytest.approx(100 * (errors <= alpha * lengths).mean(), abs=1e-3)


@given(
    length=st.integers(1, 400).map(lambda n: 20 * n),
    alpha=st.sampled_from([0.05, 0.1, 0.15]),
    across=st.booleans(),
    reference=st.sampled_from(["box", "image"]),
    frame=st.sampled_from(list(FRAMES)),
)
def test_an_error_of_exactly_alpha_times_the_reference(
    length: int, alpha: float, *, across: bool, reference: Literal["box", "image"], frame: str
) -> None:
    """Counts under `<=` and not under `<`: the bound is a whole number of pixels, and so is the error.

    The image is a square, in which a squash is a letterbox.
    """
    images = {"a": ImageRecord("a", Path("a.jpg"), (length, length))}
    box = (0.0, 0.0, length / 2, float(length))
    points = np.asarray([[7, 9]], np.float32)
    pair = Pair("p", "a", "a", "cat", points, points, ("0",), box, box)
    error = np.asarray([[1, 0] if across else [0, 1]], np.float32) * round(alpha * length)
    for comparison, expected in (("<=", 100.0), ("<", 0.0)):
        found = scored([pair], images, {"p": points + error}, alphas=(alpha,), comparison=comparison, **FRAMES[frame])
        assert found["scores"][reference]["keypoint"] == {f"{alpha:.2f}": expected}


@given(numbers=cases)
def test_perfect_predictions_score_everything(numbers: Numbers) -> None:
    pairs, images, _ = made(numbers)
    perfect = scored(pairs, images, {pair.id: pair.target_points for pair in pairs})
    for averages in perfect["scores"].values():
        assert all(set(values.values()) == {100.0} for values in averages.values())


@given(numbers=cases)
def test_the_average_over_keypoints_is_the_share_counted_by_hand(numbers: Numbers) -> None:
    pairs, images, found = made(numbers)
    length = max(images["a"].size)
    distances = np.concatenate([np.hypot(*(found[pair.id] - pair.target_points).T.astype(float)) for pair in pairs])
    values = scored(pairs, images, found, references=("image",))["scores"]["image"]["keypoint"]
    for alpha in ALPHAS:
        if np.abs(distances - alpha * length).min() > 1e-6:  # not within a rounding of the bound
            assert values[f"{alpha:.2f}"] == pytest.approx(100 * (distances <= alpha * length).mean(), abs=1e-3)


IDS = tuple(map(str, range(6)))
looks = st.tuples(st.one_of(st.none(), st.integers(0, 7)), st.sets(st.sampled_from(IDS)))
"""An image's azimuth and the keypoints that it shows."""


def looked(numbers: Sequence[tuple[int | None, set[str]]]) -> tuple[list[Pair], dict[str, ImageRecord]]:
    """Images that look so, and a pair of every two of them that both show a keypoint."""
    images = {
        str(n): ImageRecord(str(n), Path("x.jpg"), (9, 9), "cat", azimuth, {key: (0.0, 0.0) for key in sorted(shown)})
        for n, (azimuth, shown) in enumerate(numbers)
    }
    pairs = []
    for source, target in product(images.values(), images.values()):
        both = tuple(key for key in source.keypoints if key in target.keypoints)
        points = np.zeros((len(both), 2), np.float32)
        if both:
            pairs.append(Pair(f"{source.id}-{target.id}", source.id, target.id, "cat", points, points, both))
    return pairs, images


@given(numbers=st.lists(looks, min_size=1, max_size=6), turn=st.integers(0, 7))
def test_every_keypoint_of_known_viewpoints_is_in_one_bin_of_azimuths(
    numbers: list[tuple[int | None, set[str]]], turn: int
) -> None:
    pairs, images = looked(numbers)
    known = [None not in (images[pair.source].azimuth, images[pair.target].azimuth) for pair in pairs]
    if not any(known):
        return
    bins = parts("azimuth", pairs, images, {})
    mirror = bins.pop("mirror", None)
    expected = np.repeat(known, [len(pair.keypoint_ids) for pair in pairs])
    np.testing.assert_array_equal(np.sum(list(bins.values()), axis=0), expected.astype(int))
    assert mirror is None or not (mirror & ~expected).any()
    # turned together, the images are as far from each other as before
    around = {
        name: replace(image, azimuth=None if image.azimuth is None else (image.azimuth + turn) % 8)
        for name, image in images.items()
    }
    moved = parts("azimuth", pairs, around, {})
    for name, mask in bins.items():
        np.testing.assert_array_equal(moved[name], mask)


@given(numbers=st.lists(looks, min_size=1, max_size=5))
def test_what_geometry_alone_tells_apart_is_counted_by_hand(numbers: list[tuple[int | None, set[str]]]) -> None:
    pairs, images = looked(numbers)
    if not pairs:
        return
    groups = (("0", "1"), ("2", "3", "5"))
    found = parts("geometry", pairs, images, {"cat": KeypointScheme(groups=groups)})
    keypoints = [(pair, name) for pair in pairs for name in pair.keypoint_ids]
    expected = [
        any(name in group and len(set(group) & set(images[pair.target].keypoints)) >= 2 for group in groups)
        for pair, name in keypoints
    ]
    nothing = np.zeros(len(keypoints), bool)
    assert found.get("aware", nothing).tolist() == expected
    assert found.get("other", nothing).tolist() == [not told for told in expected]
