"""The Dinov2 backbone on a tiny untrained network that `conftest.py` builds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Dinov2Model

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.dinov2 import DINOv2, DINOv2Params

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(folder: Path, **changes: Any) -> DINOv2:
    return DINOv2(DINOv2Params(**{"weights": str(folder), "dtype": "fp32"} | changes), device=CPU)


def normalised(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@torch.no_grad()
def block_outputs(folder: Path, pixels: torch.Tensor) -> list[torch.Tensor]:
    """What plain hooks on the blocks see."""
    model = Dinov2Model.from_pretrained(folder).eval()
    kept: list[torch.Tensor] = []
    for block in model.encoder.layer:
        block.register_forward_hook(
            lambda module, inputs, output: kept.append(output[0] if isinstance(output, tuple) else output)
        )
    model(pixel_values=pixels)
    return kept


def test_maps_are_the_patch_tokens_after_the_block(dinov2_folder: Path, images: torch.Tensor) -> None:
    backbone = build(dinov2_folder, layers=(0, -1))
    assert [(layer.name, layer.channels, layer.grid) for layer in backbone.spec.layers] == [
        ("block0", 16, (4, 4)),
        ("block2", 16, (4, 4)),
    ]
    maps = backbone(images, ["a", "b"])
    tokens = block_outputs(dinov2_folder, normalised(images, MEAN, STD))
    for name, block in (("block0", 0), ("block2", 2)):
        assert maps[name].shape == (2, 1, 16, 4, 4)
        for row, column in ((0, 0), (1, 2), (3, 3)):  # the class token stands before the patches, row by row
            torch.testing.assert_close(
                maps[name][:, 0, :, row, column], tokens[block][:, 1 + 4 * row + column], rtol=1e-4, atol=1e-5
            )


def test_the_folder_may_name_its_own_normalisation(dinov2_folder: Path, images: torch.Tensor, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2_folder, tmp_path / "own")
    config = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    found = build(folder)(images, ["a", "b"])["block2"][:, 0].flatten(2).transpose(1, 2)
    expected = block_outputs(folder, normalised(images, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))[2][:, 1:]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert build(folder).spec.digest() != build(dinov2_folder).spec.digest()


def test_another_input_size_gives_another_grid(dinov2_folder: Path) -> None:
    backbone = build(dinov2_folder, input_size=48, dtype="fp16")
    maps = backbone(torch.rand(1, 3, 48, 48), ["a"])
    assert maps["block2"].shape == (1, 1, 16, 6, 6)
    assert maps["block2"].dtype == torch.float16


def test_random_weights_are_another_reproducible_network(dinov2_folder: Path, images: torch.Tensor) -> None:
    trained = build(dinov2_folder)
    one, same, other = (build(dinov2_folder, init="random", seed=seed) for seed in (1, 1, 2))
    maps = [backbone(images, ["a", "b"])["block2"] for backbone in (trained, one, same, other)]
    assert torch.equal(maps[1], maps[2])
    assert not torch.allclose(maps[0], maps[1], atol=1e-2)
    assert not torch.allclose(maps[1], maps[3], atol=1e-2)
    assert len({trained.spec.digest(), one.spec.digest(), other.spec.digest()}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": (3,)}, r"layers must lie in -3\.\.2, not \[3\]"),
        ({"layers": (-4,)}, r"not \[-4\]"),
        ({"layers": ()}, r"not \[\]"),
        ({"input_size": 30}, "input_size 30 is not a multiple of the patch, 8 pixels"),
    ],
)
def test_impossible_parameters_are_refused(dinov2_folder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(dinov2_folder, **change)


def test_another_network_is_refused(dinov2_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2_folder, tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "vit"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="is not a Dinov2 network: its model_type is 'vit'"):
        build(folder)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_configuration_is_refused(dinov2_folder: Path, tmp_path: Path, text: str) -> None:
    folder = shutil.copytree(dinov2_folder, tmp_path / "broken")
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json"):
        build(folder)


def test_broken_weights_are_refused(dinov2_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dinov2_folder, tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="is not a Dinov2 network"):
        build(folder)
