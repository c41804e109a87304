"""A VAE alone, against diffusers' own and against the backbone that stores latents."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.latent_decoder import LatentDecoder
from matchkit.extract.backbones.sd_latents import SDLatents, SDLatentsParams

CPU = torch.device("cpu")


def build(folder: Path | str) -> LatentDecoder:
    return LatentDecoder(str(folder), device=CPU)


def images(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def shifted(folder: Path, copy: Path) -> Path:
    path = shutil.copytree(folder, copy) / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shift_factor": 0.25, "scaling_factor": 2.0}))
    return copy


def test_pictures_of_latents(sd_folder: Path, tmp_path: Path) -> None:
    vae, latents = AutoencoderKL.from_pretrained(sd_folder, subfolder="vae").eval(), 3 * torch.randn(2, 4, 6, 9)
    with torch.no_grad():
        expected = [vae.decode(plain).sample / 2 + 0.5 for plain in (latents / 0.18215, latents / 2 + 0.25)]
    for folder, pictures in zip((sd_folder, shifted(sd_folder, tmp_path / "sd")), expected, strict=True):
        found = build(folder).decode(latents)
        assert found.shape == (2, 3, 12, 18)
        torch.testing.assert_close(found, pictures.clamp(0, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shifts", [False, True])
def test_latents_are_those_that_are_stored(sd_folder: Path, tmp_path: Path, *, shifts: bool) -> None:
    folder = shifted(sd_folder, tmp_path / "sd") if shifts else sd_folder
    stored = SDLatents(SDLatentsParams(weights=str(folder), dtype="fp32"), device=CPU)(images(16), ["a", "b"])
    assert torch.equal(build(folder).encode(images(16)), stored["latent"][:, 0])


def test_the_embedded_one_gives_back_what_it_was_given() -> None:
    decoder = LatentDecoder(device=CPU)
    ramp = torch.linspace(0.2, 0.8, 128).expand(1, 3, 128, 128)
    latents = decoder.encode(ramp)
    assert latents.shape == (1, decoder.channels, 128 // decoder.reduction, 128 // decoder.reduction)
    assert (decoder.decode(latents) - ramp).abs().mean() < 0.05


def test_it_is_frozen_and_named_by_its_weights(sd_folder: Path) -> None:
    latents = torch.zeros(1, 4, 8, 8, requires_grad=True)
    assert not build(sd_folder).decode(latents).requires_grad
    assert build(sd_folder).checksum.startswith("sha256:")
    assert build(sd_folder).checksum != build("tiny").checksum


def test_what_does_not_fit(sd_folder: Path, tmp_path: Path) -> None:
    decoder = build(sd_folder)
    with pytest.raises(ConfigError, match=r"latents of 3 channels are not those of the VAE of .*, which has 4"):
        decoder.decode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match="images of 15 x 16 pixels are no whole number of cells of 2 pixels"):
        decoder.encode(torch.zeros(1, 3, 16, 15))
    folder = shutil.copytree(sd_folder, tmp_path / "torn")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="is not a Stable Diffusion pipeline"):
        build(folder)
