"""CUB-200-2011 in its official layout: a drawn tree, its pairs, and what can be wrong with one."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matchkit.core.errors import DatasetError
from matchkit.core.manifest import RuledPairs, digest, write_manifest
from matchkit.core.records import PairDataset
from matchkit.extract.datasets import cub
from matchkit.extract.datasets.cub import open_cub
from matchkit.extract.datasets.cub_files import PARTS
from matchkit.extract.images import load_image

CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
TRAINING, TESTING = 10, 4
"""Images of a class."""
EACH = TRAINING + TESTING
FIRST, SECOND = f"{CLASSES[0]}/Bird_0001", f"{CLASSES[0]}/Bird_0002"
FILES = ("images.txt", "train_test_split.txt", "bounding_boxes.txt", "parts/parts.txt", "parts/part_locs.txt")


def bird(number: int) -> str:
    return f"{CLASSES[(number - 1) // EACH]}/Bird_{number:04d}"


def tables() -> dict[str, list[str]]:
    """The lines of the files: part p of image n lies at (p + n / 4, p), and part 15 is hidden."""
    numbers = range(1, 1 + EACH * len(CLASSES))
    return {
        "images.txt": [f"{n} {bird(n)}.jpg" for n in numbers],
        "classes.txt": [f"{n} {name}" for n, name in enumerate(CLASSES, start=1)],
        "train_test_split.txt": [f"{n} {int((n - 1) % EACH < TRAINING)}" for n in numbers],
        "bounding_boxes.txt": [f"{n} 1.0 2.0 20.5 10.0" for n in numbers],
        "parts/parts.txt": [f"{p} {name}" for p, name in enumerate(PARTS, start=1)],
        "parts/part_locs.txt": [
            f"{n} {p} {p + n / 4} {float(p)} 1" if p < 15 else f"{n} 15 0.0 0.0 0"
            for n in numbers
            for p in range(1, 16)
        ],
    }


def write(root: Path, held: dict[str, list[str]]) -> None:
    for name, lines in held.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def photo(draw: Callable[[tuple[int, int], int], Image.Image], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Any photograph of 40 x 30 pixels."""
    path = tmp_path_factory.mktemp("photo") / "any.jpg"
    draw((40, 30), 0).save(path)
    return path.read_bytes()


@pytest.fixture
def root(tmp_path: Path, photo: bytes) -> Path:
    tree = tmp_path / "cub"
    write(tree, tables())
    for n in range(1, 1 + EACH * len(CLASSES)):
        path = tree / "images" / f"{bird(n)}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo)
    return tree


def edit(root: Path, file: str, line: int, text: str | None) -> None:
    lines = tables()[file]
    lines[line - 1 : line] = [] if text is None else [text]
    write(root, {file: lines})


def keys(data: PairDataset, split: str) -> set[frozenset[str]]:
    return {frozenset((pair.source, pair.target)) for pair in data.pairs(split)}


def among(numbers: list[int]) -> set[frozenset[str]]:
    """All twos of one class."""
    names = [bird(n) for n in numbers]
    return {frozenset(two) for two in combinations(names, 2) if len({name.split("/")[0] for name in two}) == 1}


def within(*places: int) -> list[int]:
    """The numbers of these places, from 1, of every class."""
    return [EACH * n + place for n in range(len(CLASSES)) for place in places]


def test_images_have_their_parts(root: Path) -> None:
    data = open_cub(root)
    assert isinstance(data, PairDataset)
    assert isinstance(data, RuledPairs)
    assert list(data.images) == sorted(data.images)
    assert len(data.images) == 42
    record = data.images[SECOND]
    assert (record.category, record.size) == (CLASSES[0], (40, 30))
    assert list(record.keypoints) == [str(p) for p in range(1, 15)]
    assert record.keypoints["3"] == (3.5, 3.0)
    assert load_image(record).size == (40, 30)


def test_every_split_is_what_its_rule_says(root: Path) -> None:
    data = open_cub(root)
    assert data.splits == ("trn", "val", "test", "test-all")
    assert keys(data, "trn") == among(within(*range(1, 9)))
    assert keys(data, "val") == among(within(9, 10))
    assert keys(data, "test") == among(within(*range(11, 15)))
    assert Counter(pair.category for pair in data.pairs("test")) == dict.fromkeys(CLASSES, 6)
    across = data.pairs("test-all")
    assert len(across) == 3 * 10
    assert {pair.category for pair in across} == {"all"}
    twos = Counter(frozenset(x.split("/")[0] for x in (pair.source, pair.target)) for pair in across)
    assert twos == {frozenset(two): 10 for two in combinations(CLASSES, 2)}
    assert {x for pair in across for x in (pair.source, pair.target)} <= {bird(n) for n in within(*range(11, 15))}


def test_of_too_many_pairs_the_smallest_hashes_are_drawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cub.PAIRS, "test", 2)
    monkeypatch.setattr(cub, "CLASS_PAIRS", 1)
    monkeypatch.setattr(cub, "ACROSS_PAIRS", 3)

    def smallest(names: Iterable[str], count: int, *, apart: bool = False) -> list[tuple[str, ...]]:
        twos = [t for t in combinations(sorted(names), 2) if not apart or t[0].split("/")[0] != t[1].split("/")[0]]
        return sorted(twos, key=lambda t: hashlib.sha256("|".join(("42", *t)).encode()).digest())[:count]

    data = open_cub(root)
    tested = {name: [bird(EACH * n + place) for place in range(11, 15)] for n, name in enumerate(CLASSES)}
    assert keys(data, "test") == {frozenset(t) for names in tested.values() for t in smallest(names, 2)}
    ((one, other),) = smallest(CLASSES, 1)
    expected = smallest([*tested[one], *tested[other]], 3, apart=True)
    assert keys(data, "test-all") == {frozenset(t) for t in expected}


def test_a_pair_has_what_both_show(root: Path) -> None:
    edit(root, "parts/part_locs.txt", 15 * 8 + 2, "9 2 0.0 0.0 0")
    edit_box = tables()["bounding_boxes.txt"]
    edit_box[8] = "9 5.25 6 7 8"
    write(root, {"bounding_boxes.txt": edit_box})
    pair = open_cub(root).pairs("val")[0]
    assert {pair.source, pair.target} == {bird(9), bird(10)}
    assert pair.id == ("00009-00010" if pair.source == bird(9) else "00010-00009")
    assert pair.keypoint_ids == ("1", *map(str, range(3, 15)))
    nine, ten = (pair.source_points, pair.target_points)[:: 1 if pair.source == bird(9) else -1]
    assert nine[1].tolist() == [5.25, 3]
    assert ten[1].tolist() == [5.5, 3]
    boxes = {pair.source: pair.source_box, pair.target: pair.target_box}
    assert boxes == {bird(9): (5.25, 6, 12.25, 14), bird(10): (1, 2, 21.5, 12)}


@pytest.mark.parametrize(("shown", "pairs"), [(3, 1), (2, 0)])
def test_a_pair_shares_three_parts(root: Path, shown: int, pairs: int) -> None:
    lines = tables()["parts/part_locs.txt"]
    lines[15 * 8 : 15 * 9] = [f"9 {p} 4 4 {int(p <= shown)}" for p in range(1, 16)]
    write(root, {"parts/part_locs.txt": lines})
    assert sum(pair.category == CLASSES[0] for pair in open_cub(root).pairs("val")) == pairs


def test_a_part_outside_its_image_is_hidden_and_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(root, "parts/part_locs.txt", 1, "1 1 40.5 3 1")
    assert list(open_cub(root).images[FIRST].keypoints) == [str(p) for p in range(2, 15)]
    assert caplog.messages[-1:] == [f"{root}: 1 parts lie outside their images: taken for hidden"]


def test_no_order_of_lines_counts(root: Path, tmp_path: Path) -> None:
    def written(split: str) -> bytes:
        data = open_cub(root)
        path = tmp_path / "m.jsonl"
        write_manifest(path, data.pairs(split), dataset="cub", split=split, rule=data.pair_rule(split))
        return path.read_bytes()

    before = {split: written(split) for split in ("test", "test-all")}
    held = tables()
    for lines in held.values():
        random.Random(0).shuffle(lines)
    write(root, held)
    assert {split: written(split) for split in before} == before


def test_everyone_has_these(root: Path) -> None:
    data = open_cub(root)
    assert digest(data.pairs("test-all")) == "596c1d0e93da8d80bf9a4af19e39d732a40b63cda85c6ac5e792d1b173a7de66"
    rules = {split: data.pair_rule(split) for split in data.splits}
    assert {rule.seed for rule in rules.values()} == {42}
    assert "at most 50 pairs" in rules["test"].text
    assert "1000 twos of classes" in rules["test-all"].text


def test_one_scheme_for_every_bird(root: Path) -> None:
    data = open_cub(root)
    for category in (*CLASSES, "all"):
        scheme = data.scheme(category)
        flips = {PARTS[int(one) - 1]: PARTS[int(scheme.partner(one)) - 1] for one in map(str, range(1, 16))}
        assert flips["left eye"] == "right eye"
        assert flips["right leg"] == "left leg"
        assert flips["left wing"] == "right wing"
        assert sum(one == other for one, other in flips.items()) == 9
    with pytest.raises(DatasetError, match="cub: category 'owl' has no flip table: it is no class in"):
        data.scheme("owl")


def test_a_mask_is_where_most_people_saw_the_bird(root: Path) -> None:
    seen = np.zeros((30, 40), np.uint8)
    seen[5:10, 6:12], seen[10:12, 6:12] = 255, 102
    path = root / "segmentations" / f"{FIRST}.png"
    path.parent.mkdir(parents=True)
    for scale in (1, 255):  # there are copies with 0 and 1, too
        Image.fromarray(seen // scale).save(path)
        mask = open_cub(root).mask(FIRST)
        assert mask[5:10, 6:12].all()
        assert mask.sum() == 30
    Image.fromarray(seen[:-1]).save(path)
    with pytest.raises(DatasetError, match=r"Bird_0001\.png is 40 x 29 pixels, but its photograph 40 x 30"):
        open_cub(root).mask(FIRST)
    with pytest.raises(
        DatasetError, match=r"Bird_0002\.png is missing: .*'001.Black_footed_Albatross/Bird_0002'.*archive"
    ):
        open_cub(root).mask(SECOND)
    with pytest.raises(DatasetError, match="cub has no image 'no-such'"):
        open_cub(root).mask("no-such")


@pytest.mark.parametrize("missing", [*FILES, "images"])
def test_what_is_missing_is_named(root: Path, missing: str) -> None:
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(DatasetError, match=rf"no cub dataset in {root}: {missing} missing\. Give its folder"):
        open_cub(root)


def test_a_split_without_pairs(root: Path) -> None:
    data = open_cub(root)
    for asked in (data.pairs, data.pair_rule):
        with pytest.raises(DatasetError, match="cub has no split 'val-all'; there are: trn, val, test, test-all"):
            asked("val-all")


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("images.txt", 2, "2", "line 2 must have 2 columns divided by blanks, not 1"),
        ("images.txt", 2, "two a/b.jpg", "line 2: 'two' must be a number from 1 on"),
        ("images.txt", 2, "2 ../../b.jpg", "line 2: '../../b.jpg' must be <class>/<name>.jpg"),
        ("images.txt", 2, "2 /b.jpg", "line 2: '/b.jpg' must be <class>/<name>.jpg"),
        ("images.txt", 2, f"1 {SECOND}.jpg", f"line 2: image 1, {SECOND}.jpg, stands there twice"),
        ("images.txt", 2, f"2 {FIRST}.png", f"line 2: image 2, {FIRST}.png, stands there twice"),
        ("train_test_split.txt", 3, "3 2", "image 3 must have 0 or 1, not 2"),
        ("train_test_split.txt", 3, "99 1", "line 3: image 99 is not known"),
        ("train_test_split.txt", 3, "2 1", "line 3: image 2 stands there twice"),
        ("train_test_split.txt", 3, None, f"has no line for image 3, {CLASSES[0]}/Bird_0003.jpg"),
        ("bounding_boxes.txt", 1, "1 1 2 0 4", "image 1 has an empty box: 0 x 4"),
        ("bounding_boxes.txt", 1, "1 1 2 x 4", "line 1: could not convert string to float: 'x'"),
        ("bounding_boxes.txt", 1, "1 1 2 nan 4", "line 1: 1 2 nan 4 must be finite numbers"),
        ("bounding_boxes.txt", 1, "1 1 2 3", "line 1 must have 5 columns"),
        ("parts/part_locs.txt", 16, "2 1 4 5 2", "line 16: a part is visible, 1, or it is not, 0; not 2"),
        ("parts/part_locs.txt", 16, "2 16 4 5 1", "line 16: part 16 of image 2 is not known"),
        ("parts/part_locs.txt", 16, "1 15 4 5 1", "line 16: part 15 of image 1 stands there twice"),
        ("parts/parts.txt", 7, "7 right eye", "line 7: part 7 must be 'left eye', not 'right eye'"),
        ("parts/parts.txt", 7, None, "part 7 must be 'left eye', not 'missing'"),
    ],
)
def test_a_bad_line(root: Path, file: str, line: int, text: str | None, message: str) -> None:
    edit(root, file, line, text)
    with pytest.raises(DatasetError) as caught:
        _ = open_cub(root).images
    assert f"{root / file}" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_lines(root: Path, data: bytes) -> None:
    (root / "images.txt").write_bytes(data)
    with pytest.raises(DatasetError, match=r"images\.txt is (empty|not a text in UTF-8)"):
        _ = open_cub(root).images


def test_a_photograph_that_is_missing(root: Path) -> None:
    (root / "images" / f"{FIRST}.jpg").unlink()
    with pytest.raises(DatasetError, match=r"Bird_0001\.jpg is missing"):
        _ = open_cub(root).images
