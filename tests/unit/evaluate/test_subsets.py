"""Which pairs count."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.evaluate.subsets import chosen, file_digest

POINTS = np.zeros((1, 2), np.float32)
PAIRS = [
    Pair(f"{n:06d}-x-y:{category}", f"{category}/s{n}", f"{category}/t{n}", category, POINTS, POINTS, ("0",))
    for category in ("cat", "dog", "bird")
    for n in range(30 if category == "cat" else 5)
]


def names(pairs: list[Pair]) -> list[str]:
    return [pair.id for pair in pairs]


def test_so_many_of_each_category_in_their_order_whatever_the_order_of_all() -> None:
    some = chosen(PAIRS, EvalProtocol(pairs_a_category=4))
    assert [pair.category for pair in some] == ["cat"] * 4 + ["dog"] * 4 + ["bird"] * 4
    assert names(some) == [pair.id for pair in PAIRS if pair in some]
    assert set(names(chosen(PAIRS[::-1], EvalProtocol(pairs_a_category=4)))) == set(names(some))
    more = chosen(PAIRS, EvalProtocol(pairs_a_category=20))
    assert [pair.category for pair in more].count("cat") == 20
    assert set(names(some)) < set(names(more))
    assert len(more) == 30
    assert chosen(PAIRS, EvalProtocol()) == PAIRS


def test_the_lots_are_the_same_everywhere_and_always() -> None:
    """SHA-256 of the ids, so that a number of today is one of tomorrow."""
    first = chosen(PAIRS, EvalProtocol(pairs_a_category=1))
    assert names(first) == ["000001-x-y:cat", "000003-x-y:dog", "000002-x-y:bird"]


def test_pairs_of_one_viewpoint() -> None:
    turned = [replace(pair, variations={"viewpoint_variation": n % 3}) for n, pair in enumerate(PAIRS)]
    assert chosen(turned, EvalProtocol(viewpoint=2)) == turned[2::3]
    few = chosen(turned, EvalProtocol(viewpoint=0, pairs_a_category=3))
    assert [pair.category for pair in few].count("cat") == 3
    assert all(pair.variations["viewpoint_variation"] == 0 for pair in few)
    with pytest.raises(DatasetError, match="no pair has the viewpoint_variation 1"):
        chosen(PAIRS, EvalProtocol(viewpoint=1))


def test_a_list_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("000003-x-y:dog\n\n000001-x-y:cat\n000003-x-y:dog\n")
    assert names(chosen(PAIRS, EvalProtocol(subset=str(path)))) == ["000001-x-y:cat", "000003-x-y:dog"]
    assert names(chosen(PAIRS, EvalProtocol(subset=str(path), subset_digest=file_digest(path))))
    with pytest.raises(DatasetError, match=rf"{path} has the digest {file_digest(path)}, .* one with 0123456789ab"):
        chosen(PAIRS, EvalProtocol(subset=str(path), subset_digest="0123456789ab"))


def test_the_published_form_of_a_list(tmp_path: Path) -> None:
    """Hyperfeatures §6.3: an object a pair, with paths below the folder of images."""
    path = tmp_path / "test-360.json"
    told = [{"source_path": "dog/s3.jpg", "target_path": "dog/t3.jpg", "category": "dog"}]
    path.write_text(json.dumps(told))
    assert names(chosen(PAIRS, EvalProtocol(subset=str(path), pairs_a_category=20))) == ["000003-x-y:dog"]
    path.write_text(json.dumps(["000002-x-y:bird"]))
    assert names(chosen(PAIRS, EvalProtocol(subset=str(path)))) == ["000002-x-y:bird"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["000099-x-y:cat"]', "entry 1: the split has no pair '000099-x-y:cat'"),
        ('[{"source_path": "dog/s3.jpg", "target_path": "dog/t4.jpg"}]', "entry 1: the split has no pair {'source"),
        ('[{"source_path": "dog/s3.jpg"}]', "entry 1: an object needs source_path and target_path"),
        ('{"pairs": []}', "must hold a list of pairs' ids"),
        ("[3]", "must hold a list of pairs' ids"),
        ("[]", "lists no pairs"),
        ("[", "is not a list of pairs: "),
    ],
)
def test_a_list_that_does_not_fit_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf"^{path}.*{message}"):
        chosen(PAIRS, EvalProtocol(subset=str(path)))


def test_a_list_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"no list of pairs at .*none\.txt\. Give the path of one with: --set subset"
    ):
        chosen(PAIRS, EvalProtocol(subset=str(tmp_path / "none.txt")))
