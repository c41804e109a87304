"""DIFT's and SD4Match's network and schedule: shapes, costs and noise levels of `specs/sd4match.md` §1."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from matchkit.cache.layout import image_bytes
from matchkit.core.interfaces import Backbone
from matchkit.extract.backbones.diffusion import add_noise, cumulative_alphas
from matchkit.extract.backbones.taps import DecoderTaps, chosen_layers, layer_specs

Forward = Callable[[UNet2DConditionModel, int], None]
Build = Callable[..., Backbone]
LATENT = 96
"""Cells an edge of the latent of 768 pixels."""
SHAPES = {
    **{f"up0.{n}": (1280, 12) for n in range(3)},
    "up0.out": (1280, 24),
    **{f"up1.{n}": (1280, 24) for n in range(3)},
    "up1.out": (1280, 48),
    **{f"up2.{n}": (640, 48) for n in range(3)},
    "up2.out": (640, 96),
    **{f"up3.{n}": (320, 96) for n in range(3)},
    "up3.out": (320, 96),
}
"""§1.4: channels and cells an edge at 768 pixels."""
LEVELS = {0: (0.999575, 0.029155), 50: (0.975488, 0.220053), 101: (0.944976, 0.327139), 261: (0.809734, 0.586797)}
"""§1.2: what a latent and its noise are multiplied by, by timestep."""
ALPHAS = {0: 0.999150, 50: 0.951577, 101: 0.892980, 261: 0.655669}
"""§1.2: cumulative alphas by timestep."""


def test_the_network_has_the_published_size(sd21: UNet2DConditionModel) -> None:
    assert sum(parameter.numel() for parameter in sd21.parameters()) == 865_910_724


@pytest.mark.parametrize("hook", ["residual", "output", "sublayer"])
def test_shapes_at_768_pixels(sd21: UNet2DConditionModel, forward: Forward, hook: str) -> None:
    layers = chosen_layers(sd21, tuple(SHAPES))
    with DecoderTaps(sd21, layers, hook=hook).recording() as maps:
        forward(sd21, LATENT)
    assert {name: tuple(tensor.shape[1:]) for name, tensor in maps.items()} == {
        name: (channels, cells, cells) for name, (channels, cells) in SHAPES.items()
    }
    told = layer_specs(sd21, layers, latent=(LATENT, LATENT))
    assert {layer.name: (layer.channels, layer.grid[0]) for layer in told} == SHAPES


def test_what_an_early_exit_saves(sd21: UNet2DConditionModel, forward: Forward) -> None:
    """§1.5: 2.149 TFLOP in all, 1.126 up to the end of `up1`: 47.6 % saved."""
    taps = DecoderTaps(sd21, ("up1.out",), hook="output")
    with FlopCounterMode(display=False) as whole:
        forward(sd21, LATENT)
    with FlopCounterMode(display=False) as cut, taps.recording() as maps, taps.stopping():
        forward(sd21, LATENT)
    assert maps["up1.out"].shape == (1, 1280, 48, 48)
    assert whole.get_total_flops() == pytest.approx(2.149e12, rel=5e-4)
    assert cut.get_total_flops() == pytest.approx(1.126e12, rel=5e-4)
    assert 1 - cut.get_total_flops() / whole.get_total_flops() == pytest.approx(0.476, abs=5e-4)


@pytest.mark.parametrize(("side", "cost"), [(512, 1117e9), (768, 2609e9)])
def test_what_the_encoder_of_the_vae_costs(vae: AutoencoderKL, side: int, cost: float) -> None:
    """§1.2: 34.16 M parameters; §1.5: 2.609 TFLOP; `specs/hyperfeatures.md` §8: 1117 GFLOP at 512 pixels."""
    parameters = [*vae.encoder.parameters(), *vae.quant_conv.parameters()]
    assert sum(parameter.numel() for parameter in parameters) == pytest.approx(34.16e6, rel=2e-4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        vae.encode(torch.empty(1, 3, side, side, device="meta"))
    assert counter.get_total_flops() == pytest.approx(cost, rel=1e-3)


def test_the_posterior_of_an_image(build_published: Build) -> None:
    """§1.4: latents of 4 x 96 x 96; §1.5: 295 kB in fp32 for mean and deviation, 531 MB for SPair's 1,800 images."""
    spec = build_published("sd-latents", input_size=768, std=True, dtype="fp32").spec
    assert [(layer.channels, *layer.grid) for layer in spec.layers] == [(4, 96, 96)] * 2
    assert image_bytes(spec) == 294_912
    assert image_bytes(spec) * 1800 == pytest.approx(531e6, rel=1e-3)


@pytest.mark.parametrize("timestep", LEVELS)
def test_noise_levels(timestep: int) -> None:
    alphas = cumulative_alphas(beta_start=0.00085, beta_end=0.012, steps=1000)
    of_latent, of_noise = LEVELS[timestep]
    one, none = torch.ones(1), torch.zeros(1)
    assert float(add_noise(one, none, alpha=alphas[timestep])) == pytest.approx(of_latent, abs=1e-6)
    assert float(add_noise(none, one, alpha=alphas[timestep])) == pytest.approx(of_noise, abs=1e-6)


def test_the_schedule() -> None:
    alphas = cumulative_alphas(beta_start=0.00085, beta_end=0.012, steps=1000)
    assert {timestep: float(alphas[timestep]) for timestep in ALPHAS} == pytest.approx(ALPHAS, abs=6e-7)
