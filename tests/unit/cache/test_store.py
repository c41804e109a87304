"""The store's promises: what goes in comes out, complete or absent, under one spec, and damage is found."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from matchkit.cache.layout import shard_file
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import SpecMismatchError, StoreError
from matchkit.core.spec import FeatureSpec

Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]


def same(read: Mapping[str, np.ndarray], written: Maps) -> bool:
    """Bit for bit, type and all."""
    return list(read) == list(written) and all(
        read[name].dtype == written[name].numpy().dtype and np.array_equal(read[name], written[name].numpy())
        for name in written
    )


def test_what_goes_in_comes_out(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    for reader in (store, FeatureStore.open(store.path), FeatureStore.open(str(store.path), spec)):
        assert reader.ids == ["a", "b", "c"]
        assert (reader.layers, reader.timesteps) == (("up0.0", "up1.0"), (460, -1, 60))
        for seed, image_id in enumerate("abc"):
            assert same(reader.read(image_id), random_maps(spec, seed))


def test_maps_are_views_of_channels_last_memory(store: FeatureStore) -> None:
    values = store.read("a")["up0.0"]
    assert values.shape == (3, 5, 2, 3)
    assert values.transpose(0, 2, 3, 1).flags.c_contiguous


def test_special_numbers_survive(tmp_path: Path, spec: FeatureSpec) -> None:
    store = FeatureStore.create(tmp_path / "S.zarr", spec, ["zeros", "special"])
    dtype = {"fp16": torch.float16, "fp32": torch.float32}[spec.dtype]
    shapes = {layer.name: (3, layer.channels, *layer.grid) for layer in spec.layers}
    store.write("zeros", {name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()})
    store.write("special", {name: torch.full(shape, -0.0, dtype=dtype) for name, shape in shapes.items()})
    assert shard_file(store.path, "up0.0", 0).exists()  # zarr would leave a chunk of zeros out
    assert store.verify() == []
    assert not store.read("zeros")["up1.0"].any()
    assert np.signbit(store.read("special")["up1.0"]).all()


def test_some_layers_and_timesteps_in_the_order_wanted(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw
) -> None:
    written = random_maps(spec, 1)
    read = store.read("b", layers=["up1.0"], timesteps=[60, 460])
    assert list(read) == ["up1.0"]
    np.testing.assert_array_equal(read["up1.0"], written["up1.0"][[2, 0]].numpy())
    both = store.read("b", layers=["up1.0", "up0.0"], timesteps=[-1])
    assert list(both) == ["up1.0", "up0.0"]
    np.testing.assert_array_equal(both["up0.0"], written["up0.0"][[1]].numpy())


def test_what_is_not_there_is_refused(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match=r"no layer 'up9\.0'.*there are: up0\.0, up1\.0"):
        store.read("a", layers=["up9.0"])
    with pytest.raises(StoreError, match="has no timestep 61; there are: 460, -1, 60"):
        store.read("a", timesteps=[60, 61])
    for absent in ("d", "nobody"):
        with pytest.raises(StoreError, match=f"does not hold image '{absent}'. Run: matchkit extract"):
            store.read(absent)


def test_what_is_missing(store: FeatureStore) -> None:
    assert store.missing(["x", "d", "b", "a"]) == ["x", "d"]
    store.require(["a", "c"], remedy="Do this")
    with pytest.raises(StoreError, match=r"F\.zarr holds 2 of 4 images \(first absent: d\)\. Run: matchkit extract"):
        store.require(["a", "d", "b", "x"], remedy="Run: matchkit extract")


def test_changed_photographs_are_stale(store: FeatureStore) -> None:
    assert store.stale({"a": 100, "b": 999, "d": 1, "x": 1}) == ["b"]
    assert FeatureStore.open(store.path).stale({"a": 0, "c": 102}) == ["a"]


def test_overwriting(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    store.write("b", random_maps(spec, 50), image_crc32c=7)
    for reader in (store, FeatureStore.open(store.path)):
        assert same(reader.read("b"), random_maps(spec, 50))
        assert same(reader.read("c"), random_maps(spec, 2))
        assert (reader.stale({"b": 7}), reader.verify()) == ([], [])


def test_a_write_cut_short_leaves_the_image_absent(
    store: FeatureStore, spec: FeatureSpec, random_maps: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the journal has its line: neither the old maps nor the new ones are trusted."""

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("matchkit.cache.layout._sync_place", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write("b", random_maps(spec, 50))
    assert FeatureStore.open(store.path).missing(["a", "b"]) == ["b"]


def test_withdrawn_is_absent_until_written_again(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    store.withdraw("b")
    assert (store.ids, FeatureStore.open(store.path).ids) == (["a", "c"], ["a", "c"])
    store.write("b", random_maps(spec, 1))
    assert FeatureStore.open(store.path).ids == ["a", "b", "c"]


def test_maps_that_do_not_fit_are_refused(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    maps = dict(random_maps(spec, 3))
    with pytest.raises(StoreError, match="has no row for image 'x'"):
        store.write("x", maps)
    with pytest.raises(StoreError, match=r"lack layer 'up1\.0'"):
        store.write("d", {"up0.0": maps["up0.0"]})
    with pytest.raises(StoreError, match=r"layer 'up0\.0' takes \(t,h,w,c\) \(3, 2, 3, 5\), not \(2, 2, 3, 5\)"):
        store.write("d", {name: values[:2] for name, values in maps.items()})
    with pytest.raises(StoreError, match="lack layer"):
        store.write("b", {})
    assert same(FeatureStore.open(store.path).read("b"), random_maps(spec, 1))  # what was there is there still
    assert store.missing(["d"]) == ["d"]


def test_rows_are_added_and_the_old_ones_stay(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    wider = FeatureStore.create(store.path, spec, ["e", "a", "f"])
    assert wider.missing(["a", "d", "e", "f"]) == ["d", "e", "f"]
    wider.write("f", random_maps(spec, 9))
    wider.write("d", random_maps(spec, 3))
    reader = FeatureStore.open(store.path)
    assert reader.ids == ["a", "b", "c", "d", "f"]
    assert same(reader.read("f"), random_maps(spec, 9))
    assert same(reader.read("a"), random_maps(spec, 0))
    assert reader.verify() == []


def test_an_id_given_twice_has_one_row(tmp_path: Path, spec: FeatureSpec, random_maps: Draw) -> None:
    FeatureStore.create(tmp_path / "T.zarr", spec, ["a", "b", "a"]).write("a", random_maps(spec, 0))
    again = FeatureStore.create(tmp_path / "T.zarr", spec, ["a", "b", "a", "c", "c"])
    assert same(again.read("a"), random_maps(spec, 0))


@pytest.mark.parametrize(
    "change", [{"fit": "letterbox"}, {"timesteps": (460, 60, -1)}, {"options": {"hook": "output"}}]
)
def test_another_spec_is_refused_with_the_difference(
    store: FeatureStore, spec: FeatureSpec, change: dict[str, object]
) -> None:
    other = dataclasses.replace(spec, **change)
    (field,) = [*change.get("options", {}), *(change.keys() - {"options"})]
    for attempt in (FeatureStore.open, lambda path, spec: FeatureStore.create(path, spec, ["a"])):
        with pytest.raises(SpecMismatchError, match=rf"F\.zarr holds features of another spec \({field}: .*\)\. "):
            attempt(store.path, other)
    assert FeatureStore.open(store.path, spec).ids == ["a", "b", "c"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no feature store at .*none\.zarr\. Run: matchkit extract"):
        FeatureStore.open(tmp_path / "none.zarr")


def test_an_empty_folder_may_be_filled(tmp_path: Path, spec: FeatureSpec) -> None:
    (tmp_path / "E.zarr").mkdir()
    assert FeatureStore.create(tmp_path / "E.zarr", spec, ["a"]).ids == []


def foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("ten years of work")


def foreign_file(path: Path) -> None:
    path.write_text("ten years of work")


def foreign_group(path: Path) -> None:
    group = zarr.create_group(path)
    group.attrs["made by"] = "somebody else"
    group.create_array("data", shape=(2,), chunks=(2,), dtype="f4")[:] = 1


def foreign_array(path: Path) -> None:
    zarr.create_array(path, shape=(2,), chunks=(2,), dtype="f4")[:] = 1


@pytest.mark.parametrize("make", [foreign_folder, foreign_file, foreign_group, foreign_array])
def test_what_is_somebody_elses_is_refused_and_left_alone(
    tmp_path: Path, spec: FeatureSpec, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "F.zarr"
    make(path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for attempt in (FeatureStore.open, lambda path: FeatureStore.create(path, spec, ["a"])):
        with pytest.raises(StoreError, match=r"F\.zarr"):
            attempt(path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("offset", [0, 7, -1, -9])
def test_a_flipped_bit_is_found(store: FeatureStore, offset: int) -> None:
    """In the first chunk, and in the shard's index at its end."""
    shard = shard_file(store.path, "up1.0", 1)
    data = bytearray(shard.read_bytes())
    data[offset] ^= 4
    shard.write_bytes(data)
    assert store.verify() == ["b"]


@pytest.mark.parametrize("keep", [0, 1, 60, -1])
def test_a_truncated_shard_is_found_and_never_read(store: FeatureStore, keep: int) -> None:
    shard = shard_file(store.path, "up0.0", 2)
    shard.write_bytes(shard.read_bytes()[:keep])
    assert store.verify() == ["c"]
    with pytest.raises(StoreError, match=r"c\.2\.0\.0\.0\.0 is damaged or gone"):
        store.read("c")


def test_a_deleted_shard_is_found_and_never_read_as_zeros(store: FeatureStore) -> None:
    shard_file(store.path, "up0.0", 0).unlink()
    assert store.verify() == ["a"]
    with pytest.raises(StoreError, match=r"c\.0\.0\.0\.0\.0 is damaged or gone"):
        store.read("a")
    assert list(store.read("a", layers=["up1.0"])) == ["up1.0"]


def test_damage_is_mended_by_writing_again(store: FeatureStore, spec: FeatureSpec, random_maps: Draw) -> None:
    shard_file(store.path, "up0.0", 0).unlink()
    (damaged,) = store.verify()
    store.withdraw(damaged)
    store.write(damaged, random_maps(spec, 0))
    assert store.verify() == []
    assert same(store.read("a"), random_maps(spec, 0))
