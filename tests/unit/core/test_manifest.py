"""Manifests: one form of a list of pairs, its digest, and what was changed in a file."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matchkit.core.errors import DatasetError
from matchkit.core.manifest import PairRule, digest, manifest_digest, read_manifest, write_manifest
from matchkit.core.records import Pair

BOX = (1.0, 2.0, 30.5, 28.0)


def pair(name: str, *, points: int = 2, box: tuple[float, float, float, float] | None = BOX, shift: float = 0) -> Pair:
    source = np.asarray([[5 + shift, 6.25], [20.1, 0], [1e-5, 70000]], np.float32)[:points]
    ids = ("0", "7", "left ear")[:points]
    return Pair(name, "cat/1", f"dog/{name[:1]}", "cat", source, source[::-1].copy(), ids, box, None)


PAIRS = [pair("2-b:cat"), pair("1-a:cat", points=3, shift=0.5), pair("10-ä:cat", points=0, box=None)]
FIRST = (
    '{"pair":"1-a%3Acat","source":"cat/1","target":"dog/1","category":"cat","keypoints":["0","7","left ear"],'
    '"source_points":[[5.5,6.25],[20.1,0],[0.00001,70000]],"target_points":[[0.00001,70000],[20.1,0],[5.5,6.25]],'
    '"source_box":[1,2,30.5,28],"target_box":null'
)
SECOND = (
    '{"pair":"10-ä%3Acat","source":"cat/1","target":"dog/1","category":"cat","keypoints":[],"source_points":[],'
    '"target_points":[],"source_box":null,"target_box":null'
)
THIRD = (
    '{"pair":"2-b%3Acat","source":"cat/1","target":"dog/2","category":"cat","keypoints":["0","7"],'
    '"source_points":[[5,6.25],[20.1,0]],"target_points":[[20.1,0],[5,6.25]],"source_box":[1,2,30.5,28],"target_box":null'
)
GOLDEN = "6964ce07996b692c979d128221c1420ccd70507df82131476df59ef14346addf"
"""Of these three: what `sha256sum` says of their lines, each with the check that it says of the rest."""


def checked(told: str) -> str:
    """A line with the check of what it says."""
    return f'{told},"check":"{hashlib.sha256(told.encode()).hexdigest()[:8]}"}}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "not" / "there" / "test.jsonl"
    write_manifest(written, PAIRS, dataset="spair", split="test", rule=PairRule("drawn", seed=42))
    return written


def edit(path: Path, line: int, change: Callable[[str], str]) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[line - 1] = change(lines[line - 1])
    path.write_bytes("\n".join(lines).encode())


def rewrite(path: Path, *told: str) -> None:
    """Lines that fit their checks, below a header that fits them."""
    body = "".join(f"{checked(line)}\n" for line in told)
    header = json.loads(path.read_text(encoding="utf-8").split("\n")[0])
    header |= {"pairs": len(told), "sha256": hashlib.sha256(body.encode()).hexdigest()}
    path.write_bytes(f"{json.dumps(header)}\n{body}".encode())


def same(one: Pair, other: Pair) -> bool:
    points = (
        np.array_equal(getattr(one, x), getattr(other, x)) and getattr(other, x).dtype == np.float32
        for x in ("source_points", "target_points")
    )
    blank = {"source_points": np.zeros((0, 2), np.float32), "target_points": np.zeros((0, 2), np.float32)}
    told = [
        (x.id, x.source, x.target, x.category, x.keypoint_ids, x.source_box, x.target_box)
        for x in (replace(one, **blank), replace(other, **blank))
    ]
    return all(points) and told[0] == told[1]


def test_the_form_to_the_byte(path: Path) -> None:
    body = "".join(f"{checked(told)}\n" for told in (FIRST, SECOND, THIRD))
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    header = (
        '{"format":"matchkit-manifest","version":1,"dataset":"spair","split":"test","pairs":3,"images":3,"keypoints":5,'
        f'"rule":"drawn","seed":42,"sha256":"{sha256}"}}\n'
    )
    assert path.read_bytes() == (header + body).encode()
    assert [x.name for x in path.parent.iterdir()] == ["test.jsonl"]


def test_the_golden_digest() -> None:
    assert digest(PAIRS) == GOLDEN


def test_no_pairs_have_the_digest_of_nothing() -> None:
    assert digest([]) == hashlib.sha256(b"").hexdigest()


def test_the_order_of_pairs_does_not_count() -> None:
    assert {digest([PAIRS[n] for n in order]) for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0))} == {GOLDEN}


@pytest.mark.parametrize(
    "other",
    [
        replace(PAIRS[0], source="cat/2"),
        replace(PAIRS[0], category="dog"),
        replace(PAIRS[0], keypoint_ids=("0", "8")),
        replace(PAIRS[0], source_box=(1.0, 2.0, 30.5, float(np.nextafter(28, 29)))),
        replace(PAIRS[0], target_box=BOX),
        replace(PAIRS[0], source_points=np.nextafter(PAIRS[0].source_points, np.float32(99))),
        replace(PAIRS[0], source_points=PAIRS[0].target_points, target_points=PAIRS[0].source_points),
    ],
)
def test_whatever_is_scored_changes_the_digest(other: Pair) -> None:
    assert digest([other, *PAIRS[1:]]) != GOLDEN


def test_what_is_not_scored_does_not() -> None:
    other = replace(PAIRS[0], variations={"mirror": 1}, source_points=PAIRS[0].source_points.astype(np.float32) - 0)
    zero = replace(other, target_points=np.where(other.target_points == 0, np.float32(-0.0), other.target_points))
    assert np.signbit(zero.target_points).any()
    assert digest([zero, *PAIRS[1:]]) == GOLDEN


def test_what_a_report_calls_them() -> None:
    assert manifest_digest("spair", "test", PAIRS) == f"spair/test/{GOLDEN}"
    assert manifest_digest("my:set", "a?", []).startswith("my%3Aset/a%3F/e3b0c442")


def test_what_is_written_is_read(path: Path) -> None:
    found = read_manifest(path)
    assert (found.header.dataset, found.header.split, found.header.rule) == ("spair", "test", PairRule("drawn", 42))
    assert (found.header.pairs, found.header.images, found.header.keypoints) == (3, 3, 5)
    assert found.header.sha256 == digest(found.pairs) == GOLDEN
    assert all(same(*two) for two in zip(found.pairs, (PAIRS[1], PAIRS[2], PAIRS[0]), strict=True))


FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=40, deadline=None)
@given(
    points=arrays(np.float32, (2, 2), elements=FINITE),
    box=st.none() | st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4),
    ids=st.tuples(st.text(max_size=3), st.text(max_size=3)),
)
def test_any_pair_survives_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    points: np.ndarray,
    box: tuple[float, float, float, float] | None,
    ids: tuple[str, str],
) -> None:
    told = Pair("a|b", "x/1", "x/2", "", points, points[::-1].copy(), ids, box, box)
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    try:
        write_manifest(path, [told], dataset="d", split="s")
    except DatasetError as error:
        assert "which is no character" in str(error)  # noqa: PT017 - half of a surrogate pair
        return
    (found,) = read_manifest(path).pairs
    assert same(found, told)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([PAIRS[0], PAIRS[0]], "two pairs have the id '2-b:cat'"),
        ([replace(PAIRS[0], keypoint_ids=("0",))], "pair '2-b:cat' has not as many points as keypoints"),
        (
            [replace(PAIRS[0], source_points=PAIRS[0].source_points * np.nan)],
            "pair '2-b:cat' has a keypoint whose place",
        ),
        ([replace(PAIRS[0], source_box=(0.0, 0.0, 1.0, float("inf")))], "edges are no finite numbers"),
        ([replace(PAIRS[0], source="/home/me/cat")], "'/home/me/cat' is an absolute path"),
        ([replace(PAIRS[0], source="cat\ud800")], "which is no character: rename its file"),
    ],
)
def test_what_has_no_such_form(tmp_path: Path, pairs: list[Pair], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        write_manifest(tmp_path / "test.jsonl", pairs, dataset="spair", split="test")
    assert not list(tmp_path.iterdir())


def refused(path: Path, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("line", [2, 3, 4])
def test_a_changed_line_is_named(path: Path, line: int) -> None:
    edit(path, line, lambda text: text.replace("cat/1", "cat/2"))
    refused(path, rf"line {line} was changed: its check does not fit")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (FIRST.replace("5.5", "5.50", 1), "line 2 is not in a manifest's canonical form"),
        (FIRST.replace('"cat/1"', '"C:/cat/1"'), "line 2 is no pair of a manifest"),
        (FIRST.replace('"left ear"', '"left\\u0020ear"'), "line 2 is not in a manifest's canonical form"),
        (FIRST.replace("[5.5,6.25]", "[5.5]", 1), "line 2 is no pair of a manifest"),
        (FIRST.replace("[5.5,6.25],", "").replace(",[5.5,6.25]", ""), "has not as many points as keypoints"),
        (FIRST.replace('"source_box"', '"box"'), "line 2 is no pair of a manifest: KeyError"),
        (FIRST.replace("30.5,28", "30.5"), "line 2 is no pair of a manifest"),
        (FIRST.replace("5.5", "NaN", 1), "has a keypoint whose place is no finite number"),
        ("[1", "line 2 is no pair of a manifest"),
        ("", "line 2 is no pair of a manifest"),
    ],
)
def test_a_line_that_fits_its_check_but_is_none(path: Path, told: str, message: str) -> None:
    rewrite(path, told, SECOND, THIRD)
    refused(path, message)


def test_pairs_must_be_sorted_and_differ(path: Path) -> None:
    rewrite(path, FIRST, THIRD, SECOND)
    refused(path, "line 4: pair '10-ä%3Acat' must not stand behind '2-b%3Acat'")
    rewrite(path, FIRST, FIRST)
    refused(path, "line 3: pair '1-a%3Acat' must not stand behind '1-a%3Acat'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": 2}, "line 1 says 2 pairs, but there are 3"),
        ({"images": 4}, "line 1 says 4 images, but there are 3"),
        ({"keypoints": 6}, "line 1 says 6 keypoints, but there are 5"),
        ({"sha256": "0" * 64}, f"line 1 says that the pairs' SHA-256 is {'0' * 64}, but it is {GOLDEN}"),
        ({"format": "other"}, "line 1 is of format 'other', version 1; read are: 'matchkit-manifest', 1"),
        ({"version": 2}, "line 1 is of format 'matchkit-manifest', version 2"),
        ({"seed": "x"}, "line 1 is no header of a manifest"),
        ({"split": "a:b"}, "line 1 is no header of a manifest"),
    ],
)
def test_a_header_that_does_not_fit(path: Path, change: dict[str, object], message: str) -> None:
    edit(path, 1, lambda text: json.dumps(json.loads(text) | change))
    refused(path, message)


def test_a_pair_that_was_taken_out(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    refused(path, "line 1 says 3 pairs, but there are 2")


def test_a_file_that_was_cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])
    refused(path, "line 4 has no end: the file was cut off")
    path.write_bytes(b"")
    refused(path, "line 1 has no end")


def test_a_file_that_git_gave_other_line_ends(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    refused(path, r"line 1 ends in CR LF.*put `\*\.jsonl -text` into \.gitattributes")


def test_a_file_of_another_encoding(path: Path) -> None:
    path.write_bytes(path.read_bytes().decode().encode("latin-1"))
    refused(path, "line 3 is not in UTF-8")


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "none.jsonl", r"Run: matchkit datasets manifest NAME --split SPLIT")
    refused(tmp_path, "cannot be read")
