"""The translator `sd` on a tiny untrained pipeline, against plainly written loops and a plain generation."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.seeding import generator
from matchkit.extract.backbones.latent_decoder import LatentDecoder
from matchkit.extract.backbones.prompts import TextEncoder
from matchkit.extract.backbones.sd_generation import SDGeneration, SDGenerationParams
from matchkit.extract.backbones.sd_translation import SDTranslation, SDTranslationParams

CPU = torch.device("cpu")
IDS = ["0001", "dog/2"]
LAYER = "up2.0"


def build(folder: Path | str, **changes: Any) -> SDTranslation:
    params: dict[str, Any] = {"weights": str(folder), "steps": 4, "guidance": 3.0, "prompt": "a dog", "seed": 7}
    return loaded(SDTranslationParams(**params | changes))


@cache
def loaded(params: SDTranslationParams) -> SDTranslation:
    """Read once for all tests: a translation leaves nothing behind."""
    return SDTranslation(params, device=CPU)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


WARPED, SURE, UNSURE = drawn(2, 4, 8, 8), torch.ones(2, 8, 8), torch.zeros(2, 8, 8)
HALF = SURE.clone()
HALF[:, :, 4:] = 0.09  # below the least confidence, 0.1
Rematched = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


@torch.no_grad()
def translated_plainly(
    folder: Path, start: torch.Tensor, *, guidance: float, prompt: str, rematched: Rematched
) -> torch.Tensor:
    """The latent that two steps of four lead to, from what is at timestep 250."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    encoder = TextEncoder(folder, device=CPU, dtype=torch.float32)
    kept: list[torch.Tensor] = []
    unet.up_blocks[2].resnets[0].conv2.register_forward_hook(lambda module, inputs, output: kept.append(output))
    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
    x = start
    for timestep in (250, 0):
        without, wanted = (
            unet(x, float(timestep), encoder_hidden_states=encoder(text).expand(len(x), -1, -1)).sample
            for text in ("", prompt)
        )
        noise = without + guidance * (wanted - without)
        alpha, following = alphas[timestep], alphas[timestep - 250] if timestep else torch.tensor(1.0)
        clean = rematched(timestep, (x - (1 - alpha) ** 0.5 * noise) / alpha**0.5, kept[-1])
        x = following**0.5 * clean + (1 - following) ** 0.5 * noise
    return x


def noised(warped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents at timestep 250, and their noise."""
    noise = torch.stack([torch.randn(4, 8, 8, generator=generator(7, name, "painting")) for name in IDS])
    alpha = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)[250]
    return alpha**0.5 * warped + (1 - alpha) ** 0.5 * noise, noise


def unchanged(timestep: int, clean: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    return clean


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("confidence", [SURE, HALF])
def test_the_loop_written_plainly(sd_folder: Path, confidence: torch.Tensor) -> None:
    found = build(sd_folder)(WARPED, confidence, IDS)
    start, noise = noised(WARPED)
    start = torch.where((confidence < 0.1)[:, None], noise, start)
    close(found.latents, translated_plainly(sd_folder, start, guidance=3, prompt="a dog", rematched=unchanged))
    vae = AutoencoderKL.from_pretrained(sd_folder, subfolder="vae").eval()
    with torch.no_grad():
        pictures = (vae.decode(found.latents / 0.18215).sample / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert found.pictures.shape == (2, 16, 16, 3)
    assert (found.pictures - pictures * 255).abs().max() <= 0.51


def test_cells_in_doubt_take_another_translators_latent(sd_folder: Path) -> None:
    fallback = drawn(2, 4, 8, 8, seed=1)
    found = build(sd_folder, fill="latent")(WARPED, HALF, IDS, fallback=fallback)
    start, _ = noised(torch.cat([WARPED[..., :4], fallback[..., 4:]], dim=3))
    close(found.latents, translated_plainly(sd_folder, start, guidance=3, prompt="a dog", rematched=unchanged))


@pytest.mark.parametrize("confidence", [SURE, UNSURE])
def test_without_strength_the_warped_latent_is_decoded(sd_folder: Path, confidence: torch.Tensor) -> None:
    found = build(sd_folder, strength=0.0)(WARPED, confidence, IDS)
    assert torch.equal(found.latents, WARPED)
    decoded = LatentDecoder(str(sd_folder), device=CPU).decode(WARPED)
    assert torch.equal(found.pictures, (decoded * 255).round().to(torch.uint8).permute(0, 2, 3, 1))


def test_of_noise_alone_it_is_a_generation(sd_folder: Path) -> None:
    told: dict[str, Any] = {"weights": str(sd_folder), "steps": 2, "guidance": 3.0, "negative_prompt": "cat", "seed": 7}
    painted = SDGeneration(SDGenerationParams(**told, keys=(0,)), device=CPU)(["a dog", "a dog"], IDS)
    translate = build(sd_folder, strength=1.0, steps=2, negative_prompt="cat")
    assert torch.equal(translate(WARPED, UNSURE, IDS).pictures, painted.pictures)
    assert not torch.equal(translate(WARPED, SURE, IDS).pictures, painted.pictures)


def test_matching_again_in_the_first_step(sd_folder: Path) -> None:
    """MIDMs: the clean latent predicted there gives way where the new match is accepted."""
    again, accepted = drawn(2, 4, 8, 8, seed=2), drawn(2, 8, 8, seed=3) > 0
    told: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def rematch(timestep: int, clean: torch.Tensor, maps: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        told.append((timestep, clean, maps[LAYER]))
        return again, accepted

    def rematched(timestep: int, clean: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        if timestep == 0:
            return clean
        close(told[0][1], clean)
        close(told[0][2], maps)
        return torch.where(accepted[:, None], again, clean)

    translate = build(sd_folder, interleave=1, layers=(LAYER,))
    found = translate(WARPED, SURE, IDS, rematch=rematch)
    assert [timestep for timestep, _, _ in told] == [250]
    assert [layer.name for layer in translate.layers] == [LAYER]
    start, _ = noised(WARPED)
    close(found.latents, translated_plainly(sd_folder, start, guidance=3, prompt="a dog", rematched=rematched))


@pytest.mark.parametrize("accepts", [False, True])
def test_matching_again_in_every_step(sd_folder: Path, *, accepts: bool) -> None:
    """Where nothing is accepted nothing changes; where all is, the last match is what comes out."""
    again, accepted = drawn(2, 4, 8, 8, seed=2), torch.full((2, 8, 8), accepts)
    found = build(sd_folder, interleave=2)(WARPED, SURE, IDS, rematch=lambda *_: (again, accepted))
    expected = again if accepts else build(sd_folder)(WARPED, SURE, IDS).latents
    assert torch.equal(found.latents, expected)


def test_a_picture_depends_on_its_own_row_and_id(sd_folder: Path) -> None:
    translate = build(sd_folder)
    together, alone = translate(WARPED, HALF, IDS), translate(WARPED[1:], HALF[1:], IDS[1:])
    close(together.latents[1:], alone.latents)
    for other in (translate(WARPED[1:], HALF[1:], ["x"]), build(sd_folder, seed=8)(WARPED[1:], HALF[1:], IDS[1:])):
        assert (other.latents - alone.latents).abs().max() > 0.1


def test_the_nearest_whole_step() -> None:
    """0.29 * 100 is 28.999999999999996."""
    assert SDTranslationParams(strength=0.29, steps=100).calls == 29
    assert [SDTranslationParams(strength=share, steps=4).calls for share in (0.0, 0.1, 0.7, 1.0)] == [0, 0, 3, 4]


def seeing(translate: SDTranslation, seed: int = 0) -> torch.Tensor:
    """The latents of one image whose condition and exemplar are drawn from a seed."""
    pictures = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return translate(WARPED[:1], SURE[:1], IDS[:1], condition=pictures, exemplar=pictures).latents


def test_a_controlnet_sees_the_condition(sd_folder: Path, control_folder: Path) -> None:
    plain, drawing = build(sd_folder), build(sd_folder, controlnet=str(control_folder))
    found = seeing(drawing)
    assert (found - seeing(plain)).abs().max() > 0.1
    assert (found - seeing(drawing, 1)).abs().max() > 1e-3
    assert drawing.checksum.startswith(f"{plain.checksum}, ControlNet sha256:")
    with pytest.raises(ConfigError, match="controlnet wants the condition as a picture and was given none"):
        drawing(WARPED, SURE, IDS)


def test_an_ip_adapter_sees_the_exemplar(sd_folder: Path, clip_folder: Path, adapter_file: Path) -> None:
    plain, looking = build(sd_folder), build(sd_folder, ip_adapter=str(adapter_file), image_encoder=str(clip_folder))
    found = seeing(looking)
    assert (found - seeing(plain)).abs().max() > 0.01
    assert (found - seeing(looking, 1)).abs().max() > 1e-3
    assert looking.checksum.startswith(f"{plain.checksum}, IP-Adapter sha256:")
    with pytest.raises(ConfigError, match="ip_adapter wants the exemplar as a picture and was given none"):
        looking(WARPED, SURE, IDS)


def test_both_at_once(sd_folder: Path, control_folder: Path, clip_folder: Path, adapter_file: Path) -> None:
    told = {"ip_adapter": str(adapter_file), "image_encoder": str(clip_folder)}
    both, looking = build(sd_folder, **told, controlnet=str(control_folder)), build(sd_folder, **told)
    assert (seeing(both) - seeing(looking)).abs().max() > 0.1


def test_the_embedded_pipeline() -> None:
    warped = drawn(1, 4, 16, 16)
    found = build("tiny", steps=2)(warped, torch.ones(1, 16, 16), ["a"])
    assert found.pictures.shape == (1, 128, 128, 3)
    assert found.latents.shape == (1, 4, 16, 16)
    assert found.latents.isfinite().all()
    assert (found.latents - warped).abs().max() > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": 1.5}, r"strength must lie in 0\.\.1, not 1\.5"),
        ({"least_confidence": -0.1}, r"least_confidence must lie in 0\.\.1, not -0\.1"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"interleave": 3}, r"interleave must lie in 0\.\.2, the steps taken at strength 0\.5 of 4, not 3"),
        ({"layers": ("up2.9",)}, r"no layer 'up2\.9' in this UNet's decoder"),
    ],
)
def test_parameters_that_cannot_be(sd_folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(sd_folder, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fill": "latent"}, "latents of another translator as fallback and was given none: .*set fill=noise"),
        ({"interleave": 1}, "interleave 1 wants a rematch and was given none"),
    ],
)
def test_what_is_asked_for_and_not_given(sd_folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(sd_folder, **changes)(WARPED, SURE, IDS)


def test_tensors_of_another_size(sd_folder: Path) -> None:
    translate = build(sd_folder, fill="latent")
    with pytest.raises(ConfigError, match=r"warped latents of \(2, 4, 4, 4\) .* of 16 pixels, \(2, 4, 8, 8\)"):
        translate(WARPED[..., :4, :4], SURE, IDS, fallback=WARPED)
    with pytest.raises(ConfigError, match=r"fallback latents of \(2, 4, 4, 4\) .*--set input_size=16"):
        translate(WARPED, SURE, IDS, fallback=WARPED[..., :4, :4])
    with pytest.raises(ConfigError, match=r"a confidence of \(2, 4, 4\) is not one for each cell"):
        translate(WARPED, SURE[:, :4, :4], IDS, fallback=WARPED)


def test_what_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_index\.json is missing"):
        build(tmp_path)
