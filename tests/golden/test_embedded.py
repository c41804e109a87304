"""Numbers of the embedded default that must not move unless a `revision` does; `pytest --update-golden` sets them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from matchkit.core.interfaces import Backbone
from matchkit.extract.backbones import BACKBONES
from matchkit.extract.images import to_input

GOLDEN = Path(__file__).with_name("embedded.json")
SETTINGS = {"sd-inversion": {"steps": 10, "keys": [9, 7, 5], "dtype": "fp32"}, "dinov2": {"dtype": "fp32"}}


def measured(name: str, image: Image.Image) -> dict[str, list[list[float]]]:
    """Mean and standard deviation of every layer's map at every timestep."""
    backbone: Backbone = BACKBONES.build(name, SETTINGS[name], where=name, device=torch.device("cpu"))
    pixels = to_input(image, backbone.canvases[0])[0]
    maps = backbone(pixels[None], ["drawn"])
    return {
        layer: [[round(step.mean().item(), 6), round(step.std().item(), 6)] for step in values[0]]
        for layer, values in maps.items()
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_features_have_not_moved(
    name: str, draw: Callable[[tuple[int, int], int], Image.Image], request: pytest.FixtureRequest
) -> None:
    found = measured(name, draw((150, 100), 0))
    if request.config.getoption("--update-golden"):
        kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps(kept | {name: found}, indent=1, sort_keys=True) + "\n")
    expected = json.loads(GOLDEN.read_text())[name]
    assert found.keys() == expected.keys()
    for layer, steps in expected.items():
        for step, (mean, std) in enumerate(steps):
            assert found[layer][step] == pytest.approx([mean, std], rel=1e-3, abs=1e-3 * std), (layer, step)
