"""What a conversion costs, on maps whose losses can be worked out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from matchkit.cache.derive import Derivation, derive
from matchkit.cache.layout import image_bytes
from matchkit.cache.measure import bytes_an_image, layer_losses
from matchkit.cache.store import FeatureStore
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.spec import FeatureSpec, LayerSpec

LAYERS = (LayerSpec("up0.0", 16, (4, 6)), LayerSpec("up1.0", 8, (8, 12)))
SPEC = FeatureSpec("pixels", "none", LAYERS, (460, -1), (48, 32), "stretch", "fp32")
IMAGES = {name: ImageRecord(name, Path(f"{name}.jpg"), (96, 64)) for name in "abc"}


def pair(source: str, target: str, points: Sequence[Sequence[float]]) -> Pair:
    marked = np.asarray(points, np.float32)
    return Pair(f"{source}-{target}", source, target, "cat", marked, marked, tuple(str(n) for n in range(len(marked))))


PAIRS = [pair("a", "b", [[3, 3], [90, 60], [40, 20]]), pair("b", "c", [[50, 50]]), pair("c", "c", [[0, 63]])]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    generator = torch.Generator().manual_seed(0)
    with FeatureStore.create(tmp_path_factory.mktemp("parent") / "F.zarr", SPEC, "abc") as store:
        for image_id in "abc":
            store.write(
                image_id,
                {layer.name: torch.randn(2, layer.channels, *layer.grid, generator=generator) for layer in LAYERS},
            )
    return store


@pytest.mark.parametrize("compressed", [False, True])
def test_a_copy_loses_nothing(tmp_path: Path, parent: FeatureStore, *, compressed: bool) -> None:
    how = Derivation(layers=("up1.0", "up0.0"), timesteps=(-1, 460), compressed=compressed)
    calls: list[None] = []
    losses = layer_losses(
        parent, derive(parent, tmp_path / "D.zarr", how), PAIRS, IMAGES, done=lambda: calls.append(None)
    )
    assert [loss.layer for loss in losses] == ["up1.0", "up0.0"]
    assert all((loss.error, loss.agreement, loss.cells) == (0.0, 1.0, 1.0) for loss in losses)
    assert len(calls) == 3


def test_coarser_codecs_lose_more(tmp_path: Path, parent: FeatureStore) -> None:
    """Half precision rounds by 2**-11 at most; int8 by half of 1/127 of a position's largest value, int4 of 1/7."""
    found = {
        name: layer_losses(parent, derive(parent, tmp_path / f"{name}.zarr", Derivation(dtype=name)), PAIRS, IMAGES)
        for name in ("fp16", "int8", "int4", "pca-1")
    }
    errors = {name: max(loss.error for loss in losses) for name, losses in found.items()}
    assert 1e-5 < errors["fp16"] < 2**-11
    assert errors["fp16"] < errors["int8"] < 0.01
    assert errors["int8"] < errors["int4"] < 0.15
    assert errors["int4"] < errors["pca-1"] < 1.01
    cells = {name: min(loss.cells for loss in losses) for name, losses in found.items()}
    assert cells["fp16"] > 0.99
    assert 0.95 < cells["int8"] <= 1
    assert cells["pca-1"] < 0.5 < cells["int4"] <= cells["int8"]
    for losses in found.values():
        for loss in losses:
            assert (loss.agreement * 5 * 2) == round(loss.agreement * 5 * 2)  # of five keypoints at two timesteps


def test_numbers_of_a_hand_made_loss(tmp_path: Path) -> None:
    """One channel pair a cell on a grid of 1 x 2; converting is imitated by writing other maps under the derived spec.

    Before, each source cell's nearest is the cell below the same axis; after, the second source cell points the other
    way. The image frame is that of the input: a cell is 16 pixels wide.
    """
    spec = FeatureSpec("pixels", "none", (LayerSpec("x", 2, (1, 2)),), (0,), (32, 16), "stretch", "fp32")
    axes = torch.eye(2).view(1, 2, 1, 2)
    with FeatureStore.create(tmp_path / "F.zarr", spec, "ab") as before:
        before.write("a", {"x": axes})
        before.write("b", {"x": axes})
    with FeatureStore.create(tmp_path / "D.zarr", spec.derive(dtype="fp16"), "ab") as after:
        after.write("a", {"x": torch.tensor([[1.0, 1.0], [0.0, 0.5]]).view(1, 2, 1, 2)})
        after.write("b", {"x": axes})
    images = {name: ImageRecord(name, Path(), (32, 16)) for name in "ab"}
    pairs = [pair("a", "b", [[2, 2], [30, 14], [28, 3]])]
    (loss,) = layer_losses(before, after, pairs, images)
    # the second cell of a was (0, 1) and is (1, 0.5): its nearest in b was the second cell and is the first
    assert loss.agreement == pytest.approx(1 / 3)  # one keypoint lies in the first cell, two in the second
    assert loss.cells == 0.5
    assert loss.error == pytest.approx(((1 + 0.25) / 4) ** 0.5)


def test_maps_of_zeros_have_no_error(tmp_path: Path) -> None:
    with FeatureStore.create(tmp_path / "F.zarr", SPEC, "a") as store:
        store.write("a", {layer.name: torch.zeros(2, layer.channels, *layer.grid) for layer in LAYERS})
    derived = derive(store, tmp_path / "D.zarr", Derivation(dtype="int8"))
    losses = layer_losses(store, derived, [pair("a", "a", [[1, 1]])], IMAGES)
    assert [(loss.error, loss.agreement) for loss in losses] == [(0.0, 1.0)] * 2


def test_bytes_of_an_image(tmp_path: Path, parent: FeatureStore) -> None:
    assert bytes_an_image(parent) == image_bytes(SPEC) == 4 * 2 * (16 * 24 + 8 * 96)
    assert bytes_an_image(derive(parent, tmp_path / "8.zarr", Derivation(dtype="int8"))) == 2 * (18 * 24 + 10 * 96)
    packed = derive(parent, tmp_path / "Z.zarr", Derivation(dtype="int8", compressed=True))
    shards = [path.stat().st_size for path in (tmp_path / "Z.zarr").glob("up*/c.*")]
    assert len(shards) == 3 * 4
    assert bytes_an_image(packed) == sum(shards) // 3
