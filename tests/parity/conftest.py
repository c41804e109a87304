"""Networks of the published shapes without weights: on the meta device they have shapes and costs, and no numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, Dinov2Config, Dinov2Model

from matchkit.core.interfaces import Backbone
from matchkit.extract.backbones import BACKBONES
from matchkit.extract.presets import PRESETS

SD15: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768}
"""Of the UNet, with the heads that diffusers gives where a configuration names none."""
SD21: dict[str, Any] = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
TRAINED_AT = 518
"""Pixels an edge that DINOv2's position embeddings are made for: 37 x 37 patches."""
META = torch.device("meta")


@pytest.fixture(scope="session")
def sd15() -> UNet2DConditionModel:
    """Stable Diffusion 1.5's UNet."""
    return meta_unet(**SD15)


@pytest.fixture(scope="session")
def sd21() -> UNet2DConditionModel:
    """Stable Diffusion 2.1's UNet."""
    return meta_unet(**SD21)


@pytest.fixture(scope="session")
def vae() -> AutoencoderKL:
    """The VAE of both."""
    with META:
        return AutoencoderKL(**VAE).eval()


def meta_unet(**config: Any) -> UNet2DConditionModel:
    with META:
        return UNet2DConditionModel(**config).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="session")
def forward() -> Callable[[UNet2DConditionModel, int], None]:
    """Runs a UNet of the meta device on one square latent of so many cells an edge."""

    @torch.no_grad()
    def run(unet: UNet2DConditionModel, side: int) -> None:
        latent = torch.empty(1, 4, side, side, device=META)
        states = torch.empty(1, 77, unet.config.cross_attention_dim, device=META)
        unet(latent, torch.zeros(1, device=META), encoder_hidden_states=states)

    return run


@pytest.fixture
def build_published(sd_folder: Path, dinov2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Backbone]:
    """Builds a preset, or a backbone on Stable Diffusion 2.1, at its full size.

    What the libraries would load is of the published shape and on the meta device.
    """

    def build(name: str, **changes: Any) -> Backbone:
        told = PRESETS.params(name) if name in PRESETS.table() else {"backbone": name, "weights": "2-1"}
        params = told | changes
        _load_instead(monkeypatch, SD21 if "2-1" in params["weights"] else SD15)
        # the folders are those of tiny networks: nothing but their configurations and checksums is read
        params |= {"weights": str(sd_folder)}
        if "dino_weights" in params:
            params |= {"dino_weights": str(dinov2_folder)}
        params.pop("unet", None)
        backbone: Backbone = BACKBONES.build(params.pop("backbone"), params, where=name, device=META)
        return backbone

    return build


def _load_instead(monkeypatch: pytest.MonkeyPatch, unet: dict[str, Any]) -> None:
    text = CLIPTextConfig(
        hidden_size=unet["cross_attention_dim"], num_attention_heads=16, num_hidden_layers=1, intermediate_size=64
    )
    makers: dict[Any, Callable[[], Any]] = {
        UNet2DConditionModel: lambda: UNet2DConditionModel(**unet),
        AutoencoderKL: lambda: AutoencoderKL(**VAE),
        CLIPTextModel: lambda: CLIPTextModel(text),
        transformers.AutoModel: lambda: (Dinov2Model(Dinov2Config(image_size=TRAINED_AT)), {"missing_keys": []}),
    }
    for kind, make in makers.items():

        def load(*_: object, _make: Callable[[], Any] = make, **__: object) -> object:
            with META:
                return _make()

        monkeypatch.setattr(kind, "from_pretrained", load)
