"""What nobody needs is removed, what is complete is kept, and writers that live are left alone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from matchkit.cache.care.repair import repair
from matchkit.cache.care.survey import Survey
from matchkit.cache.care.sweep import Swept, break_claims, clean
from matchkit.cache.care.verify import verify
from matchkit.cache.places.bucket import BucketPlace
from matchkit.cache.places.local import LocalPlace
from matchkit.cache.places.place import begin_writing, open_place
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError

IDS = [f"cat/{number}" for number in range(18)]
shelves = pytest.mark.parametrize("shelf", ["shared fp16", "apart int8", "compressed fp16"], indirect=True)
apart = pytest.mark.parametrize("shelf", ["apart fp16"], indirect=True)


def names(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*")}


@shelves
def test_a_clean_store_stays_as_it_is(shelf: Any) -> None:
    before = {name: (shelf.path / name).read_bytes() for name in names(shelf.path) if (shelf.path / name).is_file()}
    assert clean(shelf.path) == Swept(0, 0)
    assert not list((shelf.path / "ledger").glob("tmp.*"))  # what writers leave empty goes too
    after = {name: (shelf.path / name).read_bytes() for name in names(shelf.path) if (shelf.path / name).is_file()}
    assert {**before, "ledger/pulse": b""} == {**after, "ledger/pulse": b""}


@shelves
def test_needless_files_go_and_their_bytes_are_told(shelf: Any) -> None:
    needless = {
        "up0.0/c.99.0.0.0.0": 100,
        "up1.0/notes": 20,
        "ledger/tmp.0/7": 3,
        "ledger/tmp.4/copy": 4,
        "ledger/x": 5,
    }
    for name, size in needless.items():
        (shelf.path / name).parent.mkdir(exist_ok=True)
        (shelf.path / name).write_bytes(bytes(size))
    assert clean(shelf.path) == Swept(5, 132)
    assert not needless.keys() & names(shelf.path)
    assert verify(shelf.path) == []
    shelf.holds(IDS[:17])


@shelves
def test_journals_are_folded_and_shards_completed(shelf: Any) -> None:
    path = shelf.path.with_name("G.zarr")
    with shelf.create(path) as store:
        for row in (0, 1, 16):
            store.write(IDS[row], shelf.maps(row))
        store.withdraw("cat/16")
    assert list(path.glob("ledger/journal.*"))
    orphans = [] if shelf.kind == "shared" else [file for file in path.rglob("c.16.*") if file.is_file()]
    swept = clean(path)
    assert (swept.files, swept.bytes > 0) == (len(orphans) or 2, True)
    assert not [name for name in names(path) if "journal" in name or "partial" in name or "/c.16." in name]
    assert verify(path) == []
    assert FeatureStore.open(path).ids == ["cat/0", "cat/1"]


@shelves
def test_nothing_is_done_while_a_writer_lives(shelf: Any) -> None:
    (shelf.path / "up0.0/notes").write_text("needless")
    with shelf.create() as store:
        assert Survey.open(shelf.path).writers() == [0]
        before = names(shelf.path)
        for action in (clean, lambda path: repair(path, verify(path))):
            with pytest.raises(StoreError, match=r"F\.zarr is being written by .* Run this again when that is done"):
                action(shelf.path)
        assert names(shelf.path) == before
        assert Survey(store.place).writers() == []  # it does not count itself
    assert Survey.open(shelf.path).writers() == []
    assert clean(shelf.path) == Swept(1, 8)


@shelves
def test_nothing_is_removed_where_the_ledger_is_damaged(shelf: Any) -> None:
    lost = shelf.path / "ledger/c.0.0"
    content = lost.read_bytes()
    for damaged in (None, content[:5000]):
        lost.unlink()
        if damaged is not None:
            lost.write_bytes(damaged)
        before = names(shelf.path)
        with pytest.raises(StoreError, match=r"what is needed in it is not known\. ledger/c\.0\.0 is damaged or gone"):
            clean(shelf.path)
        assert {name for name in before ^ names(shelf.path) if "tmp" not in name} == set()
        lost.write_bytes(content)
    assert clean(shelf.path).files == 0
    shelf.holds(IDS[:17])


@apart
def test_no_store_is_left_as_it_is(shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for action in (clean, break_claims, lambda path: repair(path, [])):
        with pytest.raises(StoreError, match="no feature store at"):
            action(tmp_path / "other")
    assert names(tmp_path / "other") == set()
    assert break_claims(shelf.path) == []


@apart
def test_what_a_writer_is_at_is_no_finding(shelf: Any) -> None:
    """A shard without a line in the ledger, a half-written file, a line without its end: all of that is work."""
    place = LocalPlace(shelf.path)
    begin_writing(place)
    assert place.claim("images", 17)
    shutil.copy(shelf.path / shelf.shard, shelf.path / "up0.0/c.17.0.0.0.0")
    (shelf.path / "ledger/tmp.0/0").write_bytes(b"half")
    (shelf.path / "ledger/journal.0.1f.jsonl").write_bytes(b'{"row":17,"id":"cat/17","ver')
    assert verify(shelf.path) == []
    place.close()
    assert shelf.seen() == {
        ("orphan", "up0.0/c.17.0.0.0.0", None),
        ("temporary", "ledger/tmp.0", None),
        ("journal", "ledger/journal.0.1f.jsonl", None),
    }


@shelves
def test_what_is_written_during_the_verification_is_no_finding(shelf: Any) -> None:
    """Images are rewritten, added and withdrawn between the reading of the ledger and that of the maps."""
    with shelf.create() as store:

        def interfere(done: int, total: int) -> None:
            if done == 0:
                for row in (3, 5, 17):
                    store.write(IDS[row], {name: -maps for name, maps in shelf.maps(row).items()})
                store.withdraw("cat/4")

        assert verify(shelf.path, progress=interfere) == []

    def finish(done: int, total: int) -> None:
        if done == 0:
            with shelf.create() as store:
                store.write("cat/4", shelf.maps(4))
                store.write("cat/6", shelf.maps(7))
                store.finalize()

    assert verify(shelf.path, progress=finish) == []
    assert verify(shelf.path) == []


@apart
def test_rows_that_are_added_are_no_finding(shelf: Any) -> None:
    def extend(done: int, total: int) -> None:
        if done == 0:
            with FeatureStore.create(shelf.path, shelf.spec, [*IDS, "new"]) as store:
                store.write("new", shelf.maps(18))
                store.finalize()

    assert verify(shelf.path, progress=extend) == []


@apart
def test_a_bucket(shelf: Any, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/F.zarr"
    shelf.fill(url)
    assert verify(url) == []
    place = open_place(url)
    content = bytearray(place.read("up0.0/c.3.0.0.0.0"))
    content[50] ^= 1
    place.put({"up0.0/c.3.0.0.0.0": [bytes(content)], "up0.0/c.17.0.0.0.0": [b"orphan"], "ledger/x": [b"?"]})
    place.put({"up1.0/c.4.0.0.0.0": [place.read("up1.0/c.4.0.0.0.0")[:-1] + b"?"]})
    place.delete(["up1.0/c.5.0.0.0.0"])
    assert shelf.seen(url) == {
        ("chunk", "up0.0/c.3.0.0.0.0", "cat/3"),
        ("shard", "up1.0/c.5.0.0.0.0", "cat/5"),
        ("index", "up1.0/c.4.0.0.0.0", None),
        ("orphan", "up0.0/c.17.0.0.0.0", None),
        ("orphan", "ledger/x", None),
    }
    assert repair(url, verify(url)) == ("cat/3", "cat/5")
    assert verify(url) == []
    assert FeatureStore.open(url).missing(IDS) == ["cat/3", "cat/5", "cat/17"]


@apart
def test_claims_of_killed_writers_in_a_bucket(shelf: Any, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/F.zarr"
    shelf.fill(url)
    killed = BucketPlace.at(url)
    assert killed.claim("writer", 0)
    assert killed.claim("images", 17)
    with pytest.raises(StoreError, match=r"being written by .* if that process is dead, run: .* gc --break-claims"):
        clean(url)
    assert [line.split(" of ")[0] for line in break_claims(url)] == ["images 17", "writer 0"]
    assert clean(url) == Swept(0, 0)
