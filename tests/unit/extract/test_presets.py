"""Published features by name: every preset builds, and reads what its publication reads."""

from pathlib import Path
from typing import Any

import pytest
import torch

from matchkit.core.errors import UnknownNameError
from matchkit.core.interfaces import Backbone
from matchkit.core.records import Canvas
from matchkit.extract.backbones import BACKBONES
from matchkit.extract.presets import PRESETS

TWELVE = {f"up{block}.{index}": 2 ** (3 - block) for block in range(4) for index in range(3)}
UP1 = {"up1.out": 2}
CROPS = {"sd.s5": 8, "sd.s4": 4, "sd.s3": 2}
ELEVEN = (-1, 60, 160, 260, 360, 460, 560, 660, 760, 860, 960)
PUBLISHED: dict[str, tuple[dict[str, int], tuple[int, ...], Canvas]] = {
    "hyperfeatures": (TWELVE, ELEVEN, Canvas((32, 32), "stretch", "bilinear")),
    "hyperfeatures-one-step": (TWELVE, (-1,), Canvas((32, 32), "stretch", "bilinear")),
    "dift": (UP1, (261,), Canvas((32, 32), "stretch", "bicubic")),
    "sd4match": (UP1, (50,), Canvas((32, 32), "stretch", "bilinear")),
    "sd4match-training": (UP1, (261,), Canvas((32, 32), "stretch", "bilinear")),
    "sd4match-latents": ({"latent": 1, "latent.std": 1}, (0,), Canvas((32, 32), "stretch", "bilinear")),
    "cleandift": (UP1, (-1,), Canvas((32, 32), "stretch", "bicubic")),
    "geoaware": (CROPS, (50,), Canvas((48, 48), "letterbox", "lanczos", bars=0.0)),
    "sd-dino": (CROPS, (100,), Canvas((48, 48), "letterbox", "lanczos", bars=0.0)),
}
"""Layers, with the latent's cells an edge of one of theirs; timesteps; how a photograph is put in, but for the size."""
VAE_STRIDE = 2
"""Of the tiny pipeline: input pixels a cell of its latent."""


@pytest.fixture
def build(sd_folder: Path, dinov2_folder: Path) -> Any:
    def built(name: str) -> Backbone:
        params = PRESETS.params(name)
        backbone = params.pop("backbone")
        params |= {"weights": str(sd_folder)}
        if backbone == "geoaware":
            params |= {"crop": 32, "canvas": 48, "dino_canvas": 96, "dino_weights": str(dinov2_folder)}
        else:
            params |= {"input_size": 32}
        if backbone == "sd-latents":
            params |= {"dino_weights": str(dinov2_folder), "dino_crop": "whole"}
        if "unet" in params:
            params["unet"] = str(sd_folder / "unet" / "diffusion_pytorch_model.safetensors")
        loaded: Backbone = BACKBONES.build(backbone, params, where=name, device=torch.device("cpu"))
        return loaded

    return built


@pytest.mark.parametrize("name", PRESETS.table())
def test_a_preset_reads_what_its_publication_reads(build: Any, name: str) -> None:
    strides, timesteps, canvas = PUBLISHED[name]
    backbone: Backbone = build(name)
    spec = backbone.spec
    diffusion = [layer for layer in spec.layers if layer.name != "dino"]
    assert {layer.name: spec.input_size[0] // layer.grid[0] // VAE_STRIDE for layer in diffusion} == strides
    assert spec.timesteps == timesteps
    assert backbone.canvases[0] == canvas
    images = [
        torch.rand(1, 3, *canvas.size, generator=torch.Generator().manual_seed(0)) for canvas in backbone.canvases
    ]
    maps = backbone(images[0], ["cat/a"], *images[1:])
    assert {name: values.shape[2:] for name, values in maps.items()} == {
        layer.name: (layer.channels, *layer.grid) for layer in spec.layers
    }


def test_the_copies_that_are_averaged() -> None:
    """DIFT: eight, a sample of the VAE each; SD4Match: eight of one sample in testing, one in training."""
    asked = {name: PRESETS.params(name) for name in ("dift", "sd4match", "sd4match-training", "cleandift")}
    assert {name: (params["ensemble"], params["posterior"]) for name, params in asked.items()} == {
        "dift": (8, "copies"),
        "sd4match": (8, "sample"),
        "sd4match-training": (1, "sample"),
        "cleandift": (1, "mean"),
    }
    assert asked["cleandift"]["time"] == 261
    assert all(params["prompt"] == "a photo of a {category}" for params in asked.values())


def test_geoaware_has_freeu_and_sd_dino_has_none() -> None:
    one, other = PRESETS.params("geoaware"), PRESETS.params("sd-dino")
    assert {name for name in one if one[name] != other[name]} == {"freeu", "timestep"}
    assert (one["freeu"], other["freeu"]) == ("aliased", "none")
    assert (one["canvas"], one["crop"], one["dino_canvas"], one["seed"]) == (960, 512, 840, 42)


def test_what_is_handed_out_is_a_copy() -> None:
    PRESETS.params("dift")["ensemble"] = 1
    assert PRESETS.params("dift")["ensemble"] == 8


def test_a_misspelt_preset() -> None:
    with pytest.raises(UnknownNameError, match=r"no preset 'difft'\. Did you mean 'dift'\? Run: matchkit list presets"):
        PRESETS.params("difft")
