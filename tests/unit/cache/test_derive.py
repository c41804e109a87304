"""Derived stores: the same numbers in another codec, fewer of them, or their means; and where they come from."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
import zarr

from matchkit.cache import derive as module
from matchkit.cache.codecs.codec import codec
from matchkit.cache.codecs.pca import fit_pca
from matchkit.cache.derive import POOLED, Derivation, derive
from matchkit.cache.lazy import lazy
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError, SpecMismatchError, StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 70, (2, 3)), LayerSpec("up1.0", 6, (4, 6)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (460, -1, 60), (48, 32), "letterbox", "fp16", {"prompt": ""})
IDS = ("a", "b", "c", "d")


@pytest.fixture(autouse=True)
def _in_this_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def maps(seed: int, spec: FeatureSpec = SPEC) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {layer.name: (len(spec.timesteps), layer.channels, *layer.grid) for layer in spec.layers}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def filled(where: Path, spec: FeatureSpec = SPEC, ids: Iterable[str] = IDS) -> FeatureStore:
    with FeatureStore.create(where, spec, [*ids, "never"]) as store:
        for seed, image_id in enumerate(ids):
            store.write(image_id, maps(seed), image_crc32c=100 + seed)
    return store


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Four complete images, and a row for one that is absent."""
    return filled(tmp_path_factory.mktemp("parent") / "F.zarr")


def through(dtype: str, layer: LayerSpec, values: torch.Tensor) -> torch.Tensor:
    """Maps (t,c,gh,gw) of one layer encoded and decoded."""
    coder = codec(dtype)
    parts = coder.encode(layer, values.permute(0, 2, 3, 1).contiguous())
    return coder.decode(layer, parts, range(len(values))).permute(0, 3, 1, 2)


def same(store: FeatureStore, expected: Callable[[str], Mapping[str, torch.Tensor]]) -> bool:
    return store.ids == list(IDS) and all(
        list(store.read(image_id)) == list(expected(image_id))
        and all(torch.equal(store.read(image_id)[name], values) for name, values in expected(image_id).items())
        for image_id in IDS
    )


@pytest.mark.parametrize("dtype", ["fp16", "fp32", "bf16", "int8", "int4"])
def test_another_codec_holds_the_parents_numbers_encoded(tmp_path: Path, parent: FeatureStore, dtype: str) -> None:
    derive(parent, tmp_path / "D.zarr", Derivation(dtype=dtype))
    derived = FeatureStore.open(tmp_path / "D.zarr", SPEC)
    assert derived.spec.dtype == dtype
    assert same(
        derived,
        lambda image_id: {layer.name: through(dtype, layer, parent.read(image_id)[layer.name]) for layer in LAYERS},
    )
    assert [derived.image_crc32c(image_id) for image_id in IDS] == [100, 101, 102, 103]


def test_principal_components_are_those_of_all_images(tmp_path: Path, parent: FeatureStore) -> None:
    """Of the three timesteps two are kept, in another order; the basis of each is fitted on its own maps."""
    derived = derive(parent, tmp_path / "D.zarr", Derivation(dtype="pca-4", timesteps=(60, 460)))
    assert derived.spec.options == {"prompt": "", "basis_seed": 0}
    for layer in LAYERS:
        whole = np.stack([parent.read(i, [layer.name], [60, 460])[layer.name].float().numpy() for i in IDS])
        for step in range(2):
            rows = np.moveaxis(whole[:, step], 1, -1).reshape(-1, layer.channels).astype(np.float64)
            basis = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:4]
            expected = (rows - rows.mean(0)) @ basis.T @ basis + rows.mean(0)
            found = np.stack([derived.read(i)[layer.name][step].float().numpy() for i in IDS])
            np.testing.assert_allclose(np.moveaxis(found, 1, -1).reshape(rows.shape), expected, atol=5e-3)
    reader = zarr.open_group(str(derived), mode="r")
    assert reader["up1.0"].shape == (4, 2, 4, 6, 4)
    assert reader["up1.0.basis"].shape == (2, 4, 6)


def test_a_rank_beyond_the_channels_keeps_everything(tmp_path: Path, parent: FeatureStore) -> None:
    derived = derive(parent, tmp_path / "D.zarr", Derivation(dtype="pca-64", layers=("up1.0",)))
    for image_id in IDS:
        before, after = parent.read(image_id, ["up1.0"])["up1.0"], derived.read(image_id)["up1.0"]
        torch.testing.assert_close(after, before, atol=5e-3, rtol=2e-3)


def test_fewer_timesteps_of_a_projected_store_are_projected_again(tmp_path: Path, parent: FeatureStore) -> None:
    """On the directions that are left, so that only rounding is added."""
    one = derive(parent, tmp_path / "1.zarr", Derivation(dtype="pca-4"))
    two = derive(one, tmp_path / "2.zarr", Derivation(timesteps=(60,)))
    assert two.spec.dtype == "pca-4"
    for image_id in IDS:
        for name, values in one.read(image_id, timesteps=[60]).items():
            torch.testing.assert_close(two.read(image_id)[name], values, atol=1e-2, rtol=2e-3)


def test_a_basis_is_fitted_on_a_seeded_draw_of_the_images(
    tmp_path: Path, parent: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PCA_IMAGES", 2)
    stores = [derive(parent, tmp_path / f"{n}.zarr", Derivation(dtype="pca-2", seed=n)) for n in (0, 1)]
    assert [store.spec.options["basis_seed"] for store in stores] == [0, 1]
    for seed, store in enumerate(stores):
        basis, mean = fit_pca(lazy(parent, "up0.0"), 2, sample=2, seed=seed)
        reader = zarr.open_group(str(store), mode="r")
        np.testing.assert_array_equal(reader["up0.0.basis"][:], basis.numpy())
        np.testing.assert_array_equal(reader["up0.0.mean"][:], mean.numpy())
    assert stores[0].spec.digest() != stores[1].spec.digest()


def test_layers_and_timesteps_in_the_order_wanted(tmp_path: Path, parent: FeatureStore) -> None:
    kept = Derivation(layers=("up1.0", "up0.0", "up1.0"), timesteps=(60, 460, 60))
    derived = derive(parent, tmp_path / "D.zarr", kept)
    assert (derived.layers, derived.timesteps) == (("up1.0", "up0.0"), (60, 460))
    assert same(derived, lambda image_id: parent.read(image_id, ["up1.0", "up0.0"], [60, 460]))
    alone = derive(parent, tmp_path / "A.zarr", Derivation(layers=("up0.0",), timesteps=(-1,)))
    assert same(alone, lambda image_id: parent.read(image_id, ["up0.0"], [-1]))


@pytest.mark.parametrize("dtype", ["fp16", "fp32", "int8"])
def test_pooled_vectors_are_the_means_over_the_cells(tmp_path: Path, parent: FeatureStore, dtype: str) -> None:
    pooled = derive(parent, tmp_path / "D.zarr", Derivation(dtype=dtype, layers=("up1.0",), pool="mean"))
    assert pooled.layers == (f"up1.0{POOLED}",)
    step = 2.0**-10 if dtype == "fp16" else 1 / 127 if dtype == "int8" else 1e-3
    for image_id in IDS:
        found, whole = pooled.read(image_id)[f"up1.0{POOLED}"], parent.read(image_id)["up1.0"].double()
        assert found.shape == (3, 6, 1, 1)
        expected = whole.sum(dim=(2, 3), keepdim=True) / 24
        assert float((found.double() - expected).abs().max()) <= step * float(expected.abs().max())


def test_a_compressed_store_holds_the_same_and_stock_zarr_reads_it(tmp_path: Path, parent: FeatureStore) -> None:
    packed = derive(parent, tmp_path / "Z.zarr", Derivation(compressed=True))
    assert packed.spec == parent.spec
    assert packed.content == parent.content
    assert same(packed, parent.read)
    reader = zarr.open_group(str(packed), mode="r")
    for name in packed.layers:
        rows = reader[name][:]
        for row, image_id in enumerate(IDS):
            np.testing.assert_array_equal(rows[row], parent.read(image_id)[name].permute(0, 2, 3, 1).numpy())
    with FeatureStore.create(tmp_path / "flat.zarr", SPEC, ["x"]) as flat:
        flat.write("x", {layer.name: torch.zeros(3, layer.channels, *layer.grid) for layer in LAYERS})
    small = derive(flat, tmp_path / "small.zarr", Derivation(compressed=True))
    (shard,) = (tmp_path / "small.zarr" / "up0.0").glob("c.*")
    assert shard.stat().st_size < 3 * 70 * 6 * 2 / 4
    assert not small.read("x")["up0.0"].any()


class Killed(Exception):
    """The end of a process."""


def killed_after(images: int) -> Callable[[], None]:
    left = iter(range(images))

    def done() -> None:
        if next(left, None) is None:
            raise Killed

    return done


@pytest.mark.parametrize(
    "how", [Derivation(dtype="int8"), Derivation(dtype="pca-3", layers=("up1.0",)), Derivation(compressed=True)]
)
def test_an_interrupted_conversion_is_taken_up(
    tmp_path: Path, parent: FeatureStore, monkeypatch: pytest.MonkeyPatch, how: Derivation
) -> None:
    """The third image was written when it was interrupted: one is left, and the basis is not fitted again."""
    whole = derive(parent, tmp_path / "whole.zarr", how)
    with pytest.raises(Killed):
        derive(parent, tmp_path / "D.zarr", how, done=killed_after(2))
    assert FeatureStore.open(tmp_path / "D.zarr").ids == ["a", "b", "c"]
    asked: list[str] = []
    read: Callable[..., Any] = parent.read
    monkeypatch.setattr(parent, "read", lambda image, *rest, **out: asked.append(image) or read(image, *rest, **out))
    calls: list[None] = []
    resumed = derive(parent, tmp_path / "D.zarr", how, done=lambda: calls.append(None))
    assert asked == ["d"]
    assert len(calls) == 4
    assert resumed.content == whole.content
    manifests = [(tmp_path / name / "ledger" / "manifest.json").read_bytes() for name in ("D.zarr", "whole.zarr")]
    assert manifests[0] == manifests[1]
    assert derive(parent, tmp_path / "D.zarr", how).content == whole.content
    assert asked == ["d"]


def test_new_images_and_changed_photographs_are_derived_again(tmp_path: Path) -> None:
    parent = filled(tmp_path / "F.zarr")
    derive(parent, tmp_path / "D.zarr", Derivation(layers=("up1.0",)))
    with FeatureStore.create(tmp_path / "F.zarr", SPEC, [*IDS, "e"]) as store:
        store.write("e", maps(7), image_crc32c=107)
        store.write("b", maps(8), image_crc32c=108)
    derived = derive(FeatureStore.open(tmp_path / "F.zarr"), tmp_path / "D.zarr", Derivation(layers=("up1.0",)))
    assert derived.ids == ["a", "b", "c", "d", "e"]
    for image_id, seed in {"a": 0, "b": 8, "e": 7}.items():
        assert torch.equal(derived.read(image_id)["up1.0"], maps(seed)["up1.0"].half())
        assert derived.image_crc32c(image_id) == 100 + seed


def test_a_derived_store_serves_all_that_it_comes_from_and_nothing_else(tmp_path: Path, parent: FeatureStore) -> None:
    one = derive(parent, tmp_path / "1.zarr", Derivation(dtype="int8"))
    two = derive(one, tmp_path / "2.zarr", Derivation(timesteps=(60,)))
    three = derive(two, tmp_path / "3.zarr", Derivation(dtype="fp16", pool="mean"))
    archive = derive(two, tmp_path / "4.zarr", Derivation(compressed=True))
    digests = [store.spec.digest() for store in (parent, one, two, three)]
    assert len(set(digests)) == 4
    assert [store.spec.lineage for store in (parent, one, two, three)] == [tuple(digests[:n]) for n in range(4)]
    assert archive.spec == two.spec
    for wanted in (parent, one, two, three):
        assert FeatureStore.open(tmp_path / "3.zarr", wanted.spec).spec == three.spec
    sibling = Derivation(dtype="int4").spec(parent.spec)
    other = FeatureSpec("pixels", "none", LAYERS, (460, -1, 60), (48, 32), "stretch", "fp16")
    for wanted_spec in (sibling, other):
        with pytest.raises(SpecMismatchError, match=r"3\.zarr holds features of another spec"):
            FeatureStore.open(tmp_path / "3.zarr", wanted_spec)
    with pytest.raises(SpecMismatchError, match=r"dtype: int8, not fp16"):
        FeatureStore.open(str(parent), one.spec)


def test_what_cannot_be_derived_is_refused_before_anything_is_written(tmp_path: Path, parent: FeatureStore) -> None:
    out = tmp_path / "D.zarr"
    with pytest.raises(StoreError, match=r"no layer 'up2\.0' .* there are: up0\.0, up1\.0"):
        derive(parent, out, Derivation(layers=("up1.0", "up2.0")))
    with pytest.raises(ConfigError, match="no timestep 61; there are: 460, -1, 60"):
        derive(parent, out, Derivation(timesteps=(60, 61)))
    for name in ("int5", "pca-", "pca-0", "pca-x"):
        with pytest.raises(StoreError, match=f"no codec '{name}'"):
            derive(parent, out, Derivation(dtype=name))
    with pytest.raises(ConfigError, match="pooled vectors are not projected"):
        derive(parent, out, Derivation(dtype="pca-2", pool="mean"))
    with pytest.raises(StoreError, match=r"E\.zarr holds no complete image\. Run: matchkit extract"):
        derive(FeatureStore.create(tmp_path / "E.zarr", SPEC, IDS), out, Derivation(dtype="int8"))
    assert not out.exists()


def test_a_store_is_not_converted_into_itself(
    tmp_path: Path, parent: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = Path(str(parent)), parent.content
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(path.parent)
    for same_place in (path, str(path) + os.sep, tmp_path / "link", path.name):
        for how in (Derivation(compressed=True), Derivation(dtype="int8"), Derivation()):
            with pytest.raises(StoreError, match=r"cannot be converted into itself\. Take another path"):
                derive(parent, same_place, how)
    assert FeatureStore.open(path).content == before


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path, parent: FeatureStore) -> None:
    derive(parent, tmp_path / "D.zarr", Derivation(dtype="int8"))
    with pytest.raises(SpecMismatchError, match=r"dtype: int4, not int8"):
        derive(parent, tmp_path / "D.zarr", Derivation(dtype="int4"))
    with pytest.raises(StoreError, match=r"D\.zarr is there, uncompressed\. Take another path"):
        derive(parent, tmp_path / "D.zarr", Derivation(dtype="int8", compressed=True))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds something that is no feature store"):
        derive(parent, tmp_path / "notes", Derivation(dtype="int8"))
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["todo.txt"]


def test_a_damaged_parent_stops_it_and_a_repaired_one_lets_it_go_on(tmp_path: Path) -> None:
    parent = filled(tmp_path / "F.zarr")
    with FeatureStore.create(tmp_path / "F.zarr", SPEC, []) as other:
        other.withdraw("c")  # as `matchkit cache verify --repair` does, behind the back of this `parent`
        with pytest.raises(StoreError, match="does not hold image 'c'"):
            derive(parent, tmp_path / "D.zarr", Derivation())
        assert FeatureStore.open(tmp_path / "D.zarr").ids == ["a", "b"]
        other.write("c", maps(2), image_crc32c=102)
    repaired = FeatureStore.open(tmp_path / "F.zarr")
    assert same(derive(repaired, tmp_path / "D.zarr", Derivation()), repaired.read)
