"""Stores as dask arrays."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import torch

from matchkit.cache.lazy import lazy
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 70, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))


def made(where: Path, dtype: str, *, compressed: bool = False) -> FeatureStore:
    """Three complete images of four."""
    spec = FeatureSpec("pixels", "none", LAYERS, (460, -1), (48, 32), "stretch", dtype)
    generator = torch.Generator().manual_seed(0)
    with FeatureStore.create(where, spec, "abcd", compressed=compressed) as store:
        for image_id in "abd":
            store.write(
                image_id,
                {layer.name: torch.randn(2, layer.channels, *layer.grid, generator=generator) for layer in LAYERS},
            )
    return store


@pytest.mark.parametrize(
    ("dtype", "found"),
    [("fp16", np.float16), ("fp32", np.float32), ("bf16", np.float32), ("int8", np.float16), ("int4", np.float16)],
)
def test_the_array_is_what_the_store_reads(tmp_path: Path, dtype: str, found: type) -> None:
    store = made(tmp_path / "F.zarr", dtype)
    array = lazy(store, "up0.0")
    assert (array.shape, array.chunksize, array.dtype) == ((3, 2, 2, 3, 70), (1, 2, 2, 3, 70), found)
    values = array.compute()
    assert values.dtype == found
    for image, image_id in zip(values, "abd", strict=True):
        np.testing.assert_array_equal(image, store.read(image_id)["up0.0"].permute(0, 2, 3, 1).float().numpy())
    np.testing.assert_array_equal(lazy(store, "up1.0")[1, [1, 0]].compute(), lazy(store, "up1.0").compute()[1, [1, 0]])


def test_compressed_stores_too(tmp_path: Path) -> None:
    plain, packed = made(tmp_path / "F.zarr", "fp16"), made(tmp_path / "Z.zarr", "fp16", compressed=True)
    np.testing.assert_array_equal(lazy(packed, "up1.0").compute(), lazy(plain, "up1.0").compute())


def test_nothing_is_read_before_it_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked = made(tmp_path / "F.zarr", "fp16"), []
    read: Callable[..., Mapping[str, torch.Tensor]] = store.read
    monkeypatch.setattr(store, "read", lambda image_id, *rest: asked.append((image_id, *rest)) or read(image_id, *rest))
    chosen = lazy(store, "up1.0")[1:]
    assert asked == []
    assert isinstance(chosen, da.Array)
    chosen.mean().compute(scheduler="synchronous")
    assert sorted(asked) == [("b", ["up1.0"]), ("d", ["up1.0"])]


def test_an_empty_store_is_an_empty_array(tmp_path: Path) -> None:
    spec = FeatureSpec("pixels", "none", LAYERS, (460, -1), (48, 32), "stretch", "fp16")
    array = lazy(FeatureStore.create(tmp_path / "E.zarr", spec, []), "up1.0")
    assert (array.shape, array.dtype) == ((0, 2, 4, 6, 2), np.float16)
    assert array.compute().size == 0


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no layer 'up2\.0'"):
        lazy(made(tmp_path / "F.zarr", "fp16"), "up2.0")


IN_PROCESSES = """
import sys
from matchkit.cache.lazy import lazy
from matchkit.cache.store import FeatureStore

if __name__ == "__main__":
    array = lazy(FeatureStore.open(sys.argv[1]), "up0.0")
    here = array.compute(scheduler="synchronous")
    assert here.any()
    assert (array.compute(scheduler="processes", num_workers=1) == here).all()
"""


def test_other_processes_read_it_too(tmp_path: Path) -> None:
    made(tmp_path / "F.zarr", "fp16")
    (tmp_path / "script.py").write_text(IN_PROCESSES)  # without the types' checks, whose wrappers cannot be pickled
    command = [sys.executable, "-P", str(tmp_path / "script.py"), "F.zarr"]
    ran = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_store_is_pickled_by_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(made(Path("F.zarr"), "fp16"))
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    assert again.ids == ["a", "b", "d"]
    assert torch.equal(again.read("b")["up1.0"], FeatureStore.open(tmp_path / "F.zarr").read("b")["up1.0"])
