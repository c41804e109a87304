"""GeoAware-SC's taps on a network of Stable Diffusion 1.5's shape: `specs/geoaware.md` §1.1 and §1.2."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from matchkit.core.geometry import image_to_grid_corner, letterboxed_size, place
from matchkit.core.interfaces import Backbone
from matchkit.extract.backbones.diffusion import add_noise, cumulative_alphas
from matchkit.extract.backbones.freeu import FreeU
from matchkit.extract.backbones.geoaware import TAPS, origins
from matchkit.extract.backbones.taps import DecoderTaps, layer_specs

Forward = Callable[[UNet2DConditionModel, int], None]
Build = Callable[..., Backbone]
CANVAS, CROP, LATENT = 960, 512, 64
SHAPES = {"sd.s5": (1280, 64, 15), "sd.s4": (1280, 32, 30), "sd.s3": (640, 16, 60)}
"""Channels, input pixels a cell, cells an edge of the canvas."""
OVERLAPS = {"sd.s3": (28, 31), "sd.s4": (14, 15), "sd.s5": (7, 7)}
"""First and last row of a map that two crops see."""
ENTERING = {"sd.s5": 2, "sd.s4": 5, "sd.s3": 8}
"""The decoder's sub-layer, of twelve, that each tap enters."""


def test_the_network_has_the_published_size(sd15: UNet2DConditionModel) -> None:
    assert sum(parameter.numel() for parameter in sd15.parameters()) == pytest.approx(859.5e6, rel=1e-4)


def test_taps_are_what_enters_the_published_sublayers(sd15: UNet2DConditionModel, forward: Forward) -> None:
    """A sub-layer's input without its skip has the shape, and lies at the place, of the tap before it."""
    entered: list[tuple[int, ...]] = []
    resnets = [resnet for block in sd15.up_blocks for resnet in block.resnets]
    handles = [
        resnet.register_forward_pre_hook(lambda module, inputs: entered.append(tuple(inputs[0].shape[1:])))
        for resnet in resnets
    ]
    with DecoderTaps(sd15, tuple(TAPS.values()), hook="sublayer").recording() as maps:
        forward(sd15, LATENT)
    for handle in handles:
        handle.remove()
    for name, index in ENTERING.items():
        channels, height, width = maps[TAPS[name]].shape[1:]
        skip = resnets[index].in_channels - channels
        assert entered[index] == (channels + skip, height, width)
        assert TAPS[name] == f"up{(index - 1) // 3}.{(index - 1) % 3}"
        assert (channels, CROP // height) == SHAPES[name][:2]
        assert CANVAS // (CROP // height) == SHAPES[name][2]
    told = layer_specs(sd15, tuple(TAPS.values()), latent=(LATENT, LATENT))
    assert {layer.name: layer.grid for layer in told} == {tap: tuple(maps[tap].shape[2:]) for tap in TAPS.values()}


def test_four_crops_and_where_they_overlap() -> None:
    assert origins(CANVAS, CROP) == [0, 448]
    for name, (first, last) in OVERLAPS.items():
        stride = SHAPES[name][1]
        seen = [range(start // stride, (start + CROP) // stride) for start in origins(CANVAS, CROP)]
        assert [row for row in seen[0] if row in seen[1]] == list(range(first, last + 1))


def test_freeu_goes_by_channels(sd15: UNet2DConditionModel) -> None:
    """b1 1.2 and s1 0.9 for 1280 channels, b2 1.4 and s2 0.2 for 640, nothing for 320."""
    assert FreeU().factors(sd15) == {1280: (1.2, 0.9), 640: (1.4, 0.2)}


@pytest.mark.parametrize(("timestep", "alpha"), [(50, 0.951577), (100, 0.894223)])
def test_the_schedule(timestep: int, alpha: float) -> None:
    alphas = cumulative_alphas(beta_start=0.00085, beta_end=0.012, steps=1000)
    assert float(alphas[timestep]) == pytest.approx(alpha, abs=6e-7)


@pytest.mark.parametrize(("timestep", "levels"), [(50, (0.975488, 0.220052)), (100, (0.945634, 0.325233))])
def test_noise_levels(timestep: int, levels: tuple[float, float]) -> None:
    alphas = cumulative_alphas(beta_start=0.00085, beta_end=0.012, steps=1000)
    one, none = torch.ones(1), torch.zeros(1)
    found = (add_noise(one, none, alpha=alphas[timestep]), add_noise(none, one, alpha=alphas[timestep]))
    assert [float(value) for value in found] == pytest.approx(levels, abs=2e-6)


@pytest.mark.parametrize(
    ("size", "inner", "offset", "point", "on_canvas", "cell"),
    [
        ((500, 375), (840, 630), (0, 105), (250, 187.5), (420, 420), (30, 30)),
        ((333, 500), (559, 840), (140, 0), (100, 400), (308, 672), (22, 48)),
    ],
)
def test_where_a_photograph_lies_on_the_canvas(
    size: tuple[int, int],
    inner: tuple[int, int],
    offset: tuple[int, int],
    point: tuple[float, float],
    on_canvas: tuple[float, float],
    cell: tuple[float, float],
) -> None:
    """§1.1, step 3: rows 105..734 and columns 140..698; points without the half pixel, as published.

    The published scale is one for both axes; here it is that of the whole pixels that were resized to, 559 / 333 for
    1.68, so that a point lies up to a quarter of a pixel aside.
    """
    placement = place(size, (840, 840), fit="letterbox")
    assert letterboxed_size(size, (840, 840)) == inner
    assert placement.offset == offset
    points = image_to_grid_corner(np.asarray([point], np.float32), placement, (60, 60))
    assert tuple(points[0] * 14) == pytest.approx(on_canvas, abs=0.25)
    assert tuple(points[0]) == pytest.approx(cell, abs=0.25 / 14)


def test_noise_and_positions_have_the_published_shapes(build_published: Build) -> None:
    """§1.2: noise of 1 x 4 x 64 x 64; §1.3: positions of 37 x 37 brought to 60 x 60, read after block 11."""
    backbone = build_published("geoaware")
    assert backbone._network.latent_shape == (4, LATENT, LATENT)  # type: ignore[attr-defined]
    dino = backbone._dino  # type: ignore[attr-defined]
    assert [layer.name for layer in dino.spec.layers] == ["block11"]
    assert dino.spec.options["positions"] == "published"
    positions = dino._read._network.model.embeddings.position_embeddings
    assert positions.shape == (1, 1 + 60 * 60, 768)
