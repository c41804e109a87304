"""The decoder of both networks at their published sizes: what enters its sub-layers, and what is read there."""

from collections.abc import Callable

import pytest
import torch
from diffusers import UNet2DConditionModel

from matchkit.extract.backbones.taps import DecoderTaps, chosen_layers, decoder_resnets, layer_specs

Forward = Callable[[UNet2DConditionModel, int], None]
ENTERING = (2560, 2560, 2560, 2560, 2560, 1920, 1920, 1280, 960, 960, 640, 640)
"""Channels that enter each ResNet, its skip among them: `specs/hyperfeatures.md` §3.2, `specs/sd4match.md` §1.4."""
SAVED = (1280,) * 6 + (640,) * 3 + (320,) * 3
"""Channels of the maps: `specs/hyperfeatures.md` §3.2."""
BLOCKS = {64: (8, 16, 32, 64), 96: (12, 24, 48, 96)}
"""Cells an edge in each block of the decoder, by those of the latent: 512 and 768 pixels."""


@pytest.mark.parametrize("side", BLOCKS)
@pytest.mark.parametrize("network", ["sd15", "sd21"])
def test_the_twelve_sublayers(network: str, side: int, forward: Forward, request: pytest.FixtureRequest) -> None:
    unet: UNet2DConditionModel = request.getfixturevalue(network)
    entered: list[tuple[int, ...]] = []
    middle: list[tuple[int, ...]] = []
    handles = [
        resnet.register_forward_pre_hook(lambda module, inputs: entered.append(tuple(inputs[0].shape[1:])))
        for resnet in decoder_resnets(unet).values()
    ]
    handles.append(
        unet.mid_block.register_forward_hook(lambda module, inputs, out: middle.append(tuple(out.shape[1:])))
    )
    names = chosen_layers(unet, ())
    with DecoderTaps(unet, names, hook="residual").recording() as maps:
        forward(unet, side)
    for handle in handles:
        handle.remove()
    cells = [cells for cells in BLOCKS[side] for _ in range(3)]
    assert entered == [(channels, edge, edge) for channels, edge in zip(ENTERING, cells, strict=True)]
    assert middle == [(1280, cells[0], cells[0])]
    assert list(maps) == [f"up{block}.{index}" for block in range(4) for index in range(3)]
    assert [tuple(values.shape[1:]) for values in maps.values()] == [
        (channels, edge, edge) for channels, edge in zip(SAVED, cells, strict=True)
    ]


def test_values_of_a_timestep(sd15: UNet2DConditionModel) -> None:
    """`specs/hyperfeatures.md` §3.2 and §8: 10,560 channels, and 7,127,040 values where nothing is resized."""
    layers = layer_specs(sd15, chosen_layers(sd15, ()), latent=(64, 64))
    assert sum(layer.channels for layer in layers) == 10_560
    assert sum(layer.channels * layer.grid[0] * layer.grid[1] for layer in layers) == 7_127_040


def test_what_the_network_makes_of_the_time_minus_one(sd15: UNet2DConditionModel) -> None:
    """`specs/hyperfeatures.md` §2.3: [cos f | -sin f] with f = 10000^(-i / 160), 320 numbers."""
    frequencies = 10_000 ** (-torch.arange(160) / 160)
    expected = torch.cat((frequencies.cos(), -frequencies.sin()))
    torch.testing.assert_close(sd15.time_proj(torch.tensor([-1.0]))[0], expected, rtol=0, atol=1e-5)
