"""The store's promises: what goes in comes out, complete or absent, under one spec, and damage is found."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr

from matchkit.cache.places.local import PARTIAL
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import SpecMismatchError, StoreError
from matchkit.core.spec import FeatureSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]
Same = Callable[[Maps, Maps], bool]


def shard(store: FeatureStore, layer: int, row: int) -> Path:
    """The file that holds an image's maps of a layer, complete or not."""
    path = Path(str(store)) / store._reader.arrays[layer].file(row)
    return path if path.exists() else path.with_name(f"{path.name}{PARTIAL}")


def test_what_goes_in_comes_out(store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same) -> None:
    for finalized in (False, True):
        if finalized:
            store.finalize()
        for reader in (store, FeatureStore.open(Path(str(store))), FeatureStore.open(str(store), spec)):
            assert reader.ids == ["a", "b", "c"]
            assert (reader.layers, reader.timesteps) == (("up0.0", "up1.0"), (460, -1, 60))
            for seed, image_id in enumerate("abc"):
                assert same(reader.read(image_id), random_maps(spec, seed))


def test_maps_are_views_of_channels_last_memory(store: FeatureStore) -> None:
    values = store.read("a")["up0.0"]
    assert values.shape == (3, 5, 2, 3)
    assert values.permute(0, 2, 3, 1).is_contiguous()


def test_special_numbers_survive(tmp_path: Path, spec: FeatureSpec, sharing: None) -> None:
    dtype = {"fp16": torch.float16, "fp32": torch.float32}[spec.dtype]
    shapes = {layer.name: (3, layer.channels, *layer.grid) for layer in spec.layers}
    with FeatureStore.create(tmp_path / "S.zarr", spec, ["zeros", "special"]) as store:
        store.write("zeros", {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()})
        assert shard(store, 0, 0).exists()  # zarr would leave a chunk of zeros out
        for value in torch.tensor([-0.0, torch.inf, -torch.inf, torch.nan, torch.finfo(dtype).tiny], dtype=dtype):
            store.write("special", {name: value.expand(shape) for name, shape in shapes.items()})
            read = store.read("special")["up0.0"].contiguous().view(torch.uint8)
            assert torch.equal(read, value.expand(shapes["up0.0"]).contiguous().view(torch.uint8))
            assert not store.read("zeros")["up1.0"].any()


def test_some_layers_and_timesteps_in_the_order_wanted(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw
) -> None:
    written = random_maps(spec, 1)
    read = store.read("b", layers=["up1.0"], timesteps=[60, 460])
    assert list(read) == ["up1.0"]
    assert torch.equal(read["up1.0"], written["up1.0"][[2, 0]])
    both = store.read("b", layers=["up1.0", "up0.0"], timesteps=[-1])
    assert list(both) == ["up1.0", "up0.0"]
    assert torch.equal(both["up0.0"], written["up0.0"][[1]])
    assert torch.equal(store.read("b", timesteps=[60, 60, -1])["up0.0"], written["up0.0"][[2, 2, 1]])


def test_what_is_not_there_is_refused(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    with pytest.raises(StoreError, match=r"no layer 'up9\.0'.*there are: up0\.0, up1\.0"):
        store.read("a", layers=["up9.0"])
    with pytest.raises(StoreError, match="has no timestep 61; there are: 460, -1, 60"):
        store.read("a", timesteps=[60, 61])
    for absent in ("d", "nobody"):
        with pytest.raises(StoreError, match=f"does not hold image '{absent}'. Run: matchkit extract"):
            store.read(absent)
    for attempt in (lambda: store.write("nobody", random_maps(spec, 3)), lambda: store.withdraw("nobody")):
        with pytest.raises(StoreError, match="has no row for image 'nobody'"):
            attempt()


def test_what_is_missing(store: FeatureStore) -> None:
    assert store.missing(["x", "d", "b", "a"]) == ["x", "d"]
    store.require(["a", "c"], remedy="Do this")
    with pytest.raises(StoreError, match=r"F\.zarr holds 2 of 4 images \(first absent: d\)\. Run: matchkit extract"):
        store.require(["a", "d", "b", "x"], remedy="Run: matchkit extract")


def test_changed_photographs_are_stale(store: FeatureStore) -> None:
    for finalized in (False, True):
        if finalized:
            store.finalize()
        assert store.stale({"a": 100, "b": 999, "d": 1, "x": 1}) == ["b"]
        reader = FeatureStore.open(str(store))
        assert reader.stale({"a": 0, "c": 102}) == ["a"]
        assert [reader.image_crc32c(image_id) for image_id in "abc"] == [100, 101, 102]


def test_overwriting(store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same) -> None:
    early, content = FeatureStore.open(str(store)), store.content
    for seed in (50, 51):
        store.write("b", random_maps(spec, seed), image_crc32c=seed)
        for reader in (store, early, FeatureStore.open(str(store))):
            assert same(reader.read("b"), random_maps(spec, seed))
            assert same(reader.read("c"), random_maps(spec, 2))
            assert reader.stale({"b": seed}) == []
        store.finalize()
    assert store.content != content
    store.write("b", random_maps(spec, 1))
    assert store.content == FeatureStore.open(str(store)).content == content


def test_withdrawn_is_absent_until_written_again(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    for seed in (20, 21):
        early = FeatureStore.open(str(store))
        assert early.read("b")
        store.withdraw("b")
        with pytest.raises(StoreError, match="does not hold image 'b'"):
            early.read("b")
        for reader in (store, early, FeatureStore.open(str(store))):
            assert reader.ids == ["a", "c"]
        store.write("b", random_maps(spec, seed))
        for reader in (store, early, FeatureStore.open(str(store))):
            assert same(reader.read("b"), random_maps(spec, seed))
        store.finalize()


def test_maps_that_do_not_fit_are_refused(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    maps = dict(random_maps(spec, 3))
    with pytest.raises(StoreError, match=r"lack layer 'up1\.0'"):
        store.write("d", {"up0.0": maps["up0.0"]})
    with pytest.raises(StoreError, match=r"layer 'up0\.0' takes \(t,h,w,c\) \(3, 2, 3, 5\), not \(2, 2, 3, 5\)"):
        store.write("d", {name: values[:2] for name, values in maps.items()})
    with pytest.raises(StoreError, match="lack layer"):
        store.write("b", {})
    assert same(FeatureStore.open(str(store)).read("b"), random_maps(spec, 1))  # what was there is there still
    assert store.missing(["d"]) == ["d"]


def test_rows_are_added_and_the_old_ones_stay(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    early = FeatureStore.open(str(store))
    store.close()
    with FeatureStore.create(str(store), spec, ["e", "a", "f"]) as wider:
        assert wider.missing(["a", "d", "e", "f"]) == ["d", "e", "f"]
        wider.write("f", random_maps(spec, 9))
        wider.write("d", random_maps(spec, 3))
    for reader in (early, store, FeatureStore.open(str(store))):
        assert same(reader.read("f"), random_maps(spec, 9))
        assert same(reader.read("a"), random_maps(spec, 0))
        assert reader.ids == ["a", "b", "c", "d", "f"]
        assert len(reader.content) == 12


def test_an_id_given_twice_has_one_row(tmp_path: Path, spec: FeatureSpec, random_maps: Draw, same: Same) -> None:
    with FeatureStore.create(tmp_path / "T.zarr", spec, ["a", "b", "a"]) as store:
        store.write("a", random_maps(spec, 0))
    with FeatureStore.create(tmp_path / "T.zarr", spec, ["a", "b", "a", "c", "c"]) as again:
        assert same(again.read("a"), random_maps(spec, 0))
        assert again.missing("abc") == ["b", "c"]


@pytest.mark.parametrize(
    "change", [{"fit": "letterbox"}, {"timesteps": (460, 60, -1)}, {"options": {"hook": "output"}}]
)
def test_another_spec_is_refused_with_the_difference(
    store: FeatureStore, spec: FeatureSpec, change: dict[str, Any]
) -> None:
    other = dataclasses.replace(spec, **change)
    (field,) = [*change.get("options", {}), *(change.keys() - {"options"})]
    for attempt in (FeatureStore.open, lambda path, spec: FeatureStore.create(path, spec, ["a"])):
        with pytest.raises(SpecMismatchError, match=rf"F\.zarr holds features of another spec \({field}: .*\)\. "):
            attempt(str(store), other)
    assert FeatureStore.open(str(store), spec).ids == ["a", "b", "c"]


def test_what_was_derived_from_a_spec_serves_for_it(tmp_path: Path, spec: FeatureSpec) -> None:
    derived = spec.derive(revision=2)
    FeatureStore.create(tmp_path / "D.zarr", derived, ["a"]).close()
    assert FeatureStore.open(tmp_path / "D.zarr", spec).spec == derived
    with pytest.raises(SpecMismatchError):
        FeatureStore.create(tmp_path / "D.zarr", spec, ["a"])


def test_finalizing_again_changes_nothing(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    def contents() -> dict[str, bytes]:
        root = Path(str(store))
        return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "pulse"}

    store.finalize()
    first = contents()
    assert not [name for name in first if "journal" in name or PARTIAL in name]
    store.finalize()
    assert contents() == first
    store.close()
    with FeatureStore.create(str(store), spec, ["a", "d"]) as again:
        again.finalize()
        assert contents() == first
        again.write("d", random_maps(spec, 3))
        again.finalize()
    ledger = zarr.open_array(Path(str(store)) / "ledger", mode="r")
    assert ledger.shape[0] == 4
    assert contents().keys() >= first.keys() - {name for name in first if "folded" in name}


def test_a_closed_writer_gives_back_what_it_held_and_may_go_on(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, same: Same
) -> None:
    store.close()
    assert same(store.read("a"), random_maps(spec, 0))
    with FeatureStore.create(str(store), spec, ["a"]) as other:
        other.write("a", random_maps(spec, 10))
        with pytest.raises(StoreError, match="images from row 0 on are being written by another process"):
            store.write("a", random_maps(spec, 11))
        other.finalize()
    store.write("b", random_maps(spec, 12))
    for seed, image_id in ((10, "a"), (12, "b"), (2, "c")):
        for reader in (store, other, FeatureStore.open(str(store))):
            assert same(reader.read(image_id), random_maps(spec, seed))


@pytest.mark.parametrize("keep", [0, 1, 60])
def test_a_truncated_shard_is_found_and_never_read(store: FeatureStore, keep: int) -> None:
    path = shard(store, 0, 2)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        StoreError, match=r"up0\.0/c\..* is damaged or gone\. Run: matchkit cache verify --repair .*F\.z"
    ):
        store.read("c")


def test_a_deleted_shard_is_found_and_never_read_as_zeros(store: FeatureStore) -> None:
    shard(store, 0, 0).unlink()
    with pytest.raises(StoreError, match=r"up0\.0/c\.0\.0\.0\.0\.0 is damaged or gone"):
        store.read("a")
    assert list(store.read("a", layers=["up1.0"])) == ["up1.0"]
