"""The Dinov2 backbone on a tiny untrained network that `conftest.py` builds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

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


@pytest.fixture(scope="module")
def registers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dinov2 with three registers, as tiny as `dinov2_folder`."""
    folder = tmp_path_factory.mktemp("networks") / "registers"
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**shape, num_register_tokens=3))
        torch.nn.init.normal_(model.embeddings.register_tokens)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("side", [32, 48])
def test_registers_are_dropped(registers_folder: Path, side: int) -> None:
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    backbone = build(registers_folder, layers=(1, 2), input_size=side, cls=True)
    maps = backbone(images, ["a", "b"])
    model = Dinov2WithRegistersModel.from_pretrained(registers_folder).eval()
    with torch.no_grad():
        states = model(normalised(images, MEAN, STD), output_hidden_states=True).hidden_states
    for block in (1, 2):
        assert states[block + 1].shape[1] == 1 + 3 + (side // 8) ** 2
        found = maps[f"block{block}"][:, 0].flatten(2).transpose(1, 2)
        torch.testing.assert_close(found, states[block + 1][:, 4:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps["cls"][:, 0, :, 0, 0], states[3][:, 0], rtol=1e-4, atol=1e-5)
    assert backbone.spec.backbone == "dinov2"


def test_published_positions_are_of_a_grid_a_tenth_of_a_cell_too_large(dinov2_folder: Path) -> None:
    """Positions alone: an image of one colour through a network whose patches all see the same."""
    images = torch.full((1, 3, 56, 56), 0.4)
    model = Dinov2Model.from_pretrained(dinov2_folder).eval()
    table = model.embeddings.position_embeddings.detach()
    grid = table[0, 1:].T.reshape(1, 16, 4, 4)
    published = functional.interpolate(grid, scale_factor=(7.1 / 4, 7.1 / 4), mode="bicubic")
    with torch.no_grad():
        pixels = normalised(images, MEAN, STD)
        patches = model.embeddings.patch_embeddings(pixels) + published.flatten(2).transpose(1, 2)
        first = model.embeddings.cls_token + table[:, :1]
        states = model.encoder.layer[0](torch.cat((first, patches), dim=1))
    backbone = build(dinov2_folder, layers=(0,), input_size=56, positions="published")
    found = backbone(images, ["a"])["block0"][:, 0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, states[:, 1:], rtol=1e-4, atol=1e-5)
    exact = build(dinov2_folder, layers=(0,), input_size=56)
    assert (backbone(images, ["a"])["block0"] - exact(images, ["a"])["block0"]).abs().max() > 1e-4
    assert backbone.spec.options["positions"] == "published"
    assert "positions" not in exact.spec.options


def test_published_positions_of_the_networks_own_size_are_its_own(dinov2_folder: Path, images: torch.Tensor) -> None:
    exact, published = (build(dinov2_folder, positions=positions) for positions in ("exact", "published"))
    assert torch.equal(exact(images, ["a", "b"])["block2"], published(images, ["a", "b"])["block2"])


def test_with_registers_there_are_no_other_positions(registers_folder: Path) -> None:
    with pytest.raises(ConfigError, match="with registers, exact positions are the published ones"):
        build(registers_folder, positions="published")


def test_the_digests_of_stores_that_there_are_stay(dinov2_folder: Path) -> None:
    assert build(dinov2_folder).spec.options == {"facet": "token", "precision": "fp32"}


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
