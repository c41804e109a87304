"""AP-10K in its official layout: who is left out, what every split holds, the same for everyone; what is refused."""

import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.manifest import RuledPairs, digest, write_manifest
from matchkit.core.records import PairDataset
from matchkit.extract.datasets.ap10k import AP10K, open_ap10k
from matchkit.extract.datasets.ap10k_official import LIMITS, OfficialAP10K
from matchkit.extract.images import load_image

FILES = ("train", "val", "test")
SPECIES = {"cat": (3, "Felidae"), "king cheetah": (4, "Felidae"), "dog": (9, "Canidae")}
CATS, CHEETAHS, DOGS = range(1, 56), range(56, 59), range(59, 61)
CROWD, FEW, BARE = 61, 62, 63
"""A cat with a second one, a cat with two keypoints, and an image that nobody annotated."""


def name(number: int) -> str:
    species = "cat" if number in CATS else "king cheetah" if number in CHEETAHS else "dog"
    return f"{SPECIES[species][1]}/{species}/{number:012d}"


def annotation(number: int, species: str, *, shown: int = 17, again: int = 0) -> dict[str, Any]:
    points = [[number % 30 + n, n, 2] if n < shown else [0, 0, 0] for n in range(17)]
    return {
        **{"id": 1000 * again + number, "image_id": number, "category_id": SPECIES[species][0], "iscrowd": 0},
        **{"bbox": [1, 2, 20.5, 10], "keypoints": [x for point in points for x in point], "num_keypoints": shown},
    }


def write(root: Path, images: list[Any], annotations: list[Any], categories: list[Any]) -> None:
    """Deals them out to the three files, in their order."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    for part, file in enumerate(FILES):
        held = [image["id"] for image in images[part::3]]
        told = {
            **{"info": {}, "images": images[part::3], "categories": categories},
            **{"annotations": [told for told in annotations if told["image_id"] in held]},
        }
        (root / "annotations" / f"ap10k-{file}-split1.json").write_text(json.dumps(told))


def contents() -> tuple[list[Any], list[Any], list[Any]]:
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 50, "height": 40} for n in range(1, BARE + 1)]
    annotations = [annotation(n, name(n).split("/")[1]) for n in (*CATS, *CHEETAHS, *DOGS)]
    annotations += [annotation(CROWD, "cat"), annotation(CROWD, "cat", again=1), annotation(FEW, "cat", shown=2)]
    categories = [{"id": id, "name": species, "supercategory": f} for species, (id, f) in SPECIES.items()]
    return images, annotations, categories


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "ap-10k", *contents())
    return tmp_path / "ap-10k"


def edit(root: Path, field: str, change: Callable[[Any], None], *, file: str = "train") -> Path:
    """Changes the first entry of a list of a file."""
    path = root / "annotations" / f"ap10k-{file}-split1.json"
    data = json.loads(path.read_text())
    change(data[field][0])
    path.write_text(json.dumps(data))
    return path


def keys(data: PairDataset, split: str) -> set[frozenset[str]]:
    return {frozenset((pair.source, pair.target)) for pair in data.pairs(split)}


def two(ones: range, others: range) -> set[frozenset[str]]:
    return {frozenset((name(one), name(other))) for one, other in product(ones, others) if one != other}


def test_either_layout_is_opened(root: Path) -> None:
    data = open_ap10k(root)
    assert isinstance(data, OfficialAP10K)
    assert isinstance(data, PairDataset)
    assert isinstance(data, RuledPairs)
    for folder in (
        "JPEGImages",
        "ImageAnnotation",
        "PairAnnotation",
    ):  # beside annotations, as the preparation leaves it
        (root / folder).mkdir()
    assert isinstance(open_ap10k(root), AP10K)


def test_an_image_is_named_as_in_a_prepared_tree(
    root: Path, draw: Callable[[tuple[int, int], int], Image.Image]
) -> None:
    draw((50, 40), 0).save(root / "data" / f"{57:012d}.jpg")
    images = open_ap10k(root).images
    assert list(images) == sorted(name(n) for n in (*CATS, *CHEETAHS, *DOGS))
    record = images["Felidae/king cheetah/000000000057"]
    assert (record.category, record.size, record.keypoints["3"]) == ("king cheetah", (50, 40), (30.0, 3.0))
    assert load_image(record).size == (50, 40)


def test_who_is_left_out_is_counted_and_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = open_ap10k(root)
    assert isinstance(data, OfficialAP10K)
    with caplog.at_level(logging.INFO):
        assert data.left_out == {
            "without an annotation": 1,
            "of several animals": 1,
            "with fewer than 3 keypoints": 1,
        }
    assert caplog.messages == [
        f"{root}: 60 of 63 images are used; left out: 1 without an annotation; 1 of several animals; "
        "1 with fewer than 3 keypoints"
    ]


def test_the_published_list_says_who_is_several(root: Path) -> None:
    (root / "ap-10k_is_crowd.txt").write_text("000000000059\n12\n\n")
    data = open_ap10k(root)
    assert isinstance(data, OfficialAP10K)
    assert data.left_out["of several animals"] == 2
    assert name(59) not in data.images
    assert name(12) not in data.images
    assert f"Felidae/cat/{CROWD:012d}" in data.images
    assert "images of ap-10k_is_crowd.txt (2) left out" in data.pair_rule("test").text


def test_of_several_annotations_the_first_by_number_counts(root: Path) -> None:
    (root / "ap-10k_is_crowd.txt").write_text("1")
    images, annotations, categories = contents()
    annotations[-2]["keypoints"][0] = 7.0  # the second of the crowd
    for n in (1, -1):
        write(root, images, annotations[::n], categories)
        assert open_ap10k(root).images[f"Felidae/cat/{CROWD:012d}"].keypoints["0"] == (1.0, 0.0)


def test_every_split_is_what_the_preparation_says(root: Path) -> None:
    data = open_ap10k(root)
    assert data.splits == ("trn", "val", "test", "test-family", "test-all")
    assert keys(data, "trn") == two(range(1, 6), range(1, 6))
    assert keys(data, "val") == two(range(6, 26), range(6, 26))
    cats = range(26, 56)
    assert keys(data, "test") == two(cats, cats) | two(CHEETAHS, CHEETAHS) | two(DOGS, DOGS)
    assert keys(data, "test-family") == two(cats, CHEETAHS)
    assert keys(data, "test-all") < two(range(26, 59), DOGS)
    assert {split: len(data.pairs(split)) for split in data.splits} == {
        **{"trn": 10, "val": 190, "test": 435 + 3 + 1, "test-family": 90, "test-all": 30}
    }
    assert Counter(pair.category for pair in data.pairs("test")) == {"cat": 435, "king cheetah": 3, "dog": 1}
    assert {pair.category for pair in data.pairs("test-family")} == {"Felidae"}
    assert {pair.category for pair in data.pairs("test-all")} == {"all"}


@pytest.mark.parametrize(("kind", "part", "split"), [("species", "trn", "trn"), ("family", "test", "test-family")])
def test_of_too_many_pairs_the_smallest_hashes_are_drawn(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str, part: str, split: str
) -> None:
    """Fifty pairs an image never run out on a small tree, so that the limit is lowered."""
    monkeypatch.setitem(LIMITS[kind], part, 1)
    ids = [name(n) for n in range(1, 6)] if split == "trn" else [name(n) for n in (*range(26, 56), *CHEETAHS)]
    fit = [t for t in combinations(sorted(ids), 2) if split == "trn" or len({x.split("/")[1] for x in t}) == 2]
    expected = sorted(fit, key=lambda t: hashlib.sha256(f"42|{t[0]}|{t[1]}".encode()).digest())
    assert keys(open_ap10k(root), split) == {frozenset(t) for t in expected[: 5 if split == "trn" else 1]}


def test_the_drawn_ones_and_which_is_the_source(root: Path) -> None:
    pairs = open_ap10k(root).pairs("test-all")
    hashes = {
        t: hashlib.sha256(f"42|{t[1]}|{t[0]}".encode()).digest()
        for t in product(map(name, range(26, 59)), map(name, DOGS))
    }
    drawn = sorted(hashes, key=lambda t: hashes[t])[:30]
    assert {(pair.source, pair.target) for pair in pairs} == {t if hashes[t][-1] % 2 else t[::-1] for t in drawn}
    assert [pair.id for pair in pairs] == sorted(pair.id for pair in pairs)
    assert pairs[0].id.endswith(":all")


def test_a_pair_has_what_both_show(root: Path) -> None:
    images, annotations, categories = contents()
    annotations[58]["keypoints"][2] = 0  # the first dog hides its left eye
    annotations[59]["keypoints"][9 * 3 :] = [0] * 24
    write(root, images, annotations, categories)
    (pair,) = [pair for pair in open_ap10k(root).pairs("test") if pair.category == "dog"]
    assert set(pair.id.split(":")[0].split("-")) == {f"{n:012d}" for n in DOGS}
    assert pair.keypoint_ids == tuple(str(n) for n in range(1, 9))
    shifts = {name(n): n % 30 for n in DOGS}
    assert pair.source_points.tolist() == [[shifts[pair.source] + n, n] for n in range(1, 9)]
    assert pair.target_points.tolist() == [[shifts[pair.target] + n, n] for n in range(1, 9)]
    assert pair.source_box == pair.target_box == (1, 2, 21.5, 12)


@pytest.mark.parametrize(
    ("one", "other", "fit"),
    [
        ((2, 2, 2), (2, 2, 2), True),
        ((2, 2, 1), (2, 2, 2), False),
        ((1,) * 6, (2,) * 6, True),
        ((1,) * 11, (1,) * 11, False),
    ],
)
def test_an_occluded_keypoint_counts_half(
    root: Path, one: tuple[int, ...], other: tuple[int, ...], *, fit: bool
) -> None:
    """GeoAware-SC §6.4: the sum over keypoints of (v1 / 2)(v2 / 2) is 3 or more."""
    images, annotations, categories = contents()
    for dog, visible in ((58, one), (59, other)):
        annotations[dog]["keypoints"] = [x for n in range(17) for x in (n, n, (*visible, *[0] * 17)[n])]
    write(root, images, annotations, categories)
    assert any(pair.category == "dog" for pair in open_ap10k(root).pairs("test")) is fit


def test_a_keypoint_outside_its_image_is_hidden_and_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(root, "annotations", lambda told: told["keypoints"].__setitem__(0, 51))
    assert list(open_ap10k(root).images[name(1)].keypoints) == [str(n) for n in range(1, 17)]
    assert caplog.messages[-1] == f"{root}: 1 keypoints lie outside their images: taken for hidden"


@pytest.mark.parametrize("seed", range(3))
def test_no_order_of_a_file_counts(root: Path, tmp_path: Path, seed: int) -> None:
    held = contents()
    for some in held:
        random.Random(seed).shuffle(some)
    write(tmp_path / "other", *held)
    for split in ("trn", "test-all"):
        written = []
        for tree in (root, tmp_path / "other"):
            data = open_ap10k(tree)
            write_manifest(
                tmp_path / "m.jsonl", data.pairs(split), dataset="ap10k", split=split, rule=data.pair_rule(split)
            )
            written.append((tmp_path / "m.jsonl").read_bytes())
        assert written[0] == written[1]


def test_everyone_has_these(root: Path) -> None:
    data = open_ap10k(root)
    assert digest(data.pairs("test-all")) == "b6f749abef6f5e9db8958b78018d64fac2d566c1179c4d503a86689634638e78"
    assert data.pair_rule("test-all").seed == 42
    assert "the last 30" in data.pair_rule("test-all").text


def test_schemes_and_masks_are_those_of_a_prepared_tree(root: Path) -> None:
    data = open_ap10k(root)
    for category in ("king cheetah", "Felidae", "all"):
        assert data.scheme(category).partner("7") == "10"
    with pytest.raises(DatasetError, match="ap10k: category 'zebra' has no flip table"):
        data.scheme("zebra")
    with pytest.raises(DatasetError, match=f"ap10k has no segmentations, so none of image '{name(1)}'"):
        data.mask(name(1))


def test_a_split_without_pairs(root: Path) -> None:
    data = open_ap10k(root)
    for asked in (data.pairs, data.pair_rule):
        with pytest.raises(
            DatasetError, match="has no split 'val-all'; there are: trn, val, test, test-family, test-all"
        ):
            asked("val-all")


@pytest.mark.parametrize("missing", [*(f"annotations/ap10k-{file}-split1.json" for file in FILES), "data"])
def test_what_is_missing_is_named(root: Path, missing: str) -> None:
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=f"no ap10k dataset in {root}: {missing} missing. Give its folder"):
        open_ap10k(root)


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("annotations", {"keypoints": [1, 2, 2]}, "annotations[0]: field 'keypoints' must hold 17 times x, y and"),
        ("annotations", {"keypoints": [1, 2, 3] * 17}, "annotations[0]: field 'keypoints' must hold 17 times x, y and"),
        ("annotations", {"keypoints": ["x"] * 51}, "annotations[0]: field 'keypoints' must hold numbers"),
        ("annotations", {"keypoints": None}, "annotations[0]: field 'keypoints' must hold a list of numbers, not None"),
        ("annotations", {"bbox": [1, 2, 0, 4]}, "annotations[0]: field 'bbox' is an empty box"),
        ("annotations", {"image_id": 99}, "annotations[0]: field 'image_id' names 99: there is none"),
        ("annotations", {"category_id": 99}, "annotations[0]: field 'category_id' names 99: there is none"),
        ("annotations", {"image_id": "1"}, "annotations[0]: field 'image_id' must be an integer, not '1'"),
        ("images", {"width": 0}, "images[0]: an image of 0 x 40 pixels has nothing in it"),
        ("images", {"height": "x"}, "images[0]: field 'height' must be an integer, not 'x'"),
        ("images", {"file_name": "../1.jpg"}, "images[0]: field 'file_name' must be a plain name, not '../1.jpg'"),
        ("images", {"id": 2}, "images[0] has the id of another entry, which says otherwise"),
        ("categories", {"name": "a/b"}, "categories[0] has the id of another entry, which says otherwise"),
    ],
)
def test_a_bad_field(root: Path, field: str, change: dict[str, Any], message: str) -> None:
    edit(root, field, lambda told: told.update(change))
    with pytest.raises(DatasetError) as caught:
        _ = open_ap10k(root).images
    assert f"ap10k-{'val' if 'another entry' in message else 'train'}-split1.json: {message}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": {}}', '{"images": [1]}'])
def test_a_file_that_holds_no_annotations(root: Path, text: str) -> None:
    path = root / "annotations" / "ap10k-val-split1.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=str(path)):
        _ = open_ap10k(root).images


def test_a_list_of_what_is_no_number(root: Path) -> None:
    (root / "ap-10k_is_crowd.txt").write_text("1\ncat\n")
    with pytest.raises(DatasetError, match=r"ap-10k_is_crowd\.txt: line 2 must be an image's number, not 'cat'"):
        _ = open_ap10k(root).images


def test_nothing_to_use(root: Path) -> None:
    write(root, [], [], [])
    with pytest.raises(DatasetError, match=r"no image in .* shows one animal with 3 keypoints or more"):
        _ = open_ap10k(root).images
