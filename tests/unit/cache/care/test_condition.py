"""The ledger, the journals and the manifest: what is damaged in them is found, and what can be kept is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchkit.cache.care.repair import repair
from matchkit.cache.care.verify import verify
from matchkit.cache.ledger import COMPLETE, IMAGE, ROWS, VERSION
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError

shelves = pytest.mark.parametrize("shelf", ["shared fp16", "apart int8"], indirect=True)
Rows = Callable[[np.ndarray], object]


def in_chunk(shelf: Any, change: Rows) -> None:
    path = shelf.path / "ledger/c.0.0"
    rows = np.frombuffer(path.read_bytes(), "<u4").reshape(ROWS, -1).copy()
    change(rows)
    path.write_bytes(rows.tobytes())


def repaired(shelf: Any) -> list[str]:
    """Repairs until nothing is wrong; the ids of the images that are left."""
    for _ in range(2):
        repair(shelf.path, verify(shelf.path))
    assert verify(shelf.path) == []
    ids = FeatureStore.open(shelf.path).ids
    shelf.holds(ids)
    return ids


def journal(shelf: Any) -> Path:
    """Withdraws and rewrites some images, and gives the journal of that: 6 lines."""
    with shelf.create() as store:
        store.write("cat/3", shelf.maps(3))
        store.write("cat/17", shelf.maps(17))
        store.withdraw("cat/4")
        store.write("cat/5", shelf.maps(5))
    return next((shelf.path / "ledger").glob("journal.*"))


@shelves
@pytest.mark.parametrize("length", [0, 1, 10, -1])
def test_a_part_of_the_ledger_of_wrong_length(shelf: Any, length: int) -> None:
    path = shelf.path / "ledger/c.0.0"
    content = path.read_bytes()
    row = len(content) // ROWS
    path.write_bytes(content + b"\0" if length < 0 else content[: row * length + row // 2])
    assert shelf.seen() == {("ledger", "ledger/c.0.0", None)}
    with pytest.raises(StoreError, match=r"ledger/c\.0\.0 is damaged. Run: matchkit cache verify --repair .*F\.zarr"):
        FeatureStore.open(shelf.path)
    assert repaired(shelf) == [f"cat/{number}" for number in range(length if length >= 0 else 17)]


@shelves
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[3].__setitem__(COMPLETE, 2),
        lambda rows: rows[3].__setitem__(COMPLETE, 256),
        lambda rows: rows[3].__setitem__(COMPLETE, 0),
        lambda rows: rows[3].__setitem__(VERSION, 0),
        lambda rows: rows[3].__setitem__(VERSION, 1 << 31),
        lambda rows: rows[3].__setitem__(slice(IMAGE, None), 0),
    ],
)
def test_a_row_of_the_ledger_that_no_writer_wrote(shelf: Any, change: Rows) -> None:
    in_chunk(shelf, change)
    assert ("ledger", "ledger/c.0.0", "cat/3") in shelf.seen()
    assert repaired(shelf) == [f"cat/{number}" for number in range(17) if number != 3]


@shelves
def test_rows_of_the_ledger_beyond_the_images(shelf: Any) -> None:
    in_chunk(shelf, lambda rows: rows[18].__setitem__(slice(None), rows[2]))
    shutil.copy(shelf.path / "ledger/c.0.0", shelf.path / "ledger/c.1.0")
    found = {(finding.kind, finding.where, finding.detail) for finding in verify(shelf.path)}
    assert ("ledger", "ledger/c.0.0", "row 18") in found
    assert ("ledger", "ledger/c.1.0", f"row {ROWS}") in found
    assert len(repaired(shelf)) == 17
    assert not (shelf.path / "ledger/c.1.0").exists()


@shelves
def test_a_damaged_checksum_counts_as_a_damaged_map(shelf: Any) -> None:
    in_chunk(shelf, lambda rows: rows[3].__setitem__(-1, rows[3][-1] ^ 4))
    places = {(kind, image_id) for kind, _, image_id in shelf.seen()}
    assert places == {("chunk", "cat/3"), ("manifest", None)}
    shelf.mended(withdrawn=["cat/3"])


@shelves
def test_how_often_and_from_what_an_image_was_written_is_not_known_better(shelf: Any) -> None:
    in_chunk(shelf, lambda rows: rows[3].__setitem__(VERSION, 9))
    in_chunk(shelf, lambda rows: rows[3].__setitem__(IMAGE, 9))
    assert verify(shelf.path) == []  # the next extraction takes the photograph for changed and does it again
    assert FeatureStore.open(shelf.path).stale({"cat/3": 3}) == ["cat/3"]


@shelves
def test_a_ledger_that_is_gone(shelf: Any) -> None:
    (shelf.path / "ledger/c.0.0").unlink()
    assert ("ledger", "ledger/c.0.0", None) in shelf.seen()
    assert "Restore it from a copy" in next(x for x in verify(shelf.path) if x.kind == "ledger").remedy
    for file in (shelf.path / "ledger").glob("*"):
        file.unlink() if file.is_file() else file.rmdir()
    assert ("ledger", "ledger", None) in shelf.seen()
    assert repaired(shelf) == []


@shelves
@pytest.mark.parametrize("damage", ["gone", "no JSON", "fewer rows", "more rows", "other type"])
def test_damaged_metadata_of_the_ledger(shelf: Any, damage: str) -> None:
    path = shelf.path / "ledger/zarr.json"
    content = path.read_bytes()
    described = json.loads(content)
    if damage == "gone":
        path.unlink()
    elif damage == "no JSON":
        path.write_bytes(content[:40])
    elif damage == "other type":
        path.write_text(json.dumps(described | {"data_type": "int32"}))
    else:
        rows = {"fewer rows": 16, "more rows": 19}[damage]
        path.write_text(json.dumps(described | {"shape": [rows, described["shape"][1]]}))
    assert shelf.seen() == {("metadata", "ledger/zarr.json", None)}
    shelf.mended(withdrawn=[])
    assert path.read_bytes() == content


@shelves
@pytest.mark.parametrize("change", [None, {"images": 16}, {"content": "0" * 12}, {"spec": "0" * 12}, {"more": 1}])
def test_a_manifest_that_disagrees(shelf: Any, change: dict[str, Any] | None) -> None:
    path = shelf.path / "ledger/manifest.json"
    content = path.read_bytes()
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(content) | change))
    assert shelf.seen() == {("manifest", "ledger/manifest.json", None)}
    shelf.mended(withdrawn=[])
    assert path.read_bytes() == content


@shelves
def test_a_line_that_was_cut_short(shelf: Any) -> None:
    path = journal(shelf)
    before = shelf.seen()
    with path.open("ab") as file:
        file.write(b'{"row":7,"id":"cat/7","ver')
    assert shelf.seen() == before | {("journal", f"ledger/{path.name}", None)}
    assert next(finding for finding in verify(shelf.path) if finding.kind == "journal").detail == "line 7"
    assert repaired(shelf) == [f"cat/{number}" for number in range(18) if number != 4]


@shelves
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"row":17', b'"row":16'),
        (b'"row":17', b'"row":71'),
        (b'"row":17', b'"row":1e7'),
        (b'"row":17', b'"row":-7'),
        (b'"id":"cat/17"', b'"id":"cat/16"'),
        (b'"crc32c":[', b'"crc33c":['),
        (b'"image":0', b'"imagf":0'),
        (b'"version":1,', b'"version":0,'),
        (b'"version":1,', b'"version":4294967296,'),
        (b'"crc32c":[', b'"crc32c":[7,'),
        (b'"crc32c":[', b'"crc32c":7,"a":['),
        (b'{"row":17', b'["row",17'),
    ],
)
def test_a_damaged_line_is_no_line(shelf: Any, old: bytes, new: bytes) -> None:
    path = journal(shelf)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6
    assert old in lines[2]
    lines[2] = lines[2].replace(old, new)
    path.write_bytes(b"".join(lines))
    assert ("journal", f"ledger/{path.name}", None) in shelf.seen()
    assert repaired(shelf) == [f"cat/{number}" for number in range(17) if number != 4]
