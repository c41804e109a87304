"""Looking after stores: what the verbs return, and what they refuse."""

import json
from pathlib import Path

import pytest
import torch

from matchkit.cache.layout import image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.pipelines.caches import du, gc, info, ls, verify

LAYERS = (LayerSpec("up0", 4, (2, 2)), LayerSpec("up0.0", 3, (4, 4)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (0, 100), (16, 16), "stretch", "int8", {"prompt": ""})


def fill(path: Path | str, spec: FeatureSpec = SPEC, images: int = 3) -> None:
    with FeatureStore.create(path, spec, [f"cat/{number}" for number in range(4)]) as store:
        for number in range(images):
            shapes = {layer.name: (len(spec.timesteps), layer.channels, *layer.grid) for layer in spec.layers}
            store.write(f"cat/{number}", {name: torch.randn(shape) for name, shape in shapes.items()})
        store.finalize()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fill(tmp_path / "features/toy/pixels.zarr")
    return tmp_path / "features/toy/pixels.zarr"


def damage(store: Path) -> None:
    """Of cat/1."""
    path = store / "up0/c.0.0.0.0.0"
    content = bytearray(path.read_bytes())
    content[2 * 4 * 4 + 5] ^= 1
    path.write_bytes(content)


def on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_all_stores_below_a_folder(store: Path) -> None:
    derived = SPEC.derive(dtype="fp16", timesteps=(100,), layers=LAYERS[:1])
    fill(store.with_name("derived.zarr"), derived, images=4)
    fill(store.parents[1] / "other/broken.zarr")
    (store.parents[1] / "other/broken.zarr/zarr.json").write_text('{"attributes": {"matchkit": 3')
    (store.parents[1] / "group").mkdir()
    (store.parents[1] / "group/zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    (store.parents[1] / "loop").symlink_to(store.parents[1])
    broken, child, parent = ls(str(store.parents[1]))
    assert (parent.store, parent.images, parent.rows, parent.problem) == (str(store), 3, 4, "")
    assert (parent.layers, parent.timesteps, parent.dtype, parent.derived_from) == (2, 2, "int8", "")
    assert (parent.digest, parent.bytes) == (SPEC.digest(), on_disk(store))
    assert (child.images, child.layers, child.timesteps, child.dtype) == (4, 1, 1, "fp16")
    assert (child.digest, child.derived_from) == (derived.digest(), SPEC.digest())
    assert "is no JSON" in broken.problem
    assert ls(str(store)) == [parent]


def test_no_folder_and_no_stores(tmp_path: Path) -> None:
    assert ls(str(tmp_path)) == []
    with pytest.raises(StoreError, match=r"no folder .*none\. Run: matchkit extract"):
        ls(str(tmp_path / "none"))


def test_what_a_store_holds(store: Path) -> None:
    with FeatureStore.open(store) as writer:
        writer.note("measured", {"PCK": 51.0})
        told = info(str(store))
        assert len(told.writers) == 1
    assert (told.digest, told.images, told.rows, told.compressed) == (SPEC.digest(), 3, 4, False)
    assert (told.bytes_an_image, told.notes) == (image_bytes(SPEC), {"measured": {"PCK": 51.0}})
    assert FeatureSpec.from_json(told.spec) == SPEC
    again = info(str(store))
    assert again.writers == ()
    assert (again.bytes, again.files) == (on_disk(store), len([x for x in store.rglob("*") if x.is_file()]))


def test_what_each_layer_takes(store: Path) -> None:
    told = du(str(store))
    parts = {part.name: part for part in told.parts}
    assert list(parts) == ["up0", "up0.0", "ledger", "metadata"]
    for layer in ("up0", "up0.0"):  # the scales of int8 belong to their layer, and up0.0 does not belong to up0
        assert parts[layer].bytes == on_disk(store / layer) + on_disk(store / f"{layer}.scale")
        assert parts[layer].files == 4
        assert parts[layer].bytes_an_image == parts[layer].bytes // 3
    assert parts["metadata"].bytes == (store / "zarr.json").stat().st_size
    assert (told.images, told.total.bytes) == (3, on_disk(store))
    fill(store.with_name("empty.zarr"), images=0)
    assert du(str(store.with_name("empty.zarr"))).total.bytes_an_image == 0


def test_an_undamaged_store(store: Path) -> None:
    told = verify(str(store), repair=False)
    assert (told.images, told.rows, told.repaired, told.withdrawn) == (3, 4, (), ())
    assert verify(str(store), repair=True) == told


def test_findings_are_refused_with_the_command(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(store)
    with pytest.raises(
        StoreError,
        match=r"pixels\.zarr: 1 finding, 1 damaged image: up0/c\.0\.0\.0\.0\.0 \(image 'cat/1'\) is not what was "
        r"written \(timesteps 0\)\. Run: matchkit cache verify --repair .*pixels\.zarr$",
    ):
        verify(str(store), repair=False)
    assert not caplog.records
    for number in range(5):
        (store / f"up0/note{number}").touch()
    with pytest.raises(StoreError, match=r": 6 findings, 1 damaged image: .*; .*; .*; and 3 more\. Run: .* --repair"):
        verify(str(store), repair=False)
    assert len(caplog.records) == 6  # all of them are logged where the error cannot tell them


def test_the_remedy_of_harmless_findings_is_milder(store: Path) -> None:
    (store / "up0/note").touch()
    with pytest.raises(
        StoreError, match=r": 1 finding: up0/note belongs to no complete image\. Run: matchkit cache gc "
    ):
        verify(str(store), repair=False)


def test_a_repaired_store(store: Path) -> None:
    damage(store)
    (store / "up0/note").touch()
    told = verify(str(store), repair=True)
    assert (told.images, len(told.repaired), told.withdrawn) == (2, 2, ("cat/1",))
    assert verify(str(store), repair=False).images == 2


def test_a_damaged_ledger_takes_two_rounds(store: Path) -> None:
    damage(store)
    path = store / "ledger/c.0.0"
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 4096])
    told = verify(str(store), repair=True)
    assert told.withdrawn == ("cat/1",)
    assert any("ledger/c.0.0" in finding for finding in told.repaired)
    assert FeatureStore.open(store).ids == ["cat/0"]
    assert verify(str(store), repair=False).images == 1


def test_what_is_lost_has_another_remedy(store: Path) -> None:
    path = store / "up0.scale/zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_type": "float32"}))
    (store / "up0.scale/c.0.0.0.0").unlink()
    for repair in (False, True):
        with pytest.raises(StoreError, match="Restore it from a copy, or make the store anew"):
            verify(str(store), repair=repair)


def test_what_is_freed(store: Path) -> None:
    (store / "up0/note").write_bytes(bytes(77))
    collected = gc(str(store), break_claims=False)
    assert (collected.files, collected.bytes) == (1, 77)


def test_a_store_in_a_bucket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"memory://{tmp_path.name}/pixels.zarr"
    fill(url)
    (listed,) = ls(url)
    assert (listed.store, listed.images) == (url, 3)
    assert info(url).bytes == du(url).total.bytes == listed.bytes
    assert verify(url, repair=False).images == 3
    store = FeatureStore.open(url)
    assert store.place.claim("writer", 0)
    (writer,) = info(url).writers
    assert "if that process is dead, run: matchkit cache gc --break-claims" in writer
    with pytest.raises(StoreError, match="is being written"):
        gc(url, break_claims=False)
    assert gc(url, break_claims=True).files == 0
    assert "took writer 0 of" in caplog.text
