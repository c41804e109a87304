"""A small store that the tests of this folder open, write and damage."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from matchkit.cache.store import FeatureStore
from matchkit.core.spec import FeatureSpec, LayerSpec

Maps = Mapping[str, torch.Tensor]


@pytest.fixture(params=["fp16", "fp32"])
def spec(request: pytest.FixtureRequest) -> FeatureSpec:
    """Two layers of different shape, three timesteps that are not in ascending order."""
    layers = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("up1.0", 2, (4, 6)))
    return FeatureSpec("pixels", "none", layers, (460, -1, 60), (48, 32), "stretch", request.param)


@pytest.fixture
def store(tmp_path: Path, spec: FeatureSpec, random_maps: Callable[[FeatureSpec, int], Maps]) -> FeatureStore:
    """A store with rows for four images, of which the first three are complete."""
    store = FeatureStore.create(tmp_path / "F.zarr", spec, ["a", "b", "c", "d"])
    for seed, image_id in enumerate("abc"):
        store.write(image_id, random_maps(spec, seed), image_crc32c=100 + seed)
    return store
