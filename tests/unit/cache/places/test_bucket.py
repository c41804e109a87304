"""A place in a bucket, against a real S3 server in this process, and in memory."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchkit.cache.places import ranges
from matchkit.cache.places.bucket import BucketPlace
from matchkit.cache.places.place import Piece, Place
from matchkit.core.errors import StoreError


@pytest.fixture
def place(object_url: str) -> BucketPlace:
    """A place with nothing in it."""
    return BucketPlace.at(object_url)


def test_a_bucket_is_a_place(place: BucketPlace, object_url: str) -> None:
    assert isinstance(place, Place)
    assert (place.url, place.appends, place.shared_files, place.pulse()) == (object_url, False, False, b"")


def test_what_is_put_is_read(place: BucketPlace) -> None:
    maps = np.arange(12, dtype=np.float16).reshape(3, 4)
    files = {"up0.0/c.0": [maps, b"tail"], "empty": [], "strided": [maps[:, ::2]], "scalar": [np.array(7, np.uint32)]}
    place.put(files)
    assert place.read("up0.0/c.0") == maps.tobytes() + b"tail"
    assert place.read_all(["strided", "absent", "scalar", "empty"]) == [maps[:, ::2].tobytes(), b"", b"\7\0\0\0", b""]
    place.put({"empty": [b"no longer"]})
    assert place.read("empty") == b"no longer"
    assert BucketPlace.at(place.url).read("empty") == b"no longer"


@pytest.mark.parametrize(("start", "rest"), [(0, b"abc"), (2, b"c"), (3, b""), (9, b"")])
def test_reading_from_a_start(place: BucketPlace, start: int, rest: bytes) -> None:
    place.put({"x": [b"abc"]})
    assert place.read("x", start) == rest


def test_an_object_that_is_not_there(place: BucketPlace) -> None:
    place.put({"ledger/x": [b"abc"]})
    for name in ("x", "ledger"):
        with pytest.raises(FileNotFoundError, match=name):
            place.read(name)
        with pytest.raises(FileNotFoundError, match=name):
            place.read(name, 3)
    into = np.empty(3, np.uint8)
    with pytest.raises(FileNotFoundError, match="gone"):
        place.fill([Piece("ledger/x", 0, into), Piece("gone", 0, np.empty(3, np.uint8))])


def test_pieces_are_filled_with_their_bytes(place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "LONGEST", 3000)
    monkeypatch.setattr(ranges, "GAP", 50)
    random = np.random.default_rng(0)
    objects = {f"layer{number}/c.0": random.bytes(20_000) for number in range(5)}
    place.put({name: [data] for name, data in objects.items()})
    shapes = [(7, 11), (), (0, 5), (1,), (40, 50), (9, 500)]
    pieces = []
    for number in range(60):
        dtype = np.dtype([np.float16, np.uint8, np.float32][number % 3])
        into = np.zeros(shapes[number % len(shapes)], dtype)
        pieces.append(Piece(f"layer{number % 5}/c.0", int(random.integers(0, 20_001 - into.nbytes)), into))
    place.fill(pieces)
    for piece in pieces:
        assert piece.into.tobytes() == objects[piece.name][piece.offset :][: piece.into.nbytes]


def test_near_pieces_share_a_request_and_long_ones_are_split(s3_server: Any, bucket_url: str) -> None:
    place = BucketPlace.at(bucket_url)
    data = np.random.default_rng(0).bytes(3 * ranges.LONGEST)
    place.put({"long": [data], "short": [data[:1000]]})
    before = len(s3_server.seen)
    near = [Piece("short", offset, np.empty(10, np.uint8)) for offset in range(0, 1000, 20)]
    place.fill(near)
    assert len(s3_server.seen) - before == 1
    into = np.empty(len(data) - 1, np.uint8)
    place.fill([Piece("long", 1, into)])
    assert len(s3_server.seen) - before == 1 + 3
    assert into.tobytes() == data[1:]
    assert b"".join(piece.into.tobytes() for piece in near) == b"".join(data[at : at + 10] for at in range(0, 1000, 20))


def test_requests_run_at_the_same_time_but_not_too_many(
    s3_server: Any, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = BucketPlace.at(bucket_url)
    place.put({f"c.{number}": [b"abc"] for number in range(100)})
    monkeypatch.setattr(s3_server, "most", 0)
    monkeypatch.setattr(s3_server, "delay", 0.03)
    place.fill([Piece(f"c.{number}", 0, np.empty(3, np.uint8)) for number in range(100)])
    assert 8 < s3_server.most <= ranges.REQUESTS


@pytest.mark.parametrize("offset", [0, 4, 5, 90])
def test_an_object_that_is_too_short(place: BucketPlace, offset: int) -> None:
    place.put({"x": [b"abcde"]})
    pieces = [Piece("x", 0, np.empty(2, np.uint8)), Piece("x", offset, np.empty(9, np.uint8))]
    with pytest.raises(EOFError, match="x"):
        place.fill(pieces)


def test_memory_that_is_not_contiguous_is_refused(place: BucketPlace) -> None:
    place.put({"x": [b"abcde"]})
    with pytest.raises(ValueError, match="contiguous"):
        place.fill([Piece("x", 0, np.empty(4, np.uint8)[::2])])


def test_nothing_runs_any_more_when_a_failure_is_told() -> None:
    begun, ended = [], []

    def slow() -> None:
        begun.append(1)
        time.sleep(0.05)
        ended.append(1)

    def fail() -> None:
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        ranges.together([slow, slow, fail, *[slow] * 100])
    assert 2 <= len(begun) == len(ended) < 102


def test_a_line_is_appended_as_a_new_object(place: BucketPlace) -> None:
    place.append("ledger/journal.0.1", b"line\n")
    with pytest.raises(StoreError, match=r"journal\.0\.1 is there already"):
        place.append("ledger/journal.0.1", b"other\n")
    assert place.read("ledger/journal.0.1") == b"line\n"


def test_a_lost_answer_is_no_other_writer(s3_server: Any, bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = BucketPlace.at(bucket_url)
    monkeypatch.setattr(s3_server, "lost", 1)
    place.append("ledger/journal.0.1", b"line\n")
    assert s3_server.lost == 0
    monkeypatch.setattr(s3_server, "lost", 1)
    assert place.claim("writer", 0)
    assert s3_server.lost == 0


def test_only_the_objects_directly_in_a_folder_are_listed(place: BucketPlace) -> None:
    place.put({name: [name.encode()] for name in ("zarr.json", "a/x", "a/yy", "a/b/z", "ab/x")})
    assert place.sizes("") == {"zarr.json": 9}
    assert place.sizes("a") == {"x": 3, "yy": 4}
    assert place.sizes("c") == {}


def test_objects_that_stand_for_folders_are_not_listed(s3_server: Any, bucket_url: str) -> None:
    path = bucket_url.removeprefix("s3:/")
    for marker in (f"{path}/", f"{path}/a/"):
        s3_server.ask("PUT", marker, b"")
    place = BucketPlace.at(bucket_url)
    place.put({"a/x": [b"1"], "zarr.json": [b"{}"]})
    assert place.sizes("a") == {"x": 1}
    assert place.sizes("") == {"zarr.json": 2}


def test_a_place_is_empty_until_something_is_put(place: BucketPlace) -> None:
    assert place.is_empty()
    place.claim("layout")
    assert place.is_empty()
    place.put({"up0.0/zarr.json": [b"{}"]})
    assert not place.is_empty()


def test_what_is_deleted_is_gone_and_what_is_not_there_is_passed_over(place: BucketPlace) -> None:
    place.put({"a/x": [b"1"], "a/y": [b"2"], "b": [b"3"]})
    place.delete(["absent", "a/x", "a/absent", "b"])
    assert place.sizes("a") == {"y": 1}
    assert place.sizes("") == {}
    place.delete([])


def test_deleting_where_the_store_complains_of_absent_objects(tmp_path: Path) -> None:
    from obstore.store import LocalStore

    place = BucketPlace("like Google's", LocalStore(tmp_path))
    place.put({name: [b"1"] for name in "abc"})
    place.delete(["absent", "a", "b"])
    assert place.sizes("") == {"c": 1}
