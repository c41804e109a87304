"""Tiny untrained companions of the tiny pipeline: a ControlNet, an image encoder, IP-Adapters."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

HIDDEN, PROJECTED, STATES, INNER = 16, 12, 8, 64
"""Widths: of CLIP's tokens, of its projection, of the UNet's states, of the resampler's attention (one head)."""


@pytest.fixture(scope="session")
def control_folder(sd_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ControlNet for the UNet of `sd_folder`: a cell is seen as 2 x 2 pixels; it is not silent, as a new one is."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
        for name, parameter in network.named_parameters():
            if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
                torch.nn.init.normal_(parameter, std=0.5)
    folder = tmp_path_factory.mktemp("networks") / "control"
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP vision network with its projection: 32 px input, patches of 8, two blocks."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        **{"hidden_size": HIDDEN, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"image_size": 32, "patch_size": 8, "projection_dim": PROJECTED},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = CLIPVisionModelWithProjection(config)
    folder = tmp_path_factory.mktemp("networks") / "clip"
    model.save_pretrained(folder)
    return folder


def _projection(kind: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of `image_proj.*` as they are published."""
    if kind == "plain":
        yield from (("proj.weight", (4 * STATES, PROJECTED)), ("proj.bias", (4 * STATES,)))
        yield from (("norm.weight", (STATES,)), ("norm.bias", (STATES,)))
    if kind == "full":
        yield from (("proj.0.weight", (HIDDEN, HIDDEN)), ("proj.0.bias", (HIDDEN,)))
        yield from (("proj.2.weight", (STATES, HIDDEN)), ("proj.2.bias", (STATES,)))
        yield from (("proj.3.weight", (STATES,)), ("proj.3.bias", (STATES,)))
    if kind == "plus":
        yield from (("latents", (1, 3, INNER)), ("proj_in.weight", (INNER, HIDDEN)), ("proj_in.bias", (INNER,)))
        yield from (("proj_out.weight", (STATES, INNER)), ("proj_out.bias", (STATES,)))
        yield from (("norm_out.weight", (STATES,)), ("norm_out.bias", (STATES,)))
        for layer in (f"layers.{number}" for number in range(4)):
            yield from ((f"{layer}.0.{norm}.{what}", (INNER,)) for norm in ("norm1", "norm2") for what in WEIGHT_BIAS)
            yield from ((f"{layer}.0.to_{what}.weight", (INNER, INNER)) for what in ("q", "out"))
            yield f"{layer}.0.to_kv.weight", (2 * INNER, INNER)
            yield from ((f"{layer}.1.0.{what}", (INNER,)) for what in WEIGHT_BIAS)
            yield f"{layer}.1.1.weight", (4 * INNER, INNER)
            yield f"{layer}.1.3.weight", (INNER, 4 * INNER)


WEIGHT_BIAS = ("weight", "bias")


@pytest.fixture(scope="session")
def adapter_weights(sd_folder: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """Draws the weights of an IP-Adapter for `sd_folder` and `clip_folder`: `plain`, `full` or `plus`."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(sd_folder, subfolder="unet")
    modules = [unet.get_submodule(name.removesuffix(".processor")) for name in unet.attn_processors]

    def drawn(kind: str) -> dict[str, torch.Tensor]:
        shapes = {f"image_proj.{name}": shape for name, shape in _projection(kind)}
        for number, module in enumerate(module for module in modules if module.is_cross_attention):
            for what in "kv":
                shapes[f"ip_adapter.{2 * number + 1}.to_{what}_ip.weight"] = (module.inner_dim, STATES)
        generator = torch.Generator().manual_seed(3)
        return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}

    return drawn


@pytest.fixture(scope="session")
def adapter_file(
    adapter_weights: Callable[[str], dict[str, torch.Tensor]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A plain IP-Adapter for `sd_folder` and `clip_folder`."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("networks") / "adapter.safetensors"
    save_file(adapter_weights("plain"), path)
    return path
