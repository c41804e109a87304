"""Latents of a tiny untrained VAE that `conftest.py` builds, against diffusers' own."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import Dinov2Model

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.sd_inversion import SDInversion, SDInversionParams
from matchkit.extract.backbones.sd_latents import SDLatents, SDLatentsParams

CPU = torch.device("cpu")


def build(folder: Path, **changes: Any) -> SDLatents:
    return SDLatents(SDLatentsParams(**{"weights": str(folder), "dtype": "fp32"} | changes), device=CPU)


def photographs(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [16, 24])
def test_latents_are_the_scaled_posterior(sd_folder: Path, side: int) -> None:
    images = photographs(side)
    vae = AutoencoderKL.from_pretrained(sd_folder, subfolder="vae").eval()
    with torch.no_grad():
        posterior = vae.encode(images * 2 - 1).latent_dist
    backbone = build(sd_folder, std=True, input_size=side)
    maps = backbone(images, ["a", "b"])
    assert [(layer.name, layer.grid) for layer in backbone.spec.layers] == [
        ("latent", (side // 2, side // 2)),
        ("latent.std", (side // 2, side // 2)),
    ]
    assert backbone.spec.timesteps == (0,)
    torch.testing.assert_close(maps["latent"][:, 0], posterior.mean * 0.18215, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps["latent.std"][:, 0], posterior.std * 0.18215, rtol=1e-5, atol=1e-6)


def test_the_deviation_is_kept_on_demand_only(sd_folder: Path) -> None:
    assert list(build(sd_folder)(photographs(16), ["a", "b"])) == ["latent"]
    assert build(sd_folder).spec.digest() != build(sd_folder, std=True).spec.digest()


def test_the_input_is_that_of_the_other_backbones_on_this_pipeline(sd_folder: Path) -> None:
    inversion = SDInversion(SDInversionParams(weights=str(sd_folder), steps=4, keys=(3,)), device=CPU)
    assert build(sd_folder).spec.input_size == inversion.spec.input_size == (16, 16)


def test_a_vae_that_shifts_its_latents(sd_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "shifting")
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shift_factor": 0.25, "scaling_factor": 2.0}))
    images = photographs(16)
    plain = build(sd_folder)(images, ["a", "b"])["latent"] / 0.18215
    torch.testing.assert_close(build(folder)(images, ["a", "b"])["latent"], (plain - 0.25) * 2, rtol=1e-4, atol=1e-5)


def test_neither_unet_nor_text_encoder_is_read(sd_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "vae-alone")
    shutil.rmtree(folder / "text_encoder")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert build(folder).spec.digest() == build(sd_folder).spec.digest()


def test_an_input_of_half_a_cell_is_refused(sd_folder: Path) -> None:
    with pytest.raises(ConfigError, match="sd-latents: input_size 17 is not a multiple of 2"):
        build(sd_folder, input_size=17)


def test_a_broken_vae_is_refused(sd_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "broken")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="broken is not a Stable Diffusion pipeline: "):
        build(folder)


def test_a_pipeline_that_does_not_tell_its_size_is_asked_for_one(sd_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "sizeless")
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"is not a Stable Diffusion pipeline: .*unet/config\.json"):
        build(folder)
    assert build(folder, input_size=16).spec.input_size == (16, 16)


def test_no_dino_leaves_digests_as_they_were(sd_folder: Path) -> None:
    """Of a store that was made before there was any: a default that is recorded would move it."""
    spec = build(sd_folder, std=True).spec
    assert set(spec.options) == {"precision"}
    assert spec.weights.startswith("sha256:")
    assert build(sd_folder, dino_crop="whole").spec.digest() == build(sd_folder).spec.digest()


def test_tokens_of_dino_after_its_norm(sd_folder: Path, dinov2_folder: Path) -> None:
    backbone = build(sd_folder, std=True, dino_weights=str(dinov2_folder))
    assert [(layer.name, layer.channels, layer.grid) for layer in backbone.spec.layers] == [
        *(("latent", 4, (8, 8)), ("latent.std", 4, (8, 8))),
        ("dino", 16, (16, 16)),
    ]
    small = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    maps = backbone(photographs(16), ["a", "b"], small)
    assert torch.equal(maps["latent"], build(sd_folder)(photographs(16), ["a", "b"])["latent"])
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        tokens = Dinov2Model.from_pretrained(dinov2_folder).eval()((small - mean) / std).last_hidden_state
    expected = tokens[:, 1:].transpose(1, 2).unflatten(2, (16, 16))
    torch.testing.assert_close(maps["dino"][:, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("crop", "fit", "resample"), [("centre", "crop", "bicubic"), ("whole", "stretch", "bilinear")])
def test_what_dino_sees(sd_folder: Path, dinov2_folder: Path, crop: str, fit: str, resample: str) -> None:
    backbone = build(sd_folder, dino_weights=str(dinov2_folder), dino_crop=crop, oriented=True)
    first, second = backbone.canvases
    assert first == build(sd_folder, oriented=True).canvases[0]
    assert (second.size, second.fit, second.resample, second.oriented) == ((128, 128), fit, resample, True)
    assert backbone.spec.options["dino_crop"] == crop


def test_dino_is_part_of_the_spec(sd_folder: Path, dinov2_folder: Path) -> None:
    told = {"dino_weights": str(dinov2_folder)}
    specs = [build(sd_folder, **changes).spec for changes in ({}, told, {**told, "dino_crop": "whole"})]
    assert len({spec.digest() for spec in specs}) == 3
    assert "DINOv2 sha256:" in specs[1].weights
