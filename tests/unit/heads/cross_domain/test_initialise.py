"""The published start of a network."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from matchkit.heads.cross_domain.initialise import initialise
from matchkit.heads.cross_domain.spade import NonLocal


def raw(layer: nn.Module) -> nn.Parameter:
    """The weight before a norm."""
    (weight,) = (values for name, values in layer.named_parameters() if name != "bias")
    return weight


@pytest.mark.parametrize("gain", [0.02, 0.5])
def test_weights_are_xavier_normal_and_biases_zero(gain: float) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(32, 64, 3), spectral_norm(nn.Conv2d(32, 64, 3)), nn.Linear(300, 100)]
    before = [raw(layer) for layer in layers]
    initialise(nn.Sequential(*layers), gain=gain)
    for layer, fans in zip(layers, (9 * (32 + 64), 9 * (32 + 64), 400), strict=True):
        assert raw(layer).std().item() == pytest.approx(gain * (2 / fans) ** 0.5, rel=0.03)
        assert isinstance(layer.bias, torch.Tensor)
        assert layer.bias.abs().max() == 0
    assert all(raw(layer) is weight for layer, weight in zip(layers, before, strict=True))


def test_the_norm_is_that_of_the_new_weight() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 3)
    spectral_norm(layer).eval()
    initialise(layer)
    weight = layer.weight.detach().flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.1)


def test_the_published_gain_and_what_is_left_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(NonLocal(64), nn.PReLU(), nn.Conv2d(64, 64, 3, bias=False))
    initialise(network)
    assert raw(network[2]).std().item() == pytest.approx(0.02 * (2 / (9 * 128)) ** 0.5, rel=0.03)
    assert raw(network[1]).item() == 0.25
    x = torch.randn(1, 64, 4, 4)
    assert torch.equal(network[0](x), x)
