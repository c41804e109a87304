"""The tables of keypoints beside the datasets."""

import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.extract.datasets.schemes import schemes, to_scheme

FLIPS = {
    **{"aeroplane": 9, "bicycle": 3, "bird": 6, "boat": 6, "bottle": 5, "bus": 13, "car": 13, "cat": 6, "chair": 7},
    **{"cow": 9, "dog": 5, "horse": 8, "motorbike": 2, "person": 8, "pottedplant": 3, "sheep": 9, "train": 9},
    "tvmonitor": 6,
}
"""GeoAware-SC §3.4: flip pairs a category."""


def test_spairs_eighteen_categories() -> None:
    assert {category: len(scheme.flips) for category, scheme in schemes("spair").items()} == FLIPS


def test_spairs_raw_ids_are_kept() -> None:
    """The bus's ids 8 and 9 and the bicycle's 11 and 12 are never seen, and what is above them is not renumbered."""
    bus = schemes("spair")["bus"]
    assert [bus.partner(name) for name in ("10", "29", "4", "8")] == ["20", "28", "4", "8"]
    assert bus.groups == (
        *(("0", "1"), ("2", "3", "5", "6"), ("4", "7"), ("10", "13", "20", "23"), ("11", "14", "21", "24")),
        *(("12", "15", "22", "25"), ("16", "17", "26", "27"), ("18", "19", "28", "29")),
    )
    assert schemes("spair")["pottedplant"].groups == (("0", "1", "2", "3"), ("4", "5"), ("6", "8"))


def test_ids_lie_within_spairs_thirty_slots() -> None:
    for scheme in schemes("spair").values():
        for members in (*scheme.flips, *scheme.groups):
            assert all(0 <= int(name) < 30 for name in members)


def test_eyes_are_exchanged_but_no_group() -> None:
    cat = schemes("spair")["cat"]
    assert ("4", "5") in cat.flips
    assert cat.groups == (("2", "3"), ("9", "10", "11", "12"))


def test_every_group_is_as_large_when_mirrored() -> None:
    for dataset in ("spair", "ap10k"):
        for scheme in schemes(dataset).values():
            for group in scheme.groups:
                assert len({scheme.partner(name) for name in group}) == len(group)


def test_ap10ks_animals_have_one_scheme() -> None:
    (animal,) = schemes("ap10k").values()
    assert [animal.partner(str(number)) for number in range(17)] == [
        *("1", "0", "2", "3", "4", "8", "9", "10", "5", "6", "7", "14", "15", "16", "11", "12", "13")
    ]
    assert animal.groups == (("5", "8"), ("6", "9", "12", "15"), ("7", "10", "13", "16"), ("11", "14"))


def test_a_table_is_read_once() -> None:
    assert schemes("spair") is schemes("spair")


def test_one_key_is_enough() -> None:
    assert to_scheme({"flips": [["a", "b"]]}, where="x") == KeypointScheme(flips=(("a", "b"),))
    assert to_scheme({}, where="x") == KeypointScheme()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "x.yaml must hold flips and groups, not None"),
        ([1], r"must hold flips and groups, not \[1\]"),
        ({"flip": []}, "must hold flips and groups, not"),
        ({"flips": "ab"}, "x.yaml: flips must be a list of lists of keypoints, not 'ab'"),
        ({"flips": ["ab"]}, "x.yaml: flips must be a list of lists of keypoints"),
        ({"groups": [[1, None]]}, "x.yaml: groups must be a list of lists of keypoints"),
        ({"groups": [[True, 1]]}, "x.yaml: groups must be a list of lists of keypoints"),
        ({"flips": [["a", "b", "c"]]}, "x.yaml: flips must be pairs of keypoints"),
        ({"flips": [["a", "b"], ["c", "a"]]}, "x.yaml: keypoint 'a' stands in two pairs"),
        ({"groups": [["a"]]}, "x.yaml: a group has two keypoints or more"),
    ],
)
def test_a_table_that_is_none(table: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        to_scheme(table, where="x.yaml")
