"""The presets on networks of the published shapes: the maps that the publications have."""

from collections.abc import Callable

import pytest
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from matchkit.extract.backbones.geoaware import TAPS
from matchkit.extract.backbones.taps import chosen_layers, layer_specs
from matchkit.extract.presets import PRESETS

VAE_STRIDE = 8
"""Input pixels a cell of Stable Diffusion's latents."""
TWELVE = [(1280, 8)] * 3 + [(1280, 16)] * 3 + [(640, 32)] * 3 + [(320, 64)] * 3
"""`specs/hyperfeatures.md` §3.2, at 512 pixels."""
UP1 = [(1280, 48)]
"""`specs/sd4match.md` §1.4, at 768 pixels."""
OF_A_CROP = [(1280, 8), (1280, 16), (640, 32)]
"""`specs/geoaware.md` §1.2: 15, 30 and 60 cells of 960 pixels are 8, 16 and 32 of a crop of 512."""
PUBLISHED = {
    "hyperfeatures": ("sd15", 512, TWELVE),
    "hyperfeatures-one-step": ("sd15", 512, TWELVE),
    "dift": ("sd21", 768, UP1),
    "sd4match": ("sd21", 768, UP1),
    "sd4match-training": ("sd21", 768, UP1),
    "cleandift": ("sd21", 768, UP1),
    "geoaware": ("sd15", 512, OF_A_CROP),
    "sd-dino": ("sd15", 512, OF_A_CROP),
}
Forward = Callable[[UNet2DConditionModel, int], None]


@pytest.mark.parametrize("name", PRESETS.table())
def test_published_maps(name: str, request: pytest.FixtureRequest) -> None:
    network, side, maps = PUBLISHED[name]
    unet: UNet2DConditionModel = request.getfixturevalue(network)
    params = PRESETS.params(name)
    assert params.get("crop", params.get("input_size")) == side
    assert {"sd15": "v1-5", "sd21": "2-1"}[network] in params["weights"]
    wanted = TAPS.values() if params["backbone"] == "geoaware" else params.get("layers", ())
    layers = layer_specs(unet, chosen_layers(unet, tuple(wanted)), latent=(side // VAE_STRIDE,) * 2)
    assert [(layer.channels, layer.grid[0]) for layer in layers] == maps


@pytest.mark.parametrize(("network", "cost"), [("sd15", 803.3e9), ("sd21", 804.3e9)])
def test_a_call_at_512_pixels_costs_what_it_did(
    network: str, cost: float, forward: Forward, request: pytest.FixtureRequest
) -> None:
    """`specs/hyperfeatures.md` §8."""
    with FlopCounterMode(display=False) as counter:
        forward(request.getfixturevalue(network), 64)
    assert counter.get_total_flops() == pytest.approx(cost, rel=1e-3)
