"""An IP-Adapter in the UNet of a tiny pipeline, against diffusers' own pipeline."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.ip_adapter import IPAdapter
from matchkit.extract.backbones.stable_diffusion import Further, Pipeline, StableDiffusion

CPU = torch.device("cpu")
Weights = Callable[[str], dict[str, torch.Tensor]]


@pytest.fixture
def network(sd_folder: Path) -> StableDiffusion:
    return StableDiffusion(Pipeline(str(sd_folder), "trained", (), "residual", 0, "fp32", 0), device=CPU)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def written(weights: dict[str, torch.Tensor], folder: Path) -> Path:
    path = folder / "adapter.safetensors"
    save_file(weights, path)
    return path


def build(path: Path, encoder: Path | str, network: StableDiffusion, *, scale: float = 0.6) -> IPAdapter:
    return IPAdapter(str(path), image_encoder=str(encoder), unet=network.unet, scale=scale)


@torch.no_grad()
def predicted(network: StableDiffusion, further: Further | None, rows: int = 1) -> torch.Tensor:
    return network.predict(drawn(1, 4, 8, 8).expand(rows, -1, -1, -1), 260, drawn(1, 6, 8), further=further)[0]


@torch.no_grad()
def predicted_by_diffusers(
    sd_folder: Path, clip_folder: Path, weights: dict[str, torch.Tensor], picture: Image.Image, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What its pipeline's UNet predicts with the picture, and without it."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        sd_folder,
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(clip_folder),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
    )
    groups: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in weights.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    pipeline.load_ip_adapter(groups, subfolder="", weight_name="")
    pipeline.set_ip_adapter_scale(scale)
    (both,) = pipeline.prepare_ip_adapter_image_embeds(picture, None, CPU, 1, do_classifier_free_guidance=True)
    outputs = [
        pipeline.unet(
            drawn(1, 4, 8, 8),
            torch.tensor(260.0),
            encoder_hidden_states=drawn(1, 6, 8),
            added_cond_kwargs={"image_embeds": [seen]},
        ).sample
        for seen in (both[1:], both[:1])
    ]
    return outputs[0], outputs[1]


@pytest.mark.parametrize("kind", ["plain", "full", "plus"])
def test_every_kind_as_diffusers_has_it(
    sd_folder: Path, clip_folder: Path, network: StableDiffusion, adapter_weights: Weights, kind: str, tmp_path: Path
) -> None:
    weights = adapter_weights(kind)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = predicted_by_diffusers(sd_folder, clip_folder, weights, Image.fromarray(pixels), 0.6)
    adapter = build(written(weights, tmp_path), clip_folder, network)
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    for further, output in zip(adapter.told(picture), expected, strict=True):
        torch.testing.assert_close(predicted(network, further), output, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_a_picture_changes_the_prediction_and_a_scale_of_zero_does_not(
    sd_folder: Path, clip_folder: Path, adapter_file: Path, network: StableDiffusion
) -> None:
    plain = predicted(network, None)
    adapter = build(adapter_file, clip_folder, network, scale=0.0)
    torch.testing.assert_close(predicted(network, adapter.told(drawn(1, 3, 32, 32))[0]), plain, rtol=1e-5, atol=1e-6)
    adapter = build(adapter_file, clip_folder, network, scale=1.0)
    one, other = (predicted(network, adapter.told(drawn(1, 3, 32, 32, seed=seed))[0]) for seed in (0, 1))
    assert min((one - plain).abs().max(), (one - other).abs().max()) > 1e-4


def test_each_row_sees_its_own_picture(clip_folder: Path, adapter_file: Path, network: StableDiffusion) -> None:
    adapter, pictures = build(adapter_file, clip_folder, network), drawn(2, 3, 32, 32)
    together = [predicted(network, further, 2) for further in adapter.told(pictures)]
    for row in range(2):
        alone = [predicted(network, further) for further in adapter.told(pictures[row : row + 1])]
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-4, atol=1e-5)


def test_the_middle_of_a_picture_is_seen(clip_folder: Path, adapter_file: Path, network: StableDiffusion) -> None:
    adapter = build(adapter_file, clip_folder, network)
    wide = drawn(1, 3, 32, 48)
    found, middle, left = (
        predicted(network, adapter.told(picture)[0]) for picture in (wide, wide[..., 8:40], wide[..., :32])
    )
    assert torch.equal(found, middle)
    assert not torch.equal(found, left)
    coarse = drawn(1, 3, 16, 24)
    fine = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)  # 64 x 96: halved, then the middle
    small, large = (adapter._pixels(picture) for picture in (coarse, fine))
    assert small.shape == large.shape == (1, 3, 32, 32)
    assert (small - large).abs().mean() < 0.5 < (small - large.flip(3)).abs().mean()


def test_pickles_are_refused(clip_folder: Path, adapter_file: Path, network: StableDiffusion, tmp_path: Path) -> None:
    torch.save(load_file(adapter_file), tmp_path / "adapter.bin")
    with pytest.raises(WeightsError, match="could be a pickle, and is never opened"):
        build(tmp_path / "adapter.bin", clip_folder, network)
    pickled = shutil.copytree(clip_folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="only pickles, which are never opened"):
        build(adapter_file, pickled, network)


def test_adapters_that_do_not_fit(
    clip_folder: Path, network: StableDiffusion, adapter_weights: Weights, tmp_path: Path
) -> None:
    weights = adapter_weights("plain")
    misfits = {
        r"another UNet: this one has 16 cross-attentions": {"ip_adapter.33.to_k_ip.weight": torch.zeros(8, 8)},
        r"does not fit this UNet: .*size mismatch": {"ip_adapter.1.to_k_ip.weight": torch.zeros(4, 12)},
        r"was not trained with the image encoder": {"image_proj.proj.weight": torch.zeros(32, 10)},
        r"makes tokens 12 wide of a picture; .* take 8": {
            **{"image_proj.proj.weight": torch.zeros(48, 12), "image_proj.proj.bias": torch.zeros(48)},
            **{"image_proj.norm.weight": torch.zeros(12), "image_proj.norm.bias": torch.zeros(12)},
        },
    }
    for message, change in misfits.items():
        with pytest.raises(WeightsError, match=message):
            build(written(weights | change, tmp_path), clip_folder, network)


def test_what_is_no_adapter(
    clip_folder: Path, network: StableDiffusion, adapter_weights: Weights, tmp_path: Path
) -> None:
    weights = adapter_weights("plain")
    halves = [{n: t for n, t in weights.items() if n.startswith(group)} for group in ("image_proj.", "ip_adapter.")]
    for half, missing in zip(halves, ("ip_adapter", "image_proj"), strict=True):
        with pytest.raises(WeightsError, match=rf"holds no {missing}\.\* weights"):
            build(written(half, tmp_path), clip_folder, network)
    faces = {"image_proj.proj.0.weight": torch.zeros(8, 8), "image_proj.norm.weight": torch.zeros(8)} | halves[1]
    with pytest.raises(WeightsError, match="a kind that is not known here: plain, full, plus are"):
        build(written(faces, tmp_path), clip_folder, network)
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        build(tmp_path / "torn.safetensors", clip_folder, network)


def test_encoders_that_do_not_fit(
    clip_folder: Path, adapter_file: Path, network: StableDiffusion, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="set image_encoder=FOLDER"):
        build(adapter_file, "", network)
    with pytest.raises(WeightsError, match="no image encoder is embedded"):
        build(adapter_file, "tiny", network)
    folder = shutil.copytree(clip_folder, tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 weights .* e\.g\. visual_projection\.weight"):
        build(adapter_file, folder, network)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 17}))
    with pytest.raises(WeightsError, match="is not a CLIP vision network"):
        build(adapter_file, folder, network)
