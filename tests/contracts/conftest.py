"""One battery over each table: a new line in a table is tested here without a new test, if its smallest is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from matchkit.core.interfaces import Backbone, Maps
from matchkit.core.spec import FeatureSpec
from matchkit.extract.backbones import BACKBONES


@pytest.fixture(scope="session")
def build_backbone(sd_folder: Path, dinov2_folder: Path, request: pytest.FixtureRequest) -> Callable[..., Backbone]:
    """Builds any backbone of the table small: on tiny networks for those that need weights."""
    smallest: dict[str, dict[str, Any]] = {
        "pixels": {"input_size": 32},
        "hog": {"input_size": 32},
        "sd-inversion": {"weights": str(sd_folder), "steps": 4, "keys": [3, 1], "layers": ["up1.0", "up3.2"]},
        "sd-noise": {"weights": str(sd_folder), "timesteps": [261, 50], "ensemble": 2, "layers": ["up0.1", "up1.out"]},
        "geoaware": {
            **{"weights": str(sd_folder), "dino_weights": str(dinov2_folder), "fit": "stretch"},
            **{"crop": 32, "canvas": 48, "dino_canvas": 24},
        },
        "sd-latents": {"weights": str(sd_folder), "std": True},
        "dinov2": {"weights": str(dinov2_folder), "layers": [0, -1]},
        "vit": {"weights": str(dinov2_folder), "layers": [0, 1], "norm": True, "cls": True},
        "timm": {"layers": [0, -1], "cls": True},
    }

    def build(name: str, **changes: Any) -> Backbone:
        if name == "timm":
            changes["weights"] = str(request.getfixturevalue("timm_folder"))
        params = smallest.get(name, {}) | changes
        backbone: Backbone = BACKBONES.build(name, params, where=name, device=torch.device("cpu"))
        return backbone

    return build


@pytest.fixture
def batch_maps(random_maps: Callable[[FeatureSpec, int], Maps]) -> Callable[..., Maps]:
    """Draws a batch of maps {layer: (b,t,c,gh,gw)} for what a head reads."""

    def draw(spec: FeatureSpec, head: Any, *, batch: int) -> Maps:
        images = [random_maps(spec, seed) for seed in range(batch)]
        rows = [spec.timesteps.index(timestep) for timestep in head.timesteps]
        return {layer: torch.stack([maps[layer][rows] for maps in images]) for layer in head.layers}

    return draw
