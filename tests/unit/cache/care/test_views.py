"""Arrays by their metadata: our own, other programs', damaged; each told from the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from matchkit.cache.care.repair import repair
from matchkit.cache.care.survey import Survey
from matchkit.cache.care.sweep import clean
from matchkit.cache.care.verify import verify
from matchkit.cache.care.views import views
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

Change = Callable[[dict[str, Any]], object]


def only(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shelf", kinds, indirect=True)


def places(path: Path) -> set[tuple[str, str]]:
    return {(finding.kind, finding.where) for finding in verify(path)}


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def changed(path: Path, change: Change) -> None:
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


def sharding(described: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = described["codecs"][0]["configuration"]
    return found


CHANGES: dict[str, Change] = {
    "fewer rows": lambda x: x["shape"].__setitem__(0, 3),
    "more rows": lambda x: x["shape"].__setitem__(0, 99),
    "other shape": lambda x: x["shape"].__setitem__(4, 4),
    "no shape": lambda x: x.pop("shape"),
    "other type": lambda x: x.update(data_type="float64"),
    "other shards": lambda x: x["chunk_grid"]["configuration"]["chunk_shape"].__setitem__(0, 17),
    "other chunks": lambda x: sharding(x)["chunk_shape"].__setitem__(1, 3),
    "unknown codec": lambda x: sharding(x)["index_codecs"][1].update(name="crc33c"),
    "other place": lambda x: sharding(x).update(index_location="start"),
    "needless key": lambda x: sharding(x)["codecs"][0].update(configuratioN={}),
    "other names": lambda x: x["chunk_key_encoding"]["configuration"].update(separator="/"),
    "unknown key": lambda x: x.update(fill_valve=0),
    "no fill value": lambda x: x.pop("fill_value"),
    "other fill value": lambda x: x.update(fill_value=1.0),
    "other axes": lambda x: x.update(dimension_names=["image", "timestep", "h", "w", "d"]),
    "other format": lambda x: x.update(zarr_format=2),
    "attributes": lambda x: x.update(attributes=[]),
}


@only("shared fp16", "apart int8", "compressed fp16")
@pytest.mark.parametrize("damage", [*CHANGES, "gone", "empty", "no JSON"])
def test_damaged_metadata_of_an_array_is_written_anew(shelf: Any, damage: str) -> None:
    path = shelf.path / "up0.0/zarr.json"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage in ("empty", "no JSON"):
        path.write_bytes(b"" if damage == "empty" else content[:-3])
    else:
        changed(path, CHANGES[damage])
    assert shelf.seen() == {("metadata", "up0.0/zarr.json", None)}
    repair(shelf.path, verify(shelf.path))
    assert path.read_bytes() == content
    shelf.mended(withdrawn=[])


@only("apart fp16")
def test_damaged_metadata_and_damaged_maps(shelf: Any) -> None:
    (shelf.path / "up0.0/zarr.json").unlink()
    flip(shelf.path / "up0.0/c.0.0.0.0.0", 7)
    flip(shelf.path / "up0.0/c.1.0.0.0.0", -1)
    expected = {("metadata", "up0.0/zarr.json", None), ("chunk", "up0.0/c.0.0.0.0.0", "cat/0")}
    assert shelf.seen() == expected | {("index", "up0.0/c.1.0.0.0.0", None)}
    shelf.mended(withdrawn=["cat/0"])


@only("apart fp16")
def test_an_empty_array_is_our_own(shelf: Any) -> None:
    path = shelf.path.with_name("E.zarr")
    shelf.create(path).close()
    (path / "up1.0/zarr.json").write_text("{}")
    assert shelf.seen(path) == {("metadata", "up1.0/zarr.json", None)}
    repair(path, verify(path))
    assert verify(path) == []


@only("shared fp16")
def test_attributes_and_spaces_are_anybodys(shelf: Any) -> None:
    path = shelf.path / "up0.0/zarr.json"
    changed(path, lambda x: x.update(attributes={"units": "none"}))
    assert verify(shelf.path) == []
    changed(path, lambda x: x.update(fill_value=2.0))
    repair(shelf.path, verify(shelf.path))
    assert json.loads(path.read_text())["attributes"] == {"units": "none"}
    for key in ("attributes", "dimension_names", "storage_transformers"):  # zarr can do without
        changed(path, lambda x, key=key: x.pop(key))
    assert verify(shelf.path) == []


@only("shared fp16")
@pytest.mark.parametrize("change", [{"zarr_format": 2}, {"node_type": "array"}, {"node_type": None}])
def test_damaged_metadata_of_the_group(shelf: Any, change: dict[str, Any]) -> None:
    path = shelf.path / "zarr.json"
    content = path.read_bytes()
    changed(path, lambda x: x.update(change))
    assert shelf.seen() == {("metadata", "zarr.json", None)}
    shelf.mended(withdrawn=[])
    assert path.read_bytes() == content


@only("shared fp16")
@pytest.mark.parametrize("where", ["ids", "notes", "shared", "compressed", "codec_version", "crc32c"])
def test_a_damaged_attribute_is_refused(shelf: Any, where: str) -> None:
    with FeatureStore.open(shelf.path) as store:
        store.note("measured", 1.5)
    text = (shelf.path / "zarr.json").read_text()
    attribute = json.loads(text)["attributes"]["matchkit"]
    others = {"ids": [*attribute["ids"][:4], "cat/7", *attribute["ids"][5:]], "notes": {"measured": 1.75}}
    others |= {"shared": {}, "compressed": True, "codec_version": 2, "crc32c": attribute["crc32c"] ^ 1}
    changed(shelf.path / "zarr.json", lambda x: x["attributes"]["matchkit"].update({where: others[where]}))
    for opening in (verify, FeatureStore.open):
        with pytest.raises(StoreError, match=r"its zarr\.json was edited or damaged.* Restore it from a copy"):
            opening(shelf.path)


@only("apart int8")
def test_an_array_of_another_program_is_read_as_it_lies(shelf: Any) -> None:
    group = zarr.open_group(shelf.path, mode="r+")
    values = np.asarray(group["up0.0"][:])
    shutil.rmtree(shelf.path / "up0.0")
    group.create_array("up0.0", shape=values.shape, dtype=values.dtype, chunks=(1, 1, 2, 3, 5))[:] = values
    (shelf.path / "up0.0/c/0/anything").write_text("not to be removed")
    assert verify(shelf.path) == []
    clean(shelf.path)
    assert (shelf.path / "up0.0/c/0/anything").exists()
    found, wrong = views(Survey.open(shelf.path))
    assert (found["up0.0"], found["up1.0"], wrong) == ("zarr", "bytes", [])
    chunk = shelf.path / "up0.0/c/3/2/0/0/0"
    content = chunk.read_bytes()
    for damaged in (b"", content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]):
        chunk.write_bytes(damaged)
        assert shelf.seen() == {("lost", "up0.0/c.3.0.0.0.0", "cat/3")}
    chunk.unlink()
    assert shelf.seen() == {("lost", "up0.0/c.3.0.0.0.0", "cat/3")}
    with pytest.raises(StoreError, match=r"cannot be repaired here, the first: up0\.0/c\.3.* Restore it from a copy"):
        repair(shelf.path, verify(shelf.path))
    chunk.write_bytes(content)
    (shelf.path / "up0.0/zarr.json").write_text("{}")
    assert shelf.seen() == {("lost", "up0.0/zarr.json", None)}


def test_statics_that_are_damaged_cannot_be_replaced(tmp_path: Path) -> None:
    spec = FeatureSpec("pixels", "none", (LayerSpec("up0.0", 5, (2, 3)),), (460, -1, 60), (48, 32), "stretch", "pca-2")
    statics = {"up0.0.basis": torch.eye(5)[:2].repeat(3, 1, 1), "up0.0.mean": torch.zeros(3, 5)}
    path = tmp_path / "P.zarr"
    with FeatureStore.create(path, spec, ["a"], statics=statics) as store:
        store.write("a", {"up0.0": torch.randn(3, 5, 2, 3)})
        store.finalize()
    assert verify(path) == []
    described = json.loads((path / "up0.0.mean/zarr.json").read_text())
    (path / "up0.0.mean/zarr.json").write_text(json.dumps(described | {"fill_value": 1.0}))
    assert places(path) == {("metadata", "up0.0.mean/zarr.json")}
    repair(path, verify(path))
    assert json.loads((path / "up0.0.mean/zarr.json").read_text()) == described
    flip(path / "up0.0.basis/c.0.0.0", 5)
    assert places(path) == {("lost", "up0.0.basis")}
    with pytest.raises(StoreError, match=r"up0\.0\.basis is damaged or gone.*Restore it from a copy"):
        repair(path, verify(path))
    with pytest.raises(StoreError, match="no image can be decoded without it"):
        FeatureStore.open(path)
