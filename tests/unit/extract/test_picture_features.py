"""DINOv2 as a loss sees with it: the maps of the backbone, and gradients to the picture."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from matchkit.core.errors import WeightsError
from matchkit.extract.backbones.dinov2 import DINOv2, DINOv2Params
from matchkit.extract.backbones.picture_features import DinoFeatures

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network(dinov2_folder: Path) -> DinoFeatures:
    return DinoFeatures(str(dinov2_folder), device=CPU)


def images(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [32, 48])
def test_maps_are_those_of_the_backbone(network: DinoFeatures, dinov2_folder: Path, side: int) -> None:
    params = DINOv2Params(weights=str(dinov2_folder), layers=(0, 1, 2), input_size=side, dtype="fp32")
    expected = DINOv2(params, device=CPU)(images(side, side), ["a", "b"])
    found = network(images(side, side))
    assert tuple(found) == network.names == ("block1", "block2", "block3")
    assert (network.width, network.patch) == (16, 8)
    for name, maps in zip(found, expected.values(), strict=True):
        assert found[name].shape == (2, 16, side // 8, side // 8)
        torch.testing.assert_close(found[name], maps[:, 0], rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_image_and_no_weight(network: DinoFeatures) -> None:
    pictures = images(32, 32).requires_grad_()
    network(pictures)["block3"][0, :, 1, 2].square().sum().backward()
    assert pictures.grad is not None
    assert pictures.grad[0].abs().amax(0).min() > 0  # by attention, every pixel counts
    assert not pictures.grad[1].any()
    step = pictures.detach() - 1e-2 * pictures.grad / pictures.grad.norm()
    before, after = (network(these)["block3"][0, :, 1, 2].square().sum() for these in (pictures, step))
    torch.testing.assert_close(before - after, 1e-2 * pictures.grad.norm(), rtol=0.1, atol=0)
    assert not network(images(32, 32))["block1"].requires_grad


def test_images_of_any_size(network: DinoFeatures) -> None:
    assert network(images(24, 48))["block2"].shape == (2, 16, 3, 6)
    odd = images(30, 44)  # 3.75 and 5.5 patches
    resized = functional.interpolate(odd, (32, 48), mode="bilinear", antialias=True)
    assert torch.equal(network(odd)["block2"], network(resized)["block2"])
    assert network(images(2, 3))["block1"].shape == (2, 16, 1, 1)


def test_several_threads(network: DinoFeatures) -> None:
    expected = [network(images(32, 32, seed))["block3"] for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: network(images(32, 32, seed))["block3"], range(4)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_embedded_one() -> None:
    network = DinoFeatures(device=CPU)
    assert [tuple(maps.shape) for maps in network(images(64, 64)).values()] == [(2, 96, 8, 8)] * 6
    assert network.checksum.startswith("sha256:")


def test_what_is_no_dinov2(sd_folder: Path) -> None:
    with pytest.raises(WeightsError, match="is not a Dinov2 network"):
        DinoFeatures(str(sd_folder / "text_encoder"), device=CPU)
