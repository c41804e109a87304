"""The inversion backbone on a tiny untrained pipeline that `conftest.py` builds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.sd_inversion import SDInversion, SDInversionParams

CPU = torch.device("cpu")
LAYERS = [f"up{block}.{index}" for block in range(4) for index in range(3)]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def build(folder: Path, **changes: Any) -> SDInversion:
    params: dict[str, Any] = {"weights": str(folder), "steps": 4, "keys": (3, 1), "dtype": "fp32"}
    return SDInversion(SDInversionParams(**params | changes), device=CPU)


def test_twelve_layers_at_native_resolution(sd_folder: Path, images: torch.Tensor) -> None:
    backbone = build(sd_folder)
    assert [layer.name for layer in backbone.spec.layers] == LAYERS
    assert [layer.channels for layer in backbone.spec.layers] == [12] * 3 + [8] * 6 + [4] * 3
    assert [layer.grid[0] for layer in backbone.spec.layers] == [1] * 3 + [2] * 3 + [4] * 3 + [8] * 3
    assert backbone.spec.input_size == (16, 16)  # the pipeline's own
    maps = backbone(images, ["a", "b", "c"])
    assert {name: tuple(values.shape) for name, values in maps.items()} == {
        layer.name: (3, 2, layer.channels, *layer.grid) for layer in backbone.spec.layers
    }


def test_another_input_size_gives_another_grid(sd_folder: Path) -> None:
    backbone = build(sd_folder, input_size=32, keys=(3,))
    assert backbone.spec.layer("up3.2").grid == (16, 16)
    assert backbone(torch.rand(1, 3, 32, 32), ["a"])["up3.2"].shape == (1, 1, 4, 16, 16)


def test_the_first_call_is_a_plain_forward_with_time_minus_one(sd_folder: Path, images: torch.Tensor) -> None:
    backbone = build(sd_folder, keys=(3,))
    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet").eval()
    vae = AutoencoderKL.from_pretrained(sd_folder, subfolder="vae").eval()
    kept: list[torch.Tensor] = []
    unet.up_blocks[1].resnets[2].conv2.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        latents = vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
        states = backbone._prompts(["a"]).expand(3, -1, -1)
        unet(latents, torch.full((3,), -1.0), encoder_hidden_states=states)
    # a time of 0 instead is 0.09 away
    torch.testing.assert_close(backbone(images, ["a", "b", "c"])["up1.2"][:, 0], kept[0], rtol=0, atol=1e-5)


def test_maps_come_in_the_order_of_the_keys(sd_folder: Path, images: torch.Tensor) -> None:
    forward, backward = build(sd_folder, keys=(3, 2, 0)), build(sd_folder, keys=(0, 2, 3))
    assert forward.spec.timesteps == (-1, 0, 500)
    assert backward.spec.timesteps == (500, 0, -1)
    one, other = forward(images, ["a", "b", "c"])["up2.0"], backward(images, ["a", "b", "c"])["up2.0"]
    torch.testing.assert_close(one, other.flip(1), rtol=0, atol=0)
    assert (one[:, 0] - one[:, 2]).abs().max() > 1e-3


def test_no_keys_keep_every_call(sd_folder: Path) -> None:
    assert build(sd_folder, keys=()).spec.timesteps == (-1, 0, 250, 500)


@pytest.mark.parametrize("steps", [4, 50])
def test_one_step_equals_the_clean_call_of_a_longer_run(sd_folder: Path, images: torch.Tensor, steps: int) -> None:
    """Hyperfeatures §2.7."""
    one = build(sd_folder, steps=1, keys=(0,))(images, ["a", "b", "c"])
    longer = build(sd_folder, steps=steps, keys=(steps - 1,))(images, ["a", "b", "c"])
    torch.testing.assert_close(one, longer, rtol=0, atol=0)


@pytest.mark.parametrize("change", [{"hook": "output"}, {"first_t": 0}, {"prompt": "a dog"}, {"posterior": "sample"}])
def test_every_option_changes_features_and_digest(
    sd_folder: Path, images: torch.Tensor, change: dict[str, Any]
) -> None:
    plain, changed = build(sd_folder), build(sd_folder, **change)
    assert plain.spec.digest() != changed.spec.digest()
    one, other = (backbone(images, ["a", "b", "c"])["up2.1"] for backbone in (plain, changed))
    assert (one - other).abs().max() > 1e-6


def test_a_sampled_posterior_depends_on_seed_and_image_alone(sd_folder: Path, images: torch.Tensor) -> None:
    backbone = build(sd_folder, posterior="sample", seed=1)
    together = backbone(images, ["a", "b", "c"])["up3.0"]
    alone = backbone(images[[1]], ["b"])["up3.0"]
    torch.testing.assert_close(together[[1]], alone, rtol=1e-5, atol=1e-5)
    renamed = backbone(images[[1]], ["x"])["up3.0"]
    reseeded = build(sd_folder, posterior="sample", seed=2)(images[[1]], ["b"])["up3.0"]
    assert (renamed - alone).abs().max() > 1e-4
    assert (reseeded - alone).abs().max() > 1e-4


def test_random_weights_are_another_reproducible_network(sd_folder: Path, images: torch.Tensor) -> None:
    trained = build(sd_folder)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    random = build(sd_folder, init="random", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    maps = [
        backbone(images, ["a", "b", "c"])["up0.1"]
        for backbone in (trained, random, build(sd_folder, init="random", seed=1), build(sd_folder, init="random"))
    ]
    torch.testing.assert_close(maps[1], maps[2], rtol=0, atol=0)
    assert (maps[0] - maps[1]).abs().max() > 1e-3
    assert (maps[1] - maps[3]).abs().max() > 1e-3
    assert "seed 1" in random.spec.weights
    assert trained.spec.weights in random.spec.weights


@pytest.mark.parametrize("init", ["trained", "random"])
def test_half_precision_is_near(sd_folder: Path, images: torch.Tensor, init: str) -> None:
    single, half = build(sd_folder, init=init), build(sd_folder, init=init, precision="bf16")
    assert single.spec.digest() != half.spec.digest()
    one, other = (backbone(images, ["a", "b", "c"])["up2.1"] for backbone in (single, half))
    assert 0 < (one - other).abs().max() < 0.1 * one.abs().max()


def test_a_subset_of_layers_in_the_order_of_the_forward_pass(sd_folder: Path, images: torch.Tensor) -> None:
    backbone = build(sd_folder, layers=("up3.1", "up0.2"), dtype="fp16")
    assert [layer.name for layer in backbone.spec.layers] == ["up0.2", "up3.1"]
    maps = backbone(images, ["a", "b", "c"])
    assert list(maps) == ["up0.2", "up3.1"]
    whole = build(sd_folder)(images, ["a", "b", "c"])
    torch.testing.assert_close(maps["up3.1"], whole["up3.1"].half(), rtol=0, atol=0)


def test_the_run_ends_after_the_last_wanted_call(
    sd_folder: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    forward = UNet2DConditionModel.forward

    def counted(self: UNet2DConditionModel, sample: torch.Tensor, timestep: torch.Tensor, **rest: Any) -> object:
        times.append(float(timestep[0]))
        return forward(self, sample, timestep, **rest)

    monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
    build(sd_folder, keys=(2,))(images, ["a", "b", "c"])
    assert times == [-1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ("up3.3",)}, r"no layer 'up3\.3'.*Did you mean 'up3\.\d'"),
        ({"keys": (4,)}, r"keys must lie in 0\.\.3 for steps 4, not 4"),
        ({"keys": (-1,)}, "not -1"),
        ({"steps": 0, "keys": ()}, r"steps must lie in 1\.\.1000, not 0"),
        ({"steps": 2000, "keys": ()}, r"steps must lie in 1\.\.1000, not 2000"),
        ({"input_size": 20}, "input_size 20 is not a multiple of 8"),
    ],
)
def test_impossible_parameters_are_refused(sd_folder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(sd_folder, **change)


def test_a_pipeline_that_predicts_the_clean_latent_is_refused(sd_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "x0")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "sample"}))
    with pytest.raises(WeightsError, match="a prediction of sample"):
        build(folder)


def test_a_schedule_of_another_length(sd_folder: Path, tmp_path: Path, images: torch.Tensor) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "short")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_train_timesteps": 400}))
    backbone = build(folder)
    assert backbone.spec.timesteps == (-1, 100)
    assert backbone.spec.digest() != build(sd_folder).spec.digest()
    assert backbone(images, ["a", "b", "c"])["up0.0"].shape[1] == 2


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_with_truncated_weights_is_refused(sd_folder: Path, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "cut")
    (weights,) = (folder / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="is not a Stable Diffusion pipeline"):
        build(folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_with_a_broken_configuration_is_refused(sd_folder: Path, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(sd_folder, tmp_path / "broken")
    (folder / part / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is not a Stable Diffusion pipeline"):
        build(folder)
