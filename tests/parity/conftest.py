"""UNets of the published shapes without any weights: on the meta device they have shapes and costs, and no numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel


@pytest.fixture(scope="session")
def sd15() -> UNet2DConditionModel:
    """Stable Diffusion 1.5's UNet, with the heads that diffusers gives where a configuration names none."""
    return meta_unet(sample_size=64, cross_attention_dim=768)


@pytest.fixture(scope="session")
def sd21() -> UNet2DConditionModel:
    """Stable Diffusion 2.1's UNet."""
    heads = (5, 10, 20, 20)
    return meta_unet(sample_size=96, cross_attention_dim=1024, attention_head_dim=heads, use_linear_projection=True)


def meta_unet(**config: Any) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**config).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="session")
def forward() -> Callable[[UNet2DConditionModel, int], None]:
    """Runs a UNet of the meta device on one square latent of so many cells an edge."""

    @torch.no_grad()
    def run(unet: UNet2DConditionModel, side: int) -> None:
        latent = torch.empty(1, 4, side, side, device="meta")
        states = torch.empty(1, 77, unet.config.cross_attention_dim, device="meta")
        unet(latent, torch.zeros(1, device="meta"), encoder_hidden_states=states)

    return run
