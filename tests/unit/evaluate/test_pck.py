"""PCK on hand-made keypoints, every number worked out here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError, MatchkitError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.intervals import pck_interval
from matchkit.evaluate.pck import hits, score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol

Box = tuple[float, float, float, float]


def image(name: str, size: tuple[int, int]) -> ImageRecord:
    return ImageRecord(name, Path(f"{name}.jpg"), size)


def pair(name: str, points: list[list[float]], *, box: Box | None = None, category: str = "cat") -> Pair:
    target = np.asarray(points, np.float32).reshape(-1, 2)
    ids = tuple(str(n) for n in range(len(target)))
    return Pair(name, "a", "b", category, target, target, ids, box, box)


IMAGES = {"a": image("a", (500, 333)), "b": image("b", (500, 333))}


def test_the_worked_example_of_the_published_code() -> None:
    """Hyperfeatures §6.2: distances 50 and 1, image 500 x 333 -> both (50 <= 50); box of R = 399 -> only the second."""
    data = pair("p", [[200, 200], [100, 100]], box=(100.0, 100.0, 300.0, 499.0))
    found = {"p": np.asarray([[230, 240], [101, 100]], np.float32)}
    report = score([data], IMAGES, Predictions(found, {}), EvalProtocol(alphas=(0.1,)))
    assert report.scores["image"]["keypoint"] == {"0.10": 100.0}
    assert report.scores["box"]["keypoint"] == {"0.10": 50.0}
    strict = score([data], IMAGES, Predictions(found, {}), EvalProtocol(alphas=(0.1,), comparison="<"))
    assert strict.scores["image"]["keypoint"] == {"0.10": 50.0}


def test_the_four_averages_differ_as_they_should() -> None:
    """Pairs of 1, 3 and 2 keypoints in two categories; R = 100, alpha 0.1: an error up to 10 pixels is correct."""
    box = (0.0, 0.0, 100.0, 50.0)
    pairs = [
        pair("one", [[0, 0]], box=box),
        pair("two", [[0, 0], [10, 0], [20, 0]], box=box),
        pair("three", [[0, 0], [10, 0]], box=box, category="dog"),
    ]
    errors = {"one": [0.0], "two": [0.0, 11.0, 11.0], "three": [10.0, 10.5]}
    found = {p.id: p.target_points + np.asarray([[0, e] for e in errors[p.id]], np.float32) for p in pairs}
    report = score(pairs, IMAGES, Predictions(found, {}), EvalProtocol(alphas=(0.1,), references=("box",)))
    scores = {average: values["0.10"] for average, values in report.scores["box"].items()}
    assert scores["keypoint"] == pytest.approx(100 * 3 / 6)
    assert scores["image"] == pytest.approx(100 * (1 + 1 / 3 + 1 / 2) / 3, abs=1e-3)
    assert scores["category"] == pytest.approx(100 * ((1 + 1 / 3) / 2 + 1 / 2) / 2, abs=1e-3)
    # two pairs of cats with 2 of 4 keypoints, one of dogs with 1 of 2: the weights would show in unequal shares
    assert scores["pair-weighted"] == pytest.approx(100 * (2 * 2 / 4 + 1 * 1 / 2) / 3)
    assert report.categories["box"]["dog"]["keypoint"]["0.10"] == pytest.approx(50.0)
    assert report.counts == {"pairs": 3, "images": 2, "keypoints": 6}


def test_pairs_without_keypoints_count_nowhere() -> None:
    box = (0.0, 0.0, 100.0, 100.0)
    pairs = [pair("empty", [], box=box), pair("full", [[5, 5]], box=box)]
    found = {"full": np.asarray([[5, 5]], np.float32)}
    report = score(pairs, IMAGES, Predictions(found, {}), EvalProtocol())
    assert report.counts["pairs"] == 1
    assert report.scores["box"]["image"]["0.10"] == 100.0
    with pytest.raises(DatasetError, match="none of the pairs"):
        score(pairs[:1], IMAGES, Predictions({}, {}), EvalProtocol())


def test_predictions_that_do_not_fit_are_refused() -> None:
    data = pair("p", [[1, 1], [2, 2]], box=(0.0, 0.0, 9.0, 9.0))
    with pytest.raises(MatchkitError, match=r"lack pair 'p'\. Run: matchkit match"):
        score([data], IMAGES, Predictions({}, {}), EvalProtocol())
    with pytest.raises(MatchkitError, match="1 keypoints, the dataset has 2"):
        score([data], IMAGES, Predictions({"p": np.zeros((1, 2), np.float32)}, {}), EvalProtocol())


def test_a_pair_without_a_box_can_only_be_scored_by_image() -> None:
    data = pair("p", [[1, 1]])
    found = Predictions({"p": np.ones((1, 2), np.float32)}, {})
    with pytest.raises(DatasetError, match="no target box"):
        score([data], IMAGES, found, EvalProtocol())
    report = score([data], IMAGES, found, EvalProtocol(references=("image",)))
    assert report.scores["image"]["keypoint"]["0.05"] == 100.0


def test_hits_are_the_verdicts_of_each_pair_at_one_alpha() -> None:
    """The box's longer edge is 100 and the image's 500: an error up to 10, or up to 50, is correct."""
    box = (0.0, 0.0, 100.0, 50.0)
    pairs = [
        pair("one", [[0, 0], [10, 0], [20, 0]], box=box),
        pair("none", [], box=box),
        pair("two", [[5, 5]], box=box),
    ]
    errors = {"one": [10.0, 10.5, 50.0], "none": [], "two": [50.5]}
    moved = {
        p.id: p.target_points + np.asarray([[0, e] for e in errors[p.id]], np.float32).reshape(-1, 2) for p in pairs
    }
    found = Predictions(dict(reversed(moved.items())), {})
    box_hits = hits(pairs, IMAGES, found, alpha=0.1, reference="box")
    assert [verdicts.tolist() for verdicts in box_hits] == [[True, False, False], [], [False]]
    image_hits = hits(pairs, IMAGES, found, alpha=0.1, reference="image")
    assert [verdicts.tolist() for verdicts in image_hits] == [[True, True, True], [], [False]]
    report = score([pairs[0], pairs[2]], IMAGES, found, EvalProtocol(alphas=(0.1,), references=("box", "image")))
    for reference, verdicts in (("box", box_hits), ("image", image_hits)):
        assert report.scores[reference]["keypoint"]["0.10"] == 100 * np.concatenate(verdicts).mean()


def test_hits_need_predictions_and_the_reference() -> None:
    data = pair("p", [[1, 1], [2, 2]])
    with pytest.raises(MatchkitError, match=r"lack pair 'p'\. Run: matchkit match"):
        hits([data], IMAGES, Predictions({}, {}), alpha=0.1, reference="image")
    with pytest.raises(DatasetError, match="no target box"):
        hits([data], IMAGES, Predictions({"p": data.target_points}, {}), alpha=0.1, reference="box")


def test_categories_are_weighted_by_their_pairs_and_not_by_their_keypoints() -> None:
    """SD-DINO's number. Two pairs of cats, 1 of 2 keypoints in all; one of dogs, 3 of 3: (2 * 50 + 1 * 100) / 3."""
    box = (0.0, 0.0, 100.0, 50.0)
    pairs = [
        pair("one", [[0, 0]], box=box),
        pair("two", [[0, 0]], box=box),
        pair("three", [[0, 0], [10, 0], [20, 0]], box=box, category="dog"),
    ]
    found = {p.id: p.target_points + np.float32(90 if p.id == "two" else 0) for p in pairs}
    scores = score(pairs, IMAGES, Predictions(found, {}), EvalProtocol(alphas=(0.1,))).scores["box"]
    averages = {name: values["0.10"] for name, values in scores.items()}
    assert averages == {
        "keypoint": 80.0,
        "image": 66.6667,
        "category": 75.0,
        "category-keypoint": 75.0,
        "pair-weighted": 66.6667,
    }
    cats = [pair("four", [[0, 0]] * 2, box=box), *pairs]
    found["four"] = cats[0].target_points
    scores = score(cats, IMAGES, Predictions(found, {}), EvalProtocol(alphas=(0.1,))).scores["box"]
    assert scores["image"]["0.10"] == 75.0
    assert scores["pair-weighted"]["0.10"] == pytest.approx((3 * 75 + 1 * 100) / 4)


def turned(name: str, azimuth: int, shown: str) -> ImageRecord:
    return ImageRecord(name, Path(f"{name}.jpg"), (500, 333), "cat", azimuth, {key: (1.0, 1.0) for key in shown})


def test_the_parts_of_a_breakdown_are_scored_like_the_whole() -> None:
    """`0` and `1` are of one kind. Aware: both of the first pair, 0 of the second, and none of the third."""
    images = {"a": turned("a", 0, "012"), "b": turned("b", 1, "012"), "c": turned("c", 7, "12")}
    corner = [[0, 0], [10, 0], [20, 0]]
    box = (0.0, 0.0, 100.0, 50.0)
    first, second, third = (pair(str(n), corner[: 4 - n], box=box) for n in (1, 2, 3))
    pairs = [
        replace(first, source="a", target="b"),
        replace(second, source="c", target="a", keypoint_ids=("1", "2")),
        replace(third, source="a", target="c", keypoint_ids=("2",)),
    ]
    wrong = np.float32([[0, 99]])
    found = {
        "1": first.target_points + wrong * np.float32([[0], [1], [1]]),
        "2": second.target_points,
        "3": third.target_points + wrong,
    }
    protocol = EvalProtocol(alphas=(0.1,), references=("box",), breakdowns=("geometry", "azimuth"))
    scheme = KeypointScheme(groups=(("0", "1"),))
    parts = score(pairs, images, Predictions(found, {}), protocol, schemes={"cat": scheme}).breakdowns
    aware, other = parts["geometry"]["aware"], parts["geometry"]["other"]
    assert aware.counts == {"pairs": 2, "images": 3, "keypoints": 3}
    assert aware.occurrence == {"pairs": pytest.approx(200 / 3, abs=1e-4), "keypoints": 50.0}
    assert aware.scores["box"]["keypoint"]["0.10"] == pytest.approx(200 / 3, abs=1e-4)
    # the third pair has no such keypoint and counts nowhere
    assert aware.scores["box"]["image"]["0.10"] == 75.0
    assert other.counts == {"pairs": 3, "images": 3, "keypoints": 3}
    assert other.scores["box"]["image"]["0.10"] == pytest.approx(100 / 3, abs=1e-4)
    assert {name: part.counts["pairs"] for name, part in parts["azimuth"].items()} == {"1": 3, "mirror": 2}
    assert parts["azimuth"]["mirror"].scores["box"]["image"]["0.10"] == 50.0
    assert parts["azimuth"]["1"].scores["box"]["keypoint"]["0.10"] == 50.0


def test_a_breakdown_that_is_not_asked_for_needs_nothing() -> None:
    data, found = pair("p", [[1, 1]]), Predictions({"p": np.ones((1, 2), np.float32)}, {})
    protocol = EvalProtocol(references=("image",))
    assert score([data], IMAGES, found, protocol).breakdowns == {}
    with pytest.raises(DatasetError, match="groups of keypoints of category 'cat'"):
        score([data], {"b": turned("b", 0, "0")}, found, replace(protocol, breakdowns=("geometry",)))


def test_intervals_are_those_over_images_of_the_average_over_keypoints() -> None:
    generator = np.random.default_rng(0)
    images = {str(n): image(str(n), (200, 100)) for n in range(12)}
    pairs, found = [], {}
    for n in range(30):
        made = pair(str(n), generator.uniform(0, 100, (4, 2)).tolist(), box=(0.0, 0.0, 90.0, 80.0))
        source, target = generator.choice(12, 2, replace=False)
        pairs.append(replace(made, source=str(source), target=str(target)))
        found[made.id] = made.target_points + generator.normal(0, 8, (4, 2)).astype(np.float32)
    predictions, protocol = Predictions(found, {}), EvalProtocol(alphas=(0.05, 0.1))
    report = score(pairs, images, predictions, protocol)
    for reference in protocol.references:
        for alpha in protocol.alphas:
            told = pck_interval(hits(pairs, images, predictions, alpha=alpha, reference=reference), pairs)
            assert report.intervals[reference][f"{alpha:.2f}"] == pytest.approx((told.low, told.high), abs=1e-4)
            assert told.low < report.scores[reference]["keypoint"][f"{alpha:.2f}"] < told.high
    again = score(list(pairs), images, predictions, protocol)
    assert again == report
    assert score(pairs, images, predictions, replace(protocol, resamples=0)).intervals == {}
    assert score(pairs[:1], images, predictions, protocol).intervals["box"]["0.05"] == (0.0, 100.0)
