"""A ControlNet beside a tiny pipeline, against diffusers' own calls."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch.nn import functional

from matchkit.core.errors import WeightsError
from matchkit.extract.backbones.control_net import ControlNet
from matchkit.extract.backbones.stable_diffusion import Pipeline, StableDiffusion

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def network(sd_folder: Path) -> StableDiffusion:
    return StableDiffusion(Pipeline(str(sd_folder), "trained", (), "residual", 0, "fp32", 0), device=CPU)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def predicted_plainly(sd_folder: Path, control_folder: Path, condition: torch.Tensor, scale: float) -> torch.Tensor:
    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet").eval()
    control = ControlNetModel.from_pretrained(control_folder).eval()
    latents, states, time = drawn(2, 4, 8, 8), drawn(1, 6, 8).expand(2, -1, -1), torch.tensor(260.0)
    residuals = control(latents, time, encoder_hidden_states=states, controlnet_cond=condition)
    down, middle = residuals.down_block_res_samples, residuals.mid_block_res_sample
    told = {"down_block_additional_residuals": [scale * residual for residual in down]}
    told |= {"mid_block_additional_residual": scale * middle}
    output: torch.Tensor = unet(latents, time, encoder_hidden_states=states, **told).sample
    return output


@torch.no_grad()
def predicted(network: StableDiffusion, control: ControlNet | None, condition: torch.Tensor) -> torch.Tensor:
    further = control.told(condition, (8, 8)) if control else None
    return network.predict(drawn(2, 4, 8, 8), 260, drawn(1, 6, 8), further=further)[0]


def test_residuals_reach_the_unet(network: StableDiffusion, sd_folder: Path, control_folder: Path) -> None:
    condition = drawn(2, 3, 16, 16, seed=1)
    found = predicted(network, ControlNet(str(control_folder), unet=network.unet, scale=0.7), condition)
    expected = predicted_plainly(sd_folder, control_folder, condition, 0.7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - predicted(network, None, condition)).abs().max() > 0.01


def test_a_condition_of_another_size_is_resized(network: StableDiffusion, control_folder: Path) -> None:
    control, condition = ControlNet(str(control_folder), unet=network.unet, scale=1.0), drawn(2, 3, 40, 24)
    resized = functional.interpolate(condition, (16, 16), mode="bilinear", antialias=True)
    assert torch.equal(predicted(network, control, condition), predicted(network, control, resized))


def test_a_scale_of_zero_adds_nothing(network: StableDiffusion, control_folder: Path) -> None:
    condition = drawn(2, 3, 16, 16)
    silent = ControlNet(str(control_folder), unet=network.unet, scale=0.0)
    torch.testing.assert_close(predicted(network, silent, condition), predicted(network, None, condition))


def test_it_is_frozen_and_named_by_its_weights(network: StableDiffusion, control_folder: Path, tmp_path: Path) -> None:
    control = ControlNet(str(control_folder), unet=network.unet, scale=1.0)
    changed = shutil.copytree(control_folder, tmp_path / "changed")
    weights = load_file(changed / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, changed / WEIGHTS)
    assert ControlNet(str(changed), unet=network.unet, scale=1.0).checksum != control.checksum
    condition = drawn(2, 3, 16, 16).requires_grad_()
    told = control.told(condition, (8, 8))(drawn(2, 4, 8, 8), torch.zeros(2), drawn(2, 6, 8))
    told["mid_block_additional_residual"].sum().backward()
    assert condition.grad is not None
    assert not any(parameter.requires_grad for parameter in control._network.parameters())


def test_one_for_another_unet(network: StableDiffusion, control_folder: Path, tmp_path: Path) -> None:
    config = json.loads((control_folder / "config.json").read_text())
    other = ControlNetModel.from_config(config | {"cross_attention_dim": 12})
    other.save_pretrained(tmp_path / "wider")
    with pytest.raises(WeightsError, match=r"another UNet: its cross_attention_dim is 12, this one's 8"):
        ControlNet(str(tmp_path / "wider"), unet=network.unet, scale=1.0)
    ControlNetModel.from_config(config | {"conditioning_channels": 4}).save_pretrained(tmp_path / "four")
    with pytest.raises(WeightsError, match=r"takes 4 channels; a condition is handed over as a picture of 3"):
        ControlNet(str(tmp_path / "four"), unet=network.unet, scale=1.0)


def test_weights_that_are_not_all_there(network: StableDiffusion, control_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(control_folder, tmp_path / "partial")
    weights = load_file(folder / WEIGHTS)
    del weights["controlnet_mid_block.bias"]
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(WeightsError, match=r"lacks 1 weights of a ControlNet, e\.g\. controlnet_mid_block\.bias"):
        ControlNet(str(folder), unet=network.unet, scale=1.0)
    (folder / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(WeightsError, match="is not a ControlNetModel of diffusers"):
        ControlNet(str(folder), unet=network.unet, scale=1.0)


def test_what_is_no_controlnet(network: StableDiffusion, sd_folder: Path, control_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="_class_name is 'UNet2DConditionModel'"):
        ControlNet(str(sd_folder / "unet"), unet=network.unet, scale=1.0)
    with pytest.raises(WeightsError, match="no ControlNet is embedded"):
        ControlNet("tiny", unet=network.unet, scale=1.0)
    pickled = shutil.copytree(control_folder, tmp_path / "pickled")
    (pickled / WEIGHTS).rename(pickled / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match="only pickles, which are never opened"):
        ControlNet(str(pickled), unet=network.unet, scale=1.0)
