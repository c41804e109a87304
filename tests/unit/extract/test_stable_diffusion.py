"""One call of a frozen pipeline: what it predicts, where it ends, and what its VAE says."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

from matchkit.core.errors import WeightsError
from matchkit.extract.backbones.diffusion import denoise, invert
from matchkit.extract.backbones.stable_diffusion import Pipeline, StableDiffusion, Told

CPU = torch.device("cpu")
INVERSION = {-1: 1.0, 0: 1.011237, 60: 1.067934, 460: 0.905063, 960: 0.447024}
GENERATION = {980: 1.0, 960: 1.073432, 480: 4.228884, 80: 6.388596, 0: 6.410089, -1: 6.385369}
"""`specs/hyperfeatures.md` §2.9: x at each call where the noise is 0.1 x + 0.3, from x = 1; the last is the end's."""


def build(folder: Path | str, **changes: Any) -> StableDiffusion:
    parts: dict[str, Any] = {
        **{"weights": str(folder), "init": "trained", "layers": (), "hook": "residual"},
        **{"input_size": 0, "precision": "fp32", "seed": 0},
    }
    return StableDiffusion(Pipeline(**parts | changes), device=CPU)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def predicting(folder: Path, copy: Path, prediction: str) -> StableDiffusion:
    """A pipeline whose UNet knows the noise, 0.1 x + 0.3, and says it as epsilon or as v."""
    shutil.copytree(folder, copy)
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": prediction}))
    network = build(copy)
    alphas = network.alphas.double()

    def unet(latents: torch.Tensor, times: torch.Tensor, encoder_hidden_states: torch.Tensor) -> SimpleNamespace:
        noise = (0.1 * latents + 0.3).double()
        if prediction == "v_prediction":
            timestep = int(times[0])
            alpha = alphas[timestep] if timestep >= 0 else torch.ones((), dtype=torch.float64)
            clean = (latents - (1 - alpha).sqrt() * noise) / alpha.sqrt()
            noise = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean  # the definition of v
        return SimpleNamespace(sample=noise.float())

    network.unet = unet
    return network


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_golden_trajectories_of_both_predictions(sd_folder: Path, tmp_path: Path, prediction: str) -> None:
    network = predicting(sd_folder, tmp_path / "copy", prediction)
    states, start = torch.zeros(1, 6, 8), torch.ones(1, 4, 2, 2)

    def noise(latents: torch.Tensor, timestep: int) -> torch.Tensor:
        return network.predict(latents, timestep, states)[0]

    up = {step: float(x.mean()) for step, x in invert(start, noise, alphas=network.alphas, steps=50, last=960)}
    assert {step: up[step] for step in INVERSION} == pytest.approx(INVERSION, abs=2e-6)
    down = {step: float(x.mean()) for step, x in denoise(start, noise, alphas=network.alphas, steps=50)}
    assert list(down) == [*range(980, -1, -20), -1]
    assert {step: down[step] for step in GENERATION} == pytest.approx(GENERATION, abs=2e-5)


def test_a_call_for_maps_alone_ends_at_the_last_of_them(sd_folder: Path, images: torch.Tensor) -> None:
    network = build(sd_folder, layers=("up1.out", "up0.1"))
    reached: list[str] = []
    for name in ("up_blocks.1.upsamplers.0", "up_blocks.2.resnets.0", "conv_out"):
        network.unet.get_submodule(name).register_forward_hook(lambda *_, name=name: reached.append(name))
    latents, states = network.latents(images, ["a", "b"], posterior="mean", seed=0), torch.zeros(1, 6, 8)
    maps = network.maps(latents, 50, states)
    assert reached == ["up_blocks.1.upsamplers.0"]
    _, whole = network.predict(latents, 50, states)
    assert reached[-1] == "conv_out"
    assert maps.keys() == whole.keys() == {"up0.1", "up1.out"}
    assert all(torch.equal(maps[name], whole[name]) for name in maps)


def test_states_of_each_latent(sd_folder: Path, images: torch.Tensor) -> None:
    network = build(sd_folder, layers=("up3.2",))
    latents = network.latents(images, ["a", "b"], posterior="mean", seed=0)
    states = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    together = network.maps(latents, 50, states)["up3.2"]
    for row in range(2):
        alone = network.maps(latents[[row]], 50, states[[row]])["up3.2"]
        torch.testing.assert_close(together[[row]], alone, rtol=1e-5, atol=1e-5)


def test_the_posterior_is_diffusers(sd_folder: Path, images: torch.Tensor) -> None:
    vae = AutoencoderKL.from_pretrained(sd_folder, subfolder="vae").eval()
    posterior = build(sd_folder).encode(images)
    with torch.no_grad():
        expected = vae.encode(images * 2 - 1).latent_dist
    torch.testing.assert_close(posterior.expected(), expected.mode() * 0.18215)
    first, again, second, renamed = (
        posterior.drawn(ids, seed=0, copy=copy)
        for ids, copy in ((["a", "b"], 0), (["a", "b"], 0), (["a", "b"], 1), ("ax", 0))
    )
    assert torch.equal(first, again)
    assert torch.equal(first[0], renamed[0])
    draws = [(sample / 0.18215 - expected.mean) / expected.std for sample in (first, second)]
    assert 0.8 < float(torch.stack(draws).std()) < 1.2
    assert (first - second).abs().min(dim=0).values.max() > 1e-4
    assert not torch.equal(first[1], renamed[1])


def test_pictures_are_rounded_and_bounded(sd_folder: Path) -> None:
    network = build(sd_folder)
    values = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])
    latents = torch.full((1, 4, 2, 2), 0.18215)
    seen: list[torch.Tensor] = []

    def decode(scaled: torch.Tensor) -> SimpleNamespace:
        seen.append(scaled)
        return SimpleNamespace(sample=values.expand(1, 3, 1, 6))

    network.vae.decode = decode
    pictures = network.decode(latents)
    torch.testing.assert_close(seen[0], torch.ones(1, 4, 2, 2))
    assert pictures.shape == (1, 1, 6, 3)
    assert pictures[0, 0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]  # 127.5 to even


def test_other_weights_for_the_unet(sd_folder: Path, tmp_path: Path, images: torch.Tensor) -> None:
    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet")
    doubled = {name: tensor * 2 for name, tensor in unet.state_dict().items()}
    save_file(doubled, tmp_path / "other.safetensors")
    plain, other = build(sd_folder), build(sd_folder, unet=str(tmp_path / "other.safetensors"))
    assert torch.equal(other.unet.conv_in.weight, 2 * plain.unet.conv_in.weight)
    assert other.checksum.startswith(plain.checksum + ", UNet sha256:")
    del doubled["conv_in.weight"]
    save_file(doubled, tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match=r"short\.safetensors holds no weights of the UNet of .*conv_in\.weight"):
        build(sd_folder, unet=str(tmp_path / "short.safetensors"))


@torch.no_grad()
def test_guidance_and_what_a_call_is_told_further(sd_folder: Path) -> None:
    network = build(sd_folder, layers=("up0.0",))
    latents = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted, unwanted = torch.zeros(1, 6, 8), torch.ones(2, 6, 8)
    seen: list[tuple[torch.Size, list[float], torch.Tensor]] = []

    def further(given: torch.Tensor, times: torch.Tensor, states: torch.Tensor) -> dict[str, Any]:
        seen.append((given.shape, times.tolist(), states))
        return {"attention_mask": None}

    noise, maps = network.guided(
        latents, 50, wanted=Told(wanted), unwanted=Told(unwanted, further=further), guidance=3.0
    )
    (without, _), (alone, expected) = (network.predict(latents, 50, states) for states in (unwanted, wanted))
    torch.testing.assert_close(noise, 3 * alone - 2 * without, rtol=1e-4, atol=1e-5)
    assert torch.equal(maps["up0.0"], expected["up0.0"])
    assert [(shape, times) for shape, times, _ in seen] == [((2, 4, 8, 8), [50.0, 50.0])]
    assert torch.equal(seen[0][2], unwanted)
    one, _ = network.guided(latents, 50, wanted=Told(wanted), unwanted=Told(unwanted, further=further), guidance=1.0)
    assert torch.equal(one, alone)
    assert len(seen) == 1
