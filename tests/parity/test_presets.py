"""The presets at their full size: the maps, the calls and the bytes that the publications have."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from matchkit.cache.layout import image_bytes
from matchkit.core.interfaces import Backbone
from matchkit.extract.presets import PRESETS
from matchkit.pipelines.plan import calls_an_image

Shapes = dict[str, tuple[int, int, int]]
TWELVE: Shapes = {
    **{f"up0.{n}": (1280, 8, 8) for n in range(3)},
    **{f"up1.{n}": (1280, 16, 16) for n in range(3)},
    **{f"up2.{n}": (640, 32, 32) for n in range(3)},
    **{f"up3.{n}": (320, 64, 64) for n in range(3)},
}
"""`specs/hyperfeatures.md` §3.2."""
UP1: Shapes = {"up1.out": (1280, 48, 48)}
"""`specs/sd4match.md` §1.4."""
LATENTS: Shapes = {"latent": (4, 96, 96), "latent.std": (4, 96, 96), "dino": (768, 16, 16)}
"""`specs/sd4match.md` §1.4, §1.5 and §2.1."""
FOUR: Shapes = {"sd.s5": (1280, 15, 15), "sd.s4": (1280, 30, 30), "sd.s3": (640, 60, 60), "dino": (768, 60, 60)}
"""`specs/geoaware.md` §1.2, §1.3 and §1.6."""


@dataclass(frozen=True)
class Published:
    """What a publication reads of a photograph.

    Attributes:
        network: in the name of its weights.
        inputs: side in pixels of each square that a network sees.
        maps: (channels, height, width) by layer.
        timesteps: how many.
        calls: of the UNet.
        fewer: parameters by which a run on the meta device is short, of as many layers.
    """

    network: str
    inputs: tuple[int, ...]
    maps: Shapes
    timesteps: int
    calls: int
    fewer: dict[str, Any] = field(default_factory=dict)


ONE_COPY = {"ensemble": 1}
PUBLISHED = {
    "hyperfeatures": Published("v1-5", (512,), TWELVE, 11, 50, {"keys": [49, 48]}),
    "hyperfeatures-one-step": Published("v1-5", (512,), TWELVE, 1, 1),
    "dift": Published("2-1", (768,), UP1, 1, 8, ONE_COPY),
    "sd4match": Published("2-1", (768,), UP1, 1, 8, ONE_COPY),
    "sd4match-training": Published("2-1", (768,), UP1, 1, 1),
    "sd4match-latents": Published("2-1", (768, 224), LATENTS, 1, 1),
    "cleandift": Published("2-1", (768,), UP1, 1, 1),
    "geoaware": Published("v1-5", (960, 840), FOUR, 1, 4),
    "sd-dino": Published("v1-5", (960, 840), FOUR, 1, 4),
}
BYTES = {
    ("hyperfeatures-one-step", "fp16"): 14_254_080,
    ("hyperfeatures-one-step", "fp32"): 28_508_160,
    ("hyperfeatures", "fp16"): 156_794_880,
    ("hyperfeatures", "fp32"): 313_589_760,
    ("geoaware", "fp32"): 26_035_200,
    ("sd-dino", "fp32"): 26_035_200,
}
"""Of an image: `specs/hyperfeatures.md` §8 (7,127,040 values a timestep), `specs/geoaware.md` §1.6."""
Build = Callable[..., Backbone]
Forward = Callable[[UNet2DConditionModel, int], None]


def test_every_preset_is_tested() -> None:
    assert set(PRESETS.table()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_preset_says_at_its_full_size(name: str, build_published: Build) -> None:
    expected, backbone = PUBLISHED[name], build_published(name)
    spec = backbone.spec
    assert expected.network in PRESETS.params(name)["weights"]
    assert {layer.name: (layer.channels, *layer.grid) for layer in spec.layers} == expected.maps
    assert [canvas.size for canvas in backbone.canvases] == [(side, side) for side in expected.inputs]
    assert len(spec.timesteps) == expected.timesteps
    assert calls_an_image(spec) == expected.calls


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_preset_gives_at_its_full_size(name: str, build_published: Build) -> None:
    expected = PUBLISHED[name]
    backbone = build_published(name, **expected.fewer)
    first, *others = (torch.empty(1, 3, side, side, device="meta") for side in expected.inputs)
    maps = backbone(first, ["cat/a"], *others)
    assert {layer: tuple(values.shape[2:]) for layer, values in maps.items()} == expected.maps
    assert {values.dtype for values in maps.values()} == {torch.float16}


@pytest.mark.parametrize(("name", "dtype"), BYTES)
def test_bytes_of_an_image(name: str, dtype: str, build_published: Build) -> None:
    assert image_bytes(build_published(name, dtype=dtype).spec) == BYTES[name, dtype]


@pytest.mark.parametrize(("network", "cost"), [("sd15", 803.3e9), ("sd21", 804.3e9)])
def test_a_call_at_512_pixels_costs_what_it_did(
    network: str, cost: float, forward: Forward, request: pytest.FixtureRequest
) -> None:
    """`specs/hyperfeatures.md` §8."""
    with FlopCounterMode(display=False) as counter:
        forward(request.getfixturevalue(network), 64)
    assert counter.get_total_flops() == pytest.approx(cost, rel=1e-3)
