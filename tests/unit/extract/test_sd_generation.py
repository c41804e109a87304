"""Pictures and maps from prompts on a tiny untrained pipeline, against a plainly written loop."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from matchkit.core.errors import ConfigError
from matchkit.core.seeding import generator
from matchkit.extract.backbones.prompts import TextEncoder
from matchkit.extract.backbones.sd_generation import SDGeneration, SDGenerationParams
from matchkit.extract.backbones.sd_inversion import SDInversion, SDInversionParams

CPU = torch.device("cpu")
PROMPTS, IDS = ["a red car", "a dog"], ["0001", "dog/2"]
LAYER = "up2.0"


def build(folder: Path, **changes: Any) -> SDGeneration:
    params: dict[str, Any] = {"weights": str(folder), "steps": 4, "keys": (3, 1, 0), "dtype": "fp32"}
    return SDGeneration(SDGenerationParams(**params | changes), device=CPU)


def painted_plainly(
    folder: Path, prompt: str, name: str, *, guidance: float, negative: str
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The picture's bytes and the maps of the four calls with the prompt, in the order of the calls."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
    encoder = TextEncoder(folder, device=CPU, dtype=torch.float32)
    kept: list[torch.Tensor] = []
    unet.up_blocks[2].resnets[0].conv2.register_forward_hook(lambda module, inputs, output: kept.append(output))
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
    x = torch.randn(1, 4, 8, 8, generator=generator(7, name, "painting"))
    maps = []
    with torch.no_grad():
        for timestep in (750, 500, 250, 0):
            without = unet(x, float(timestep), encoder_hidden_states=encoder(negative)).sample
            wanted = unet(x, float(timestep), encoder_hidden_states=encoder(prompt)).sample
            maps.append(kept[-1][0])
            noise = without + guidance * (wanted - without)
            alpha, following = alphas[timestep], alphas[timestep - 250] if timestep else torch.tensor(1.0)
            clean = (x - (1 - alpha) ** 0.5 * noise) / alpha**0.5
            x = following**0.5 * clean + (1 - following) ** 0.5 * noise
        picture = vae.decode(x / 0.18215).sample[0]
    return ((picture / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0), maps


def test_the_loop_written_plainly(sd_folder: Path) -> None:
    painted = build(sd_folder, guidance=7.5, negative_prompt="cat", seed=7)(PROMPTS, IDS)
    assert painted.pictures.shape == (2, 16, 16, 3)
    assert painted.pictures.dtype == torch.uint8
    for row, (prompt, name) in enumerate(zip(PROMPTS, IDS, strict=True)):
        picture, maps = painted_plainly(sd_folder, prompt, name, guidance=7.5, negative="cat")
        assert (painted.pictures[row].float() - picture).abs().max() <= 1
        # keys 3, 1, 0 are the last call, the second and the first
        expected = torch.stack([maps[3], maps[1], maps[0]])
        torch.testing.assert_close(painted.maps[LAYER][row], expected, rtol=1e-4, atol=1e-4)


def test_keys_as_an_inversion_has_them(sd_folder: Path) -> None:
    """§2.5: the same order from clean to noisy, the same layers and shapes; every timestep one level up."""
    keys = (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
    painted = build(sd_folder, steps=50, keys=keys)
    inverted = SDInversion(SDInversionParams(weights=str(sd_folder), steps=50, keys=keys), device=CPU)
    assert painted.spec.timesteps == (0, 80, 180, 280, 380, 480, 580, 680, 780, 880, 980)
    assert inverted.spec.timesteps == (-1, 60, 160, 260, 360, 460, 560, 660, 760, 860, 960)
    assert painted.spec.layers == inverted.spec.layers


def test_the_order_of_the_keys_is_kept(sd_folder: Path) -> None:
    forward, backward = build(sd_folder, keys=(3, 0)), build(sd_folder, keys=(0, 3))
    assert (forward.spec.timesteps, backward.spec.timesteps) == ((0, 750), (750, 0))
    one, other = (network(PROMPTS, IDS).maps[LAYER] for network in (forward, backward))
    assert torch.equal(one, other.flip(1))
    assert build(sd_folder, keys=()).spec.timesteps == (0, 250, 500, 750)


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 4), (7.5, 8)])
def test_calls_of_the_network(sd_folder: Path, monkeypatch: pytest.MonkeyPatch, guidance: float, calls: int) -> None:
    times: list[float] = []
    forward = UNet2DConditionModel.forward

    def counted(self: UNet2DConditionModel, sample: torch.Tensor, timestep: torch.Tensor, **rest: Any) -> object:
        times.append(float(timestep[0]))
        return forward(self, sample, timestep, **rest)

    monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
    build(sd_folder, guidance=guidance)(PROMPTS, IDS)
    assert len(times) == calls
    assert times == sorted(times, reverse=True)


def test_a_picture_depends_on_its_id_and_prompt_alone(sd_folder: Path) -> None:
    network = build(sd_folder)
    together, alone = network(PROMPTS, IDS), network(PROMPTS[1:], IDS[1:])
    assert (together.pictures[1].int() - alone.pictures[0].int()).abs().max() <= 1
    torch.testing.assert_close(together.maps[LAYER][1:], alone.maps[LAYER], rtol=1e-4, atol=1e-4)
    renamed, reworded = network(PROMPTS[1:], ["x"]), network(["a bird"], IDS[1:])
    for other in (renamed, reworded):
        assert (other.maps[LAYER] - alone.maps[LAYER]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change", [{"guidance": 2.0}, {"negative_prompt": "cat"}, {"seed": 1}, {"hook": "output"}, {"init": "random"}]
)
def test_every_option_changes_features_and_digest(sd_folder: Path, change: dict[str, Any]) -> None:
    plain, changed = build(sd_folder), build(sd_folder, **change)
    assert plain.spec.digest() != changed.spec.digest()
    one, other = (network(PROMPTS, IDS).maps[LAYER] for network in (plain, changed))
    assert (one - other).abs().max() > 1e-6


def test_keys_outside_the_trajectory(sd_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"keys must lie in 0\.\.3 for steps 4, not 4"):
        build(sd_folder, keys=(4,))


def test_the_published_settings_are_the_defaults() -> None:
    """Hyperfeatures §1.3, §2.5: guidance 7.5, seed 829304518, eleven of fifty calls."""
    params = SDGenerationParams()
    assert (params.guidance, params.seed, params.steps, params.hook) == (7.5, 829304518, 50, "residual")
    assert params.keys == (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
