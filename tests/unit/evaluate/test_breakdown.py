"""Which keypoints belong to which part, on hand-made pairs whose answers are counted here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.breakdown import in_order, occurrence, parts
from matchkit.evaluate.protocol import Breakdown

BUS = KeypointScheme(
    groups=(("0", "1"), ("2", "3", "5", "6"), ("4", "7"), ("10", "13", "20", "23"), ("11", "14", "21", "24"))
)
"""Of GeoAware-SC §3.4; ids 8 and 9 are unused, so that a table without them has other numbers from 10 on."""


def image(name: str, shown: str = "", azimuth: int | None = None) -> ImageRecord:
    return ImageRecord(name, Path("x.jpg"), (9, 9), "bus", azimuth, {key: (1.0, 1.0) for key in shown.split()})


def pair(source: ImageRecord, target: ImageRecord, both: str) -> Pair:
    ids = tuple(both.split())
    points = np.zeros((len(ids), 2), np.float32)
    return Pair(f"{source.id}-{target.id}", source.id, target.id, "bus", points, points, ids)


def aware(source: str, target: str) -> list[str]:
    """The geometry-aware keypoints of a pair of buses that show these."""
    both = [key for key in source.split() if key in target.split()]
    images = {"a": image("a", source), "b": image("b", target)}
    found = parts("geometry", [pair(images["a"], images["b"], " ".join(both))], images, {"bus": BUS})
    mask = found.get("aware", np.zeros(len(both), bool))
    assert np.array_equal(found.get("other", np.zeros(len(both), bool)), ~mask)
    return [key for key, chosen in zip(both, mask, strict=True) if chosen]


def test_two_of_a_group_in_the_target_make_their_keypoints_ambiguous() -> None:
    assert aware("2 5 4 10", "2 5 4 10") == ["2", "5"]
    assert aware("2 3 5 6 4 7", "2 3 5 6 4 7") == ["2", "3", "5", "6", "4", "7"]


def test_the_other_member_need_not_be_visible_in_the_source() -> None:
    assert aware("2 4", "2 6 4") == ["2"]


def test_a_group_that_only_the_source_shows_is_not_ambiguous() -> None:
    assert aware("2 3 5 6 4", "2 4") == []


def test_a_keypoint_without_a_group_is_never_ambiguous() -> None:
    assert aware("12 15 16", "12 15 16") == []


def test_groups_are_of_raw_ids() -> None:
    """In columns without the unused ids 8 and 9, 11 and 14 would be 9 and 12, which share no group, and 13 be 11."""
    assert aware("11 13 14", "11 13 14") == ["11", "14"]
    assert aware("10 13", "10 13") == ["10", "13"]
    # by the place in the pair's list 0 and 1 were a group
    assert aware("20 25", "20 25") == []


def test_each_pair_is_judged_by_its_own_target() -> None:
    images = {"a": image("a", "2 3"), "b": image("b", "2")}
    pairs = [pair(images["a"], images["b"], "2"), pair(images["b"], images["a"], "2")]
    assert parts("geometry", pairs, images, {"bus": BUS})["aware"].tolist() == [False, True]


def test_what_a_dataset_does_not_tell_is_named_with_the_way_round() -> None:
    images = {"a": image("a", "2 3"), "b": image("b")}
    told = pair(images["b"], images["a"], "2")
    with pytest.raises(DatasetError, match=r"category 'bus'.*--set 'breakdowns=\[azimuth\]'"):
        parts("geometry", [told], images, {"car": BUS})
    with pytest.raises(DatasetError, match=r"which keypoints image 'b' shows.*--set 'breakdowns=\[azimuth\]'"):
        parts("geometry", [told, pair(images["a"], images["b"], "2")], images, {"bus": BUS})
    with pytest.raises(DatasetError, match=r"a viewpoint of both images.*--set 'breakdowns=\[geometry\]'"):
        parts("azimuth", [told], images, {})


def test_the_bins_of_viewpoints() -> None:
    """Azimuths 0..7 go once round; those up to 3 are one side, and their change into the others is `mirror`."""
    names = {**{str(n): image(str(n), azimuth=n) for n in range(8)}, "none": image("none")}
    ends = [("0", "0"), ("3", "2"), ("7", "0"), ("1", "7"), ("6", "1"), ("0", "4"), ("5", "none"), ("none", "2")]
    pairs = [pair(names[source], names[target], "1 2") for source, target in ends]
    found = {
        name: sorted(set((np.flatnonzero(mask) // 2).tolist()))
        for name, mask in parts("azimuth", pairs, names, {}).items()
    }
    assert found == {"0": [0], "1": [1, 2], "2": [3], "3": [4], "4": [5], "mirror": [2, 3, 4, 5]}


def test_a_bin_without_a_pair_is_left_out() -> None:
    images = {"a": image("a", azimuth=1), "b": image("b", azimuth=3)}
    found = parts("azimuth", [pair(images["a"], images["b"], "1 2 3")], images, {})
    assert {name: mask.tolist() for name, mask in found.items()} == {"2": [True, True, True]}


def test_occurrence_is_a_mean_over_categories_of_pairs_and_a_share_of_keypoints() -> None:
    """Four pairs of a category, of which one has a chosen keypoint, and one of another, which has: (25 + 100) / 2."""
    pairs = np.repeat(np.arange(5), [2, 1, 1, 1, 3])
    categories = np.repeat([0, 0, 0, 0, 1], [2, 1, 1, 1, 3])
    chosen = np.array([1, 1, 0, 0, 0, 0, 1, 0], bool)
    assert occurrence(chosen, pairs, categories) == {"pairs": 62.5, "keypoints": 37.5}


def varied(*told: dict[str, int]) -> list[Pair]:
    """Pairs of two keypoints with these variations."""
    one = image("a")
    return [replace(pair(one, one, "1 2"), variations=variations) for variations in told]


@pytest.mark.parametrize(
    ("breakdown", "field", "names"),
    [
        ("viewpoint", "viewpoint_variation", ["easy", "medium", "hard"]),
        ("scale", "scale_variation", ["easy", "medium", "hard"]),
        ("truncation", "truncation", ["none", "source", "target", "both"]),
        ("occlusion", "occlusion", ["none", "source", "target", "both"]),
        ("mirror", "mirror", ["no", "yes"]),
    ],
)
def test_what_the_dataset_says_of_a_pair(breakdown: Breakdown, field: str, names: list[str]) -> None:
    last = len(names) - 1
    pairs = varied({field: last}, {}, {field: 0, "other": 9}, {field: last})
    found = parts(breakdown, pairs, {}, {})
    assert {name: np.flatnonzero(mask).tolist() for name, mask in found.items()} == {
        **{names[0]: [4, 5], names[-1]: [0, 1, 6, 7]}
    }


def test_a_variation_that_no_pair_has_or_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        DatasetError, match=r"breakdown occlusion needs .* no pair has.*--set 'breakdowns=\[geometry\]'"
    ):
        parts("occlusion", varied({"truncation": 0}), {}, {})
    with pytest.raises(DatasetError, match=r"pair 'a-a' has mirror 2; there are 0 to 1"):
        parts("mirror", varied({"mirror": 1}, {"mirror": 2}), {}, {})


def test_parts_stand_in_the_order_of_their_numbers() -> None:
    assert in_order(["hard", "easy", "medium"]) == ["easy", "medium", "hard"]
    assert in_order(["both", "none", "target", "source"]) == ["none", "source", "target", "both"]
    assert in_order(["mirror", "1", "0"]) == ["0", "1", "mirror"]
