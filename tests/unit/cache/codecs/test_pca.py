"""The PCA codec on hand-made bases, and its fit against numpy on everything at once."""

from collections.abc import Iterator

import dask
import dask.array as da
import numpy as np
import pytest
import torch

from matchkit.cache.codecs.codec import codec
from matchkit.cache.codecs.pca import fit_pca
from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec

LAYER = LayerSpec("up0.0", 3, (1, 2))
STATICS = {
    "up0.0.basis": torch.tensor([[[0.0, 0.6, 0.8]], [[1.0, 0.0, 0.0]]]),
    "up0.0.mean": torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 10.0]]),
}


@pytest.fixture(autouse=True)
def _in_this_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def maps() -> np.ndarray:
    """Seven images of three timesteps, whose channels differ in spread, mean and from timestep to timestep."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(7, 3, 4, 5, 6)) * [8, 5, 3, 2, 1, 0.5] @ rng.normal(size=(3, 1, 6, 6))
    return (mixed + rng.normal(size=(3, 1, 1, 6)) * 20).astype(np.float16)


def direct(maps: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by the singular values of all positions at once."""
    bases, means = [], []
    for step in range(maps.shape[1]):
        x = maps[:, step].reshape(-1, maps.shape[4]).astype(np.float64)
        rows = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][:rank]
        bases.append([row * np.sign(row[np.abs(row).argmax()]) for row in rows])
        means.append(x.mean(axis=0))
    return np.array(bases), np.array(means)


def test_values_of_a_hand_made_basis() -> None:
    values = torch.tensor([[1, 2, 3], [1, 5, 7], [2, 9, 10], [-4, 0, 0]]).float().view(2, 1, 2, 3)
    coder = codec("pca-1", STATICS)
    (part,) = coder.encode(LAYER, values)
    assert part.flatten().tolist() == [0, 5, 2, -4]
    decoded = coder.decode(LAYER, [part], [0, 1])
    assert decoded.view(4, 3).tolist() == [[1, 2, 3], [1, 5, 7], [2, 0, 10], [-4, 0, 10]]
    assert coder.decode(LAYER, [part[1:]], [1]).view(2, 3).tolist() == [[2, 0, 10], [-4, 0, 10]]


def test_a_sum_beyond_half_precision_stays_finite() -> None:
    coefficients = torch.full((1, 1, 2, 1), 65504.0).half()
    statics = {"up0.0.basis": torch.tensor([[[0.0, 1.0, 0.0]]]), "up0.0.mean": torch.tensor([[0.0, 500.0, 1.0]])}
    assert codec("pca-1", statics).decode(LAYER, [coefficients], [0])[0, 0, 0].tolist() == [0, 65504, 1]


@pytest.mark.parametrize("statics", [None, {"up0.0.basis": STATICS["up0.0.basis"]}, {"up1.0.basis": torch.ones(1)}])
def test_without_a_basis(statics: dict[str, torch.Tensor] | None) -> None:
    coder = codec("pca-1", statics)
    with pytest.raises(StoreError, match=r"the store lacks its basis: pca-1 needs 'up0\.0\.basis' and 'up0\.0\.mean'"):
        coder.decode(LAYER, [torch.zeros(2, 1, 2, 1).half()], [0, 1])
    with pytest.raises(StoreError, match="the store lacks its basis"):
        coder.encode(LAYER, torch.zeros(2, 1, 2, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_coefficients_that_half_precision_does_not_hold(value: float) -> None:
    values = torch.zeros(2, 1, 2, 3)
    values[1, 0, 1, 0] = value
    with pytest.raises(StoreError, match=r"pca-1 cannot hold layer 'up0\.0'"):
        codec("pca-1", STATICS).encode(LAYER, values)


@pytest.mark.parametrize("chunks", [(1, 1, 4, 5, 6), (2, 3, 4, 5, 6), (7, 2, 2, 3, 4), (1, 3, 4, 5, 6)])
def test_the_fit_is_that_of_all_positions_at_once(maps: np.ndarray, chunks: tuple[int, ...]) -> None:
    basis, mean = fit_pca(da.from_array(maps, chunks=chunks), 4)
    expected, middle = direct(maps, 4)
    assert (basis.dtype, mean.dtype) == (torch.float32, torch.float32)
    np.testing.assert_allclose(mean.numpy(), middle, rtol=1e-6)
    np.testing.assert_allclose(basis.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(4).expand(3, 4, 4), atol=1e-6, rtol=0)


def test_the_sign_is_that_of_the_largest_component(maps: np.ndarray) -> None:
    basis, _ = fit_pca(da.from_array(maps), 6)
    largest = basis.gather(2, basis.abs().argmax(dim=2, keepdim=True))
    assert bool((largest > 0).all())


def test_as_many_directions_as_channels_keep_everything(maps: np.ndarray) -> None:
    basis, mean = fit_pca(da.from_array(maps), 100)
    assert basis.shape == (3, 6, 6)
    layer = LayerSpec("up0.0", 6, (4, 5))
    coder = codec("pca-100", {"up0.0.basis": basis, "up0.0.mean": mean})
    values = torch.from_numpy(maps[0])
    decoded = coder.decode(layer, coder.encode(layer, values), [0, 1, 2])
    torch.testing.assert_close(decoded, values, rtol=0, atol=0.05)


def test_a_sample_is_drawn_by_its_seed(maps: np.ndarray) -> None:
    fits = [fit_pca(da.from_array(maps, chunks=(1, 3, 4, 5, 6)), 2, sample=3, seed=seed)[1] for seed in (1, 1, 2)]
    assert torch.equal(fits[0], fits[1])
    assert not torch.equal(fits[0], fits[2])
    candidates = [
        maps[[a, b, c]].mean(axis=(0, 2, 3), dtype=float) for c in range(7) for b in range(c) for a in range(b)
    ]
    assert any(np.allclose(fits[0], mean, rtol=1e-6) for mean in candidates)
    whole = fit_pca(da.from_array(maps), 2)
    assert torch.equal(fit_pca(da.from_array(maps), 2, sample=7)[1], whole[1])


def test_maps_that_are_not_finite_or_not_there(maps: np.ndarray) -> None:
    maps[3, 1, 2, 2, 0] = np.nan
    with pytest.raises(StoreError, match="NaN or infinite"):
        fit_pca(da.from_array(maps, chunks=(1, 3, 4, 5, 6)), 2)
    with pytest.raises(StoreError, match="no images to fit a PCA on"):
        fit_pca(da.from_array(maps[:0]), 2)
