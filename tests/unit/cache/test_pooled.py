"""One vector an image."""

from pathlib import Path

import numpy as np
import pytest
import torch

from matchkit.cache.pooled import pooled
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 5, (2, 3)), LayerSpec("dino", 3, (4, 6)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (460, 60), (48, 32), "stretch", "fp32")


@pytest.fixture
def maps() -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = {layer.name: (2, layer.channels, *layer.grid) for layer in LAYERS}
    drawn = {
        image_id: {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for image_id in "abc"
    }
    drawn["b"]["dino"][0, :, 1, 2] = 0
    return drawn


@pytest.fixture
def store(tmp_path: Path, maps: dict[str, dict[str, torch.Tensor]]) -> FeatureStore:
    with FeatureStore.create(tmp_path / "F.zarr", SPEC, [*maps, "absent"]) as store:
        for image_id, of_image in maps.items():
            store.write(image_id, of_image)
    return store


@pytest.mark.parametrize("layer", ["up0.0", "dino"])
def test_the_mean_of_unit_cells(store: FeatureStore, maps: dict[str, dict[str, torch.Tensor]], layer: str) -> None:
    ticks: list[int] = []
    vectors = pooled(store, ["c", "a", "b"], layer, done=lambda: ticks.append(1))
    for row, image_id in zip(vectors, "cab", strict=True):
        values = maps[image_id][layer].numpy().astype(np.float64)
        cells = [values[t, :, y, x] for t in range(2) for y in range(values.shape[2]) for x in range(values.shape[3])]
        expected = np.mean([cell / max(np.linalg.norm(cell), 1e-12) for cell in cells], axis=0)
        np.testing.assert_allclose(row, expected, atol=1e-6)
    assert vectors.dtype == np.float32
    assert len(ticks) == 3


def test_how_bright_a_cell_is_does_not_count(
    tmp_path: Path, store: FeatureStore, maps: dict[str, dict[str, torch.Tensor]]
) -> None:
    scales = torch.linspace(0.1, 10, 24).view(4, 6)
    with FeatureStore.create(tmp_path / "G.zarr", SPEC, ["a"]) as other:
        other.write("a", {**maps["a"], "dino": maps["a"]["dino"] * scales})
        np.testing.assert_allclose(pooled(other, ["a"], "dino"), pooled(store, ["a"], "dino"), atol=1e-6)


def test_no_images_are_no_rows(store: FeatureStore) -> None:
    assert pooled(store, [], "dino").shape == (0, 3)


def test_what_cannot_be_pooled_is_refused(
    tmp_path: Path, store: FeatureStore, maps: dict[str, dict[str, torch.Tensor]]
) -> None:
    with pytest.raises(StoreError, match=r"no layer 'vit'.*there are: up0\.0, dino"):
        pooled(store, ["a"], "vit")
    with pytest.raises(StoreError, match="does not hold image 'absent'"):
        pooled(store, ["a", "absent"], "dino")
    with FeatureStore.create(tmp_path / "G.zarr", SPEC, ["a"]) as other:
        maps["a"]["dino"][1, 0, 0, 0] = torch.inf
        other.write("a", maps["a"])
        with pytest.raises(StoreError, match=r"G\.zarr: layer 'dino' of image 'a' has values that are no numbers"):
            pooled(other, ["a"], "dino")
        assert np.isfinite(pooled(other, ["a"], "up0.0")).all()
