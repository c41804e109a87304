"""The backbones of docs/extending.md run as they stand."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel

from matchkit.core.interfaces import Backbone
from matchkit.core.params import build
from matchkit.core.records import ImageRecord
from matchkit.extract.images import load_image, to_input

GUIDE = Path(__file__).parents[3] / "docs" / "extending.md"
pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="needs the source tree")


def snippet(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class called `name`, from the block of code that defines it."""
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S) if f"class {name}:" in block
    )
    module = ModuleType(f"guide_{name.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(GUIDE), "exec"), module.__dict__)
    return getattr(module, name)


def run(kind: Any, params: dict[str, Any], photos: Sequence[ImageRecord]) -> Backbone:
    backbone: Backbone = kind(build(kind.Params, params, where="guide"), device=torch.device("cpu"))
    assert isinstance(backbone, Backbone)
    inputs = torch.stack([to_input(load_image(photo), backbone.canvases[0])[0] for photo in photos])
    maps = backbone(inputs, [photo.id for photo in photos])
    assert {name: tuple(values.shape) for name, values in maps.items()} == {
        layer.name: (len(photos), 1, layer.channels, *layer.grid) for layer in backbone.spec.layers
    }
    assert {values.dtype for values in maps.values()} == {torch.float16}
    assert all((values[0] - values[1]).abs().max() > 1e-3 for values in maps.values())
    return backbone


def test_the_resnet_of_the_guide_runs(
    photos: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1] * 4, layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    params = {"weights": str(tmp_path / "resnet"), "input_size": 64}
    backbone = run(snippet("ResNet", monkeypatch), params, photos)
    assert [(layer.name, layer.grid) for layer in backbone.spec.layers] == [
        (f"stage{number}", (64 // 2 ** (number + 1),) * 2) for number in (1, 2, 3, 4)
    ]


class MyViT(nn.Module):
    """Two blocks without attention, which is enough of a transformer here."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16)) for _ in range(2))
        self.norm = nn.LayerNorm(16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = nn.functional.pad(patches, (0, 0, 1, 0))
        for block in self.blocks:
            tokens = block(tokens)
        normed: torch.Tensor = self.norm(tokens)
        return normed


def test_the_transformer_of_the_guide_runs(photos: list[ImageRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("my_package")
    package.MyViT = MyViT  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_package", package)
    backbone = run(snippet("Mine", monkeypatch), {"layers": [0, 1], "norm": True}, photos)
    assert [layer.name for layer in backbone.spec.layers] == ["block0", "block1"]
    assert backbone.spec.layers[0].grid == (4, 4)
