"""Stable Diffusion in crops and DINOv2 beside it, on tiny untrained networks, against a slow account of it all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Backbone
from matchkit.extract.backbones.dinov2 import DINOv2, DINOv2Params
from matchkit.extract.backbones.geoaware import GeoAware, GeoAwareParams, origins
from matchkit.extract.backbones.prompts import TextEncoder

CPU = torch.device("cpu")
IDS = ["cat/a", "dog/b"]
LAYERS = ("sd.s5", "sd.s4", "sd.s3")
CROP, CANVAS, DINO_CANVAS = 32, 48, 96
"""Two crops an axis that overlap by half; cells of 16, 8 and 4 pixels for Stable Diffusion, of 8 for DINOv2."""
SCALED = {12: (1.2, 0.9), 8: (1.4, 0.2)}
"""Of the tiny UNet: its widest maps have 12 channels, the next 8."""


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, CANVAS, CANVAS, generator=draws), torch.rand(
        2, 3, DINO_CANVAS, DINO_CANVAS, generator=draws
    )


@pytest.fixture
def build(sd_folder: Path, dinov2_folder: Path) -> Any:
    def built(**changes: Any) -> GeoAware:
        params: dict[str, Any] = {"weights": str(sd_folder), "dino_weights": str(dinov2_folder), "dtype": "fp32"}
        sides = {"crop": CROP, "canvas": CANVAS, "dino_canvas": DINO_CANVAS}
        return GeoAware(GeoAwareParams(**params | sides | changes), device=CPU)

    return built


def decoder_by_hand(
    unet: UNet2DConditionModel, latents: torch.Tensor, states: torch.Tensor, timestep: int, freeu: str
) -> list[torch.Tensor]:
    """The hidden states that enter sub-layers 2, 5 and 8 of the decoder, kept by reference and changed in place."""
    time = unet.time_embedding(unet.time_proj(torch.tensor([timestep])).float())
    h = unet.conv_in(latents)
    skips = [h]
    for block in unet.down_blocks:
        if hasattr(block, "attentions"):
            h, kept = block(hidden_states=h, temb=time, encoder_hidden_states=states)
        else:
            h, kept = block(hidden_states=h, temb=time)
        skips += kept
    h = unet.mid_block(h, time, encoder_hidden_states=states)
    tapped, number = [], 0
    for block in unet.up_blocks:
        for index, resnet in enumerate(block.resnets):
            if number in (2, 5, 8):
                tapped.append(h if freeu == "aliased" else h.clone())
            skip = skips.pop()
            if freeu != "none" and h.shape[1] in SCALED:
                raised, lowered = SCALED[h.shape[1]]
                h[:, : h.shape[1] // 2] *= raised
                spectrum = torch.fft.fftshift(torch.fft.fftn(skip, dim=(-2, -1)), dim=(-2, -1))
                row, column = skip.shape[-2] // 2, skip.shape[-1] // 2
                spectrum[..., max(0, row - 1) : row + 1, max(0, column - 1) : column + 1] *= lowered
                skip = torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real
            h = resnet(torch.cat([h, skip], dim=1), time)
            if hasattr(block, "attentions"):
                h = block.attentions[index](h, encoder_hidden_states=states, return_dict=False)[0]
            number += 1
        for upsampler in block.upsamplers or ():
            h = upsampler(h)
    return tapped


@torch.no_grad()
def published(
    folder: Path, image: torch.Tensor, *, timestep: int, freeu: str, prompt: str = ""
) -> dict[str, torch.Tensor]:
    """One image, crop after crop; every cell is the sum of what was pasted on it over how often."""
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
    states = TextEncoder(folder, device=CPU, dtype=torch.float32)(prompt).clone()
    alpha = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)[timestep]
    noise = torch.randn(1, 4, CROP // 2, CROP // 2, generator=torch.Generator().manual_seed(42))
    whole: dict[str, Any] = {}
    for top in (0, CANVAS - CROP):
        for left in (0, CANVAS - CROP):
            crop = image[None, :, top : top + CROP, left : left + CROP]
            latents = vae.encode((crop - 0.5) / 0.5).latent_dist.mode() * 0.18215
            noisy = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
            for name, maps in zip(LAYERS, decoder_by_hand(unet, noisy, states, timestep, freeu), strict=True):
                stride = CROP // maps.shape[-1]
                cells = CANVAS // stride
                total, hits = whole.setdefault(
                    name, (torch.zeros(maps.shape[1], cells, cells), torch.zeros(cells, cells))
                )
                for row in range(maps.shape[-2]):
                    for column in range(maps.shape[-1]):
                        total[:, top // stride + row, left // stride + column] += maps[0, :, row, column]
                        hits[top // stride + row, left // stride + column] += 1
    return {name: total / hits for name, (total, hits) in whole.items()}


@pytest.mark.parametrize("freeu", ["none", "aliased", "plain"])
def test_the_published_code_written_slowly(build: Any, sd_folder: Path, images: Any, freeu: str) -> None:
    maps = build(freeu=freeu, timestep=100, prompt="a {category}")(images[0], IDS, images[1])
    for row, name in enumerate(IDS):
        prompt = f"a {name.split('/')[0]}"
        expected = published(sd_folder, images[0][row], timestep=100, freeu=freeu, prompt=prompt)
        for layer in LAYERS:
            torch.testing.assert_close(maps[layer][row, 0], expected[layer], rtol=1e-5, atol=1e-5)


def test_an_aliased_map_is_a_plain_one_with_its_first_half_raised(build: Any, images: Any) -> None:
    aliased, plain = (build(freeu=freeu)(images[0], IDS, images[1]) for freeu in ("aliased", "plain"))
    for layer in LAYERS:
        half = plain[layer].shape[2] // 2
        raised = SCALED[2 * half][0]
        torch.testing.assert_close(aliased[layer][:, :, :half], plain[layer][:, :, :half] * raised)
        assert torch.equal(aliased[layer][:, :, half:], plain[layer][:, :, half:])


def test_dino_is_the_last_block_before_the_norm(build: Any, dinov2_folder: Path, images: Any) -> None:
    params = DINOv2Params(weights=str(dinov2_folder), input_size=DINO_CANVAS, dtype="fp32", positions="published")
    expected = DINOv2(params, device=CPU)(images[1], IDS)["block2"]
    assert torch.equal(build()(images[0], IDS, images[1])["dino"], expected)
    exact = build(positions="exact")
    assert exact.spec.digest() != build().spec.digest()
    assert (exact(images[0], IDS, images[1])["dino"] - expected).abs().max() > 1e-4


def test_what_it_says_of_itself(build: Any, sd_folder: Path) -> None:
    backbone = build()
    assert isinstance(backbone, Backbone)
    assert [(layer.name, layer.channels, layer.grid) for layer in backbone.spec.layers] == [
        *(("sd.s5", 12, (3, 3)), ("sd.s4", 8, (6, 6)), ("sd.s3", 8, (12, 12)), ("dino", 16, (12, 12)))
    ]
    assert backbone.spec.timesteps == (50,)
    assert backbone.spec.fit == "letterbox"
    assert [(canvas.size, canvas.resample, canvas.bars) for canvas in backbone.canvases] == [
        ((CANVAS, CANVAS), "lanczos", 0.0),
        ((DINO_CANVAS, DINO_CANVAS), "lanczos", 0.0),
    ]
    assert backbone.spec.weights.count("sha256:") == 2


@pytest.mark.parametrize(
    "change",
    [
        *({"timestep": 100}, {"freeu": "none"}, {"freeu": "plain"}, {"prompt": "a dog"}, {"seed": 1}),
        *({"bars": 0.5}, {"resample": "bilinear"}, {"oriented": True}, {"dino_canvas": 24}, {"canvas": 32}),
    ],
)
def test_every_option_changes_the_digest(build: Any, change: dict[str, Any]) -> None:
    assert build().spec.digest() != build(**change).spec.digest()


def test_sides_that_are_not_told(build: Any) -> None:
    """15/8 of a crop in whole cells of the coarsest layer, and for DINOv2 as many cells as `sd.s3` has."""
    backbone = build(crop=0, canvas=0, dino_canvas=0)
    assert [canvas.size for canvas in backbone.canvases] == [(16, 16), (32, 32)]
    wider = build(crop=128, canvas=0, dino_canvas=0)
    assert [canvas.size for canvas in wider.canvases] == [(240, 240), (480, 480)]
    assert wider.spec.layer("sd.s3").grid == wider.spec.layer("dino").grid == (60, 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canvas": 40}, "canvas 40 and crop 32 must be multiples of 16 pixels"),
        ({"canvas": 16}, "canvas not smaller than the crop"),
        ({"crop": 24}, "canvas 48 and crop 24 must be multiples"),
        ({"timestep": 1000}, r"timestep must lie in 0\.\.999, not 1000"),
        ({"dino_canvas": 50}, "50 is not a multiple"),
    ],
)
def test_impossible_parameters_are_refused(build: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**change)


@pytest.mark.parametrize(
    ("canvas", "crop", "starts"),
    [(960, 512, [0, 448]), (512, 512, [0]), (1100, 512, [0, 512, 588]), (96, 32, [0, 32, 64])],
)
def test_crops_cover_the_canvas_and_stay_within(canvas: int, crop: int, starts: list[int]) -> None:
    assert origins(canvas, crop) == starts
