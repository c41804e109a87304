"""Maps of noised latents on a tiny untrained pipeline, against plain diffusers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.seeding import generator
from matchkit.extract.backbones.prompts import LearnedPrompts, Prompts, TextEncoder
from matchkit.extract.backbones.sd_inversion import SDInversion, SDInversionParams
from matchkit.extract.backbones.sd_noise import SDNoise, SDNoiseParams

CPU = torch.device("cpu")
IDS = ["cat/a", "dog/b", "cat/c"]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def build(folder: Path, **changes: Any) -> SDNoise:
    return SDNoise(SDNoiseParams(**{"weights": str(folder), "dtype": "fp32"} | changes), device=CPU)


def dift(folder: Path, image: torch.Tensor, name: str, prompt: str, *, timestep: int, copies: int) -> torch.Tensor:
    """DIFT on one image as its publication says it: the image is repeated, then encoded, noised and passed through."""
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    kept: list[torch.Tensor] = []
    unet.up_blocks[1].register_forward_hook(lambda module, inputs, output: kept.append(output))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alpha = (1 - betas).cumprod(0)[timestep]
    with torch.no_grad():
        posterior = vae.encode(image.expand(copies, -1, -1, -1) * 2 - 1).latent_dist
        sampled = [
            torch.randn(4, 8, 8, generator=generator(3, name, "posterior", *([copy] if copy else [])))
            for copy in range(copies)
        ]
        latents = (posterior.mean + posterior.std * torch.stack(sampled)) * 0.18215
        noise = torch.stack([torch.randn(4, 8, 8, generator=generator(3, name, timestep, n)) for n in range(copies)])
        noisy = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
        states = TextEncoder(folder, device=CPU, dtype=torch.float32)(prompt)
        unet(noisy, timestep, encoder_hidden_states=states.expand(copies, -1, -1))
    return kept[0].mean(0)


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_dift_written_plainly(sd_folder: Path, images: torch.Tensor, at_once: int) -> None:
    settings = {"ensemble": 3, "copies_at_once": at_once, "posterior": "copies", "prompt": "a {category}", "seed": 3}
    maps = build(sd_folder, timesteps=(261, 50), **settings)(images, IDS)["up1.out"]
    assert maps.shape == (3, 2, 8, 4, 4)
    for row, (image, name) in enumerate(zip(images, IDS, strict=True)):
        for step, timestep in enumerate((261, 50)):
            prompt = f"a {name.split('/')[0]}"
            expected = dift(sd_folder, image, name, prompt, timestep=timestep, copies=3)
            torch.testing.assert_close(maps[row, step], expected, rtol=1e-5, atol=1e-5)


def test_copies_at_once_are_no_part_of_the_spec(sd_folder: Path) -> None:
    one, two = (build(sd_folder, ensemble=4, copies_at_once=number) for number in (1, 2))
    assert one.spec.digest() == two.spec.digest()


def test_one_sample_of_the_vae_an_image_or_a_copy(sd_folder: Path, images: torch.Tensor) -> None:
    """With no noise, copies of one sample are equal, and those of several are not."""
    settings = {"noise": "none", "timesteps": (-1,)}
    one = build(sd_folder, posterior="sample", **settings)(images, IDS)["up1.out"]
    copies = [build(sd_folder, posterior="copies", ensemble=n, **settings)(images, IDS)["up1.out"] for n in (1, 2)]
    assert torch.equal(one, copies[0])
    assert (copies[0] - copies[1]).abs().max() > 1e-5


def test_without_noise_it_is_one_step_of_an_inversion(sd_folder: Path, images: torch.Tensor) -> None:
    """`time` is what the network is told; -1 where nothing is said, as the inversion's first call."""
    layers = ("up0.1", "up3.2")
    one = SDInversion(
        SDInversionParams(weights=str(sd_folder), steps=1, keys=(0,), layers=layers, dtype="fp32"), device=CPU
    )
    clean = build(sd_folder, noise="none", timesteps=(-1,), layers=layers, hook="residual")
    assert clean.spec.timesteps == one.spec.timesteps == (-1,)
    expected = one(images, IDS)
    assert all(torch.equal(maps, expected[name]) for name, maps in clean(images, IDS).items())


def test_the_time_that_is_told(sd_folder: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    forward = UNet2DConditionModel.forward

    def counted(self: UNet2DConditionModel, sample: torch.Tensor, timestep: torch.Tensor, **rest: Any) -> object:
        times.append(float(timestep[0]))
        return forward(self, sample, timestep, **rest)

    monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
    build(sd_folder, timesteps=(50, 261), ensemble=2)(images, IDS)
    build(sd_folder, timesteps=(-1,), noise="none", time=261)(images, IDS)
    assert times == [50, 50, 261, 261, 261]


def test_shared_noise_is_one_tensor_from_a_plain_seed(sd_folder: Path, images: torch.Tensor) -> None:
    backbone = build(sd_folder, noise="shared", seed=42)
    maps, renamed = backbone(images, IDS), backbone(images, ["x", "y", "z"])
    assert torch.equal(maps["up1.out"], renamed["up1.out"])
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(42))
    network = backbone._network
    noisy = network.noised(network.latents(images, IDS, posterior="mean", seed=0), noise, 261)
    states = Prompts(network.text_encoder(), "")(IDS)
    torch.testing.assert_close(maps["up1.out"][:, 0], network.maps(noisy, 261, states)["up1.out"], rtol=0, atol=0)


def test_noise_of_its_own_depends_on_seed_image_and_timestep(sd_folder: Path, images: torch.Tensor) -> None:
    same = images[:1].expand(2, -1, -1, -1)
    maps = build(sd_folder, timesteps=(261, 261))(same, ["a", "b"])["up1.out"]
    assert (maps[0] - maps[1]).abs().max() > 1e-4
    assert torch.equal(maps[:, 0], maps[:, 1])
    assert (build(sd_folder, seed=1)(same, ["a", "b"])["up1.out"][:, 0] - maps[:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "change",
    [
        *({"timesteps": (50,)}, {"noise": "shared"}, {"time": 0}, {"ensemble": 2}, {"posterior": "sample"}),
        *({"prompt": "a dog"}, {"seed": 1}, {"init": "random", "seed": 1}, {"hook": "sublayer"}, {"hook": "residual"}),
    ],
)
def test_every_option_changes_features_and_digest(
    sd_folder: Path, images: torch.Tensor, change: dict[str, Any]
) -> None:
    plain, changed = build(sd_folder, layers=("up1.1",)), build(sd_folder, layers=("up1.1",), **change)
    assert plain.spec.digest() != changed.spec.digest()
    one, other = (backbone(images, IDS)["up1.1"] for backbone in (plain, changed))
    assert (one - other).abs().max() > 1e-6


@pytest.mark.parametrize("change", [{"resample": "bicubic"}, {"bars": 0.0}, {"oriented": True}, {"fit": "letterbox"}])
def test_how_an_image_is_put_in_is_told_and_recorded(sd_folder: Path, change: dict[str, Any]) -> None:
    plain, changed = build(sd_folder), build(sd_folder, **change)
    assert plain.spec.digest() != changed.spec.digest()
    ((name, value),) = change.items()
    assert getattr(changed.canvases[0], name) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": (1000,)}, r"timesteps must lie in 0\.\.999, not 1000"),
        ({"timesteps": (-1,)}, r"timesteps must lie in 0\.\.999, not -1"),
        ({"timesteps": ()}, "must each be at least one"),
        ({"ensemble": 0}, "must each be at least one"),
        ({"copies_at_once": 0}, "must each be at least one"),
        ({"noise": "none"}, r"timesteps must be \[-1\]"),
        ({"noise": "shared", "ensemble": 2}, "all 2 copies are equal with noise shared"),
        ({"noise": "none", "timesteps": (-1,), "ensemble": 2, "posterior": "sample"}, "copies are equal"),
        ({"layers": ("up1.ouf",)}, r"no layer 'up1\.ouf'.*Did you mean 'up1\.out'"),
    ],
)
def test_impossible_parameters_are_refused(sd_folder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(sd_folder, **change)


def test_half_precision_is_near(sd_folder: Path, images: torch.Tensor) -> None:
    one, other = (build(sd_folder, precision=precision)(images, IDS)["up1.out"] for precision in ("fp32", "bf16"))
    assert 0 < (one - other).abs().max() < 0.1 * one.abs().max()


def test_states_that_were_learned_stand_for_words(sd_folder: Path, images: torch.Tensor) -> None:
    words = TextEncoder(sd_folder, device=CPU, dtype=torch.float32)
    learned = LearnedPrompts({"cat": words("a cat"), "dog": words("a dog")}, "0123")
    told = build(sd_folder, prompt="a {category}")
    prompted = SDNoise(SDNoiseParams(weights=str(sd_folder), dtype="fp32"), device=CPU, prompts=learned)
    assert torch.equal(prompted(images, IDS)["up1.out"], told(images, IDS)["up1.out"])
    assert prompted.spec.options["prompt"] == "learned 0123"
    assert prompted.spec.difference(told.spec) == ["prompt: 'learned 0123', not 'a {category}'"]


def test_learned_states_of_another_width_are_refused(sd_folder: Path) -> None:
    learned = LearnedPrompts({"": torch.zeros(1, 6, 9)}, "0123")
    with pytest.raises(WeightsError, match=r"states 9 wide does not fit the UNet of .*sd, whose .* take 8"):
        SDNoise(SDNoiseParams(weights=str(sd_folder)), device=CPU, prompts=learned)
