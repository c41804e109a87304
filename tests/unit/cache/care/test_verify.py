"""Every kind of damage: made in a real store, found with the right remedy, repaired, and gone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from matchkit.cache.care.repair import repair
from matchkit.cache.care.verify import verify
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec

LAYERS = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
IDS = [f"cat/{number}" for number in range(18)]
COMPLETE = IDS[:17]
Places = set[tuple[str, str, str | None]]


def only(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shelf", kinds, indirect=True)


def flip(path: Path, position: int, mask: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= mask
    path.write_bytes(content)


def test_nothing_is_wrong_with_a_store_as_it_was_written(shelf: Any) -> None:
    assert verify(shelf.path) == []
    told: list[tuple[int, int]] = []
    verify(str(shelf.path), progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, told[-1][1])
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] > 0


def test_an_unfinished_store_is_nothing_wrong(shelf: Any) -> None:
    path = shelf.path.with_name("G.zarr")
    with shelf.create(path) as store:
        assert verify(path) == []
        store.write("cat/0", shelf.maps(0))
        assert verify(path) == []
    partial = {("partial", f"{name}/c.0.0.0.0.0.partial", None) for name in ("up0.0", "up1.0")}
    if shelf.spec.dtype == "int8":
        partial |= {("partial", f"{name}.scale/c.0.0.0.0.partial", None) for name in ("up0.0", "up1.0")}
    assert shelf.seen(path) == (partial if shelf.kind == "shared" else set())


def test_a_flipped_bit_in_a_map(shelf: Any) -> None:
    size = 3 * 2 * 3 * 5 * (1 if shelf.spec.dtype == "int8" else 2)
    flip(shelf.path / shelf.shard, 3 * size + size // 2 if shelf.kind == "shared" else 40, 16)
    assert shelf.seen() == {("chunk", shelf.shard, "cat/3")}
    (finding,) = verify(shelf.path)
    assert finding.remedy == f"Run: matchkit cache verify --repair {shelf.path}"
    if shelf.kind != "compressed":
        assert finding.detail == "timesteps -1" if shelf.kind == "shared" else "timesteps 460"
    shelf.mended(withdrawn=["cat/3"])


def test_every_timestep_of_it_is_named(shelf: Any) -> None:
    path = shelf.path / ("up0.0/c.1.0.0.0.0" if shelf.kind == "shared" else "up0.0/c.16.0.0.0.0")
    index = 4 + 16 * 3 * (16 if shelf.kind == "shared" else 1)
    content = path.read_bytes()
    damaged = bytes(255 - byte for byte in content[:-index])
    path.write_bytes(damaged + content[-index:])
    (finding,) = verify(shelf.path)
    assert finding.detail == "timesteps 460, -1, 60"


@pytest.mark.parametrize("kept", [0, 1, 50])
def test_a_shard_that_is_gone_or_cut_short(shelf: Any, kept: int) -> None:
    path = shelf.path / shelf.shard
    content = path.read_bytes()
    path.unlink()
    if kept:
        path.write_bytes(content[:kept])
    assert shelf.seen() == {("shard", shelf.shard, image_id) for image_id in shelf.together}
    shelf.mended(withdrawn=shelf.together)


@only("apart fp16", "shared fp16", "shared int8")
@pytest.mark.parametrize("damage", ["flip", "checksum", "short", "long", "none"])
def test_a_damaged_index_around_undamaged_maps(shelf: Any, damage: str) -> None:
    path = shelf.path / shelf.shard
    content = path.read_bytes()
    index = 4 + 16 * 3 * (16 if shelf.kind == "shared" else 1)
    if damage in ("flip", "checksum"):
        flip(path, -9 if damage == "flip" else -1)
    else:
        path.write_bytes({"short": content[:-1], "long": content + b"\0", "none": content[:-index]}[damage])
    assert shelf.seen() == {("index", shelf.shard, None)}
    shelf.mended(withdrawn=[])
    assert path.read_bytes() == content


@only("compressed fp16")
def test_compressed_maps_cannot_do_without_their_index(shelf: Any) -> None:
    flip(shelf.path / shelf.shard, -9)
    assert shelf.seen() == {("shard", shelf.shard, "cat/3")}
    shelf.mended(withdrawn=["cat/3"])


def test_a_withdrawn_image_leaves_orphans(shelf: Any) -> None:
    with FeatureStore.open(shelf.path) as store:
        store.withdraw("cat/3")
        store.withdraw("cat/16")
        scales = [f"{layer}.scale" for layer in store.layers] if shelf.spec.dtype == "int8" else []
    arrays = {name: "0.0.0.0" for name in ("up0.0", "up1.0")} | dict.fromkeys(scales, "0.0.0")
    if shelf.kind == "shared":
        expected: Places = {("slot", f"{name}/c.0.{end}", None) for name, end in arrays.items()}
        expected |= {("orphan", f"{name}/c.1.{end}", None) for name, end in arrays.items()}
    else:
        expected = {("orphan", f"{name}/c.{row}.{end}", None) for name, end in arrays.items() for row in (3, 16)}
    assert shelf.seen() == expected | {("manifest", "ledger/manifest.json", None)}
    assert repair(shelf.path, verify(shelf.path)) == ()
    assert verify(shelf.path) == []
    assert FeatureStore.open(shelf.path).ids == [image_id for image_id in IDS[:16] if image_id != "cat/3"]


def test_files_that_belong_to_nobody(shelf: Any) -> None:
    shutil.copy(shelf.path / shelf.shard, shelf.path / "up0.0/c.7777.0.0.0.0")
    for name in ("up0.0/notes.txt", "up1.0/c.0.0.0", "ledger/journal.old", "up0.0/.nfs0001", "README"):
        (shelf.path / name).write_text("mine")
    places = ["up0.0/c.7777.0.0.0.0", "up0.0/notes.txt", "up1.0/c.0.0.0", "ledger/journal.old"]
    assert shelf.seen() == {("orphan", place, None) for place in places}
    assert verify(shelf.path)[0].remedy == f"Run: matchkit cache gc {shelf.path}"
    shelf.mended(withdrawn=[])
    assert (shelf.path / "README").exists()
    assert (shelf.path / "up0.0/.nfs0001").exists()


@only("shared fp16")
def test_an_uncompleted_file_beside_the_completed_one(shelf: Any) -> None:
    (shelf.path / f"{shelf.shard}.partial").write_bytes(b"old")
    assert shelf.seen() == {("orphan", f"{shelf.shard}.partial", None)}
    shelf.mended(withdrawn=[])


@only("shared fp16", "shared int8")
def test_shards_that_wait_for_images(shelf: Any) -> None:
    path = shelf.path / "up0.0/c.1.0.0.0.0"
    content = path.read_bytes()
    path.rename(path.with_name(f"{path.name}.partial"))
    assert shelf.seen() == {("partial", "up0.0/c.1.0.0.0.0.partial", None)}
    shelf.mended(withdrawn=[])
    assert path.read_bytes() == content


def test_what_a_dead_writer_wrote_beside(shelf: Any) -> None:
    (shelf.path / "ledger/tmp.5").mkdir()
    assert verify(shelf.path) == []
    (shelf.path / "ledger/tmp.5/0").write_bytes(b"half")
    assert shelf.seen() == {("temporary", "ledger/tmp.5", None)}
    shelf.mended(withdrawn=[])
    assert not (shelf.path / "ledger/tmp.5").exists()


def test_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no feature store at"):
        verify(tmp_path / "none.zarr")
    assert list(tmp_path.iterdir()) == []
