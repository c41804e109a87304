"""Imports and exports: everything that can be read arrives, a second run does nothing, a round trip is exact."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from matchkit.cache.interchange.geoaware import tree_layers
from matchkit.cache.store import FeatureStore
from matchkit.cli.interchange import cache_export, cache_import
from matchkit.core.errors import ConfigError, SpecMismatchError, StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.pipelines.interchange import Foreign, export_features, import_features

SMALL = Foreign(settings=("patches=4",))
SPEC = FeatureSpec(
    "pixels",
    "none",
    (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6))),
    (460, -1),
    (48, 32),
    "stretch",
    "fp16",
)
TREE = replace(SPEC, layers=tree_layers(4), timesteps=(50,))
IDS = ["cat/1", "cat/1@flip", "dog/2"]
Maps = Mapping[str, torch.Tensor]
Draw = Callable[[FeatureSpec, int], Maps]


@pytest.fixture
def filled(tmp_path: Path, random_maps: Draw) -> Callable[[FeatureSpec], Path]:
    """Makes a store of three images and a row of a fourth that is not there."""

    def fill(spec: FeatureSpec) -> Path:
        path = tmp_path / "features.zarr"
        with FeatureStore.create(path, spec, [*IDS, "absent"]) as store:
            for seed, image_id in enumerate(IDS):
                maps = random_maps(replace(spec, dtype="fp32"), seed)
                store.write(image_id, maps, image_crc32c=100 + seed)
            store.note("told", {"by": "a friend"})
            store.finalize()
        return path

    return fill


def same(one: FeatureStore, other: FeatureStore) -> bool:
    """Whether both hold the same images with the same maps, type and all."""
    if one.ids != other.ids or one.layers != other.layers:
        return False
    pairs = [(one.read(image_id), other.read(image_id)) for image_id in one.ids]
    return all(
        maps[name].dtype == values.dtype and torch.equal(maps[name], values)
        for maps, others in pairs
        for name, values in others.items()
    )


def test_a_tree_out_and_in(filled: Callable[[FeatureSpec], Path], tmp_path: Path) -> None:
    store = filled(TREE)
    exported = export_features("geoaware", store, tmp_path / "tree")
    assert (exported.done, exported.present) == (3, 0)
    assert (tmp_path / "tree/cat/1_sd_flip.pt").is_file()
    told = replace(SMALL, weights="sd-1.5+dinov2_vitb14")
    imported = import_features("geoaware", tmp_path / "tree", tmp_path / "back.zarr", told)
    assert (imported.done, imported.present) == (3, 0)
    back = FeatureStore.open(tmp_path / "back.zarr")
    assert same(back, FeatureStore.open(store))
    assert (back.spec.weights, back.spec.input_size, back.spec.dtype) == ("sd-1.5+dinov2_vitb14", (64, 64), "fp16")
    assert back.notes["imported"] == {"format": "geoaware", "from": str(tmp_path / "tree")}


def test_both_take_up_where_they_stopped(filled: Callable[[FeatureSpec], Path], tmp_path: Path) -> None:
    store, tree, back = filled(TREE), tmp_path / "tree", tmp_path / "back.zarr"
    export_features("geoaware", store, tree)
    (tree / "dog/2_dino.pt").unlink()
    whole = tree / "cat/1_sd.pt"
    os.utime(whole, (0, 0))
    with pytest.raises(StoreError, match=r"back\.zarr holds 2 images; the rest .*dog/2_dino\.pt is missing"):
        import_features("geoaware", tree, back, SMALL)
    again = export_features("geoaware", store, tree)
    assert (again.done, again.present) == (1, 2)
    assert whole.stat().st_mtime == 0
    imported = import_features("geoaware", tree, back, SMALL)
    assert (imported.done, imported.present) == (1, 2)
    imported = import_features("geoaware", tree, back, SMALL)
    assert (imported.done, imported.present) == (0, 3)


@pytest.mark.parametrize("dtype", ["fp16", "fp32", "bf16"])
def test_hdf5_out_and_in_is_the_same_store(filled: Callable[[FeatureSpec], Path], tmp_path: Path, dtype: str) -> None:
    store = filled(replace(SPEC, dtype=dtype))
    out = tmp_path / "features.h5"
    assert export_features("hdf5", store, out, compression="gzip").done == 3
    assert export_features("hdf5", store, out).done == 0
    assert import_features("hdf5", out, tmp_path / "back.zarr").done == 3
    before, back = FeatureStore.open(store), FeatureStore.open(tmp_path / "back.zarr")
    assert back.spec == before.spec
    assert back.content == before.content
    assert same(before, back)
    assert back.notes == {"told": {"by": "a friend"}}
    assert back.stale({"cat/1": 100, "dog/2": 102}) == []
    assert import_features("hdf5", out, tmp_path / "back.zarr").done == 0


def test_hdf5_keeps_what_a_codec_decodes_to(filled: Callable[[FeatureSpec], Path], tmp_path: Path) -> None:
    store = filled(replace(SPEC, dtype="int8"))
    export_features("hdf5", store, tmp_path / "features.h5")
    import_features("hdf5", tmp_path / "features.h5", tmp_path / "back.zarr")
    before, back = FeatureStore.open(store), FeatureStore.open(tmp_path / "back.zarr")
    assert same(before, back)
    assert back.spec.dtype == "fp16"
    assert back.spec.serves(before.spec)


def test_a_store_that_grew_is_not_taken_for_exported(filled: Callable[[FeatureSpec], Path], tmp_path: Path) -> None:
    store = filled(SPEC)
    export_features("hdf5", store, tmp_path / "features.h5")
    with FeatureStore.create(store, SPEC, IDS) as writable:
        writable.withdraw("dog/2")
    with pytest.raises(StoreError, match="is there already and holds something else"):
        export_features("hdf5", store, tmp_path / "features.h5")


def test_dift_in(tmp_path: Path) -> None:
    (tmp_path / "dift").mkdir()
    for number, category in enumerate(("cat", "dog")):
        maps = {f"{n}.jpg": torch.full((1, 8, 3, 3), 10.0 * number + n) for n in range(2)}
        torch.save(maps, tmp_path / "dift" / f"{category}.pth")
    told = Foreign(settings=("timestep=101",), dtype="fp32")
    assert import_features("dift", tmp_path / "dift", tmp_path / "s.zarr", told).done == 4
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert (store.ids, store.timesteps, store.spec.dtype) == (["cat/0", "cat/1", "dog/0", "dog/1"], (101,), "fp32")
    assert store.read("dog/1")["up1"].unique().item() == 11


def test_distilldift_in(tmp_path: Path, spair_tree: Path) -> None:
    path = tmp_path / "dinov2_b14_SPair-71k.h5"
    with h5py.File(path, "w") as file:
        for number, key in enumerate(("2007_000001.jpg", "2008_000003.jpg", "other.jpg")):
            file[f"11/{key}"] = np.full((4, 2, 3), number, np.float16)
    told = Foreign(dataset="spair", root=spair_tree, settings=("input_size=[840, 840]",))
    with pytest.raises(StoreError, match=r"holds 2 images; the rest .* no image of the dataset is called 'other\.jpg'"):
        import_features("distilldift", path, tmp_path / "s.zarr", told)
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert store.ids == ["cat/2007_000001", "dog/2008_000003"]
    assert store.read("dog/2008_000003")["layer11"].unique().item() == 1


def test_nothing_readable_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for kind in ("sd", "dino"):
        (tmp_path / f"cat/1_{kind}.pt").write_bytes(b"PK")
    with pytest.raises(StoreError, match=r"nothing in .* can be imported: .*1_(sd|dino)\.pt is cut short"):
        import_features("geoaware", tmp_path, tmp_path / "s.zarr")
    (tmp_path / "cat/1_sd.pt").unlink()
    with pytest.raises(StoreError, match=r"nothing in .* can be imported: .*1_sd\.pt is missing"):
        import_features("geoaware", tmp_path, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_other_features_are_not_mixed_in(filled: Callable[[FeatureSpec], Path], tmp_path: Path) -> None:
    export_features("geoaware", filled(TREE), tmp_path / "tree")
    import_features("geoaware", tmp_path / "tree", tmp_path / "back.zarr", SMALL)
    with pytest.raises(SpecMismatchError, match=r"weights: (unknown, not mine|mine, not unknown)"):
        import_features("geoaware", tmp_path / "tree", tmp_path / "back.zarr", replace(SMALL, weights="mine"))


def test_an_empty_store_is_not_exported(tmp_path: Path) -> None:
    FeatureStore.create(tmp_path / "s.zarr", SPEC, ["a"]).close()
    with pytest.raises(StoreError, match=r"s\.zarr holds no complete image"):
        export_features("hdf5", tmp_path / "s.zarr", tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize(
    ("kind", "told", "message"),
    [
        ("geoaware", Foreign(dataset="spair"), "--dataset is for --format distilldift"),
        ("hdf5", Foreign(dtype="fp32"), "says all of itself"),
        ("geoaware", Foreign(settings=("patch=4",)), "no parameter 'patch'. Did you mean 'patches'"),
        ("distilldift", Foreign(), "lacks its images' categories"),
        ("distilldift", Foreign(dataset="spair"), "does not say how large its images were"),
    ],
)
def test_what_is_told_in_vain_or_lacks(kind: str, told: Foreign, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        import_features(kind, tmp_path, tmp_path / "s.zarr", told)  # type: ignore[arg-type]


def test_compression_is_hdf5_s(filled: Callable[[FeatureSpec], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--compression is for --format hdf5"):
        export_features("geoaware", filled(TREE), tmp_path / "tree", compression="gzip")


def test_the_verbs(filled: Callable[[FeatureSpec], Path], tmp_path: Path) -> None:
    store, run = filled(TREE), CliRunner()
    out = run.invoke(cache_export, ["--format", "geoaware", str(store), str(tmp_path / "tree")])
    assert (out.exit_code, out.stdout) == (0, f"{tmp_path}/tree: 3 images exported, 0 were there\n")
    arguments = ["--format", "geoaware", str(tmp_path / "tree"), str(tmp_path / "back.zarr"), "--set", "patches=4"]
    back = run.invoke(cache_import, [*arguments, "--json"])
    assert back.exit_code == 0
    digest = FeatureStore.open(tmp_path / "back.zarr").spec.digest()
    assert json.loads(back.stdout) == {"store": str(tmp_path / "back.zarr"), "digest": digest, "present": 0, "done": 3}
    again = run.invoke(cache_import, arguments)
    assert again.stdout == f"{tmp_path}/back.zarr: 0 images imported, 3 were there, spec {digest}\n"
    refused = run.invoke(cache_import, ["--format", "hdf5", str(tmp_path / "tree"), str(tmp_path / "s.zarr")])
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {tmp_path}/tree is no file. Give an HDF5 file\n"
