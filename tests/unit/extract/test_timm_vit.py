"""The `timm` backbone on a tiny untrained network, against timm's own tokens; without timm, its refusal."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.timm_vit import TimmViT
from matchkit.extract.backbones.tokens import TokenParams

CPU = torch.device("cpu")
MEAN, STD = torch.tensor([0.4, 0.5, 0.6])[:, None, None], torch.tensor([0.2, 0.25, 0.3])[:, None, None]


def build(folder: Path | str, **changes: Any) -> TimmViT:
    return TimmViT(TokenParams(**{"weights": str(folder), "dtype": "fp32"} | changes), device=CPU)


def photographs(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def its_own(folder: Path, side: int) -> Any:
    timm = pytest.importorskip("timm")
    return timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, img_size=side).eval()


def as_tokens(maps: torch.Tensor) -> torch.Tensor:
    return maps[:, 0].flatten(2).transpose(1, 2)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"backbone timm needs timm \(.*\)\. Run: pip install 'matchkit\[timm\]'"):
        build("timm/vit_tiny_patch16_224")


def test_a_timm_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A torchvision of another torch."""
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ConfigError, match=r"needs timm \(operator torchvision::nms does not exist\)"):
        build("timm/vit_tiny_patch16_224")


def test_nothing_is_embedded() -> None:
    pytest.importorskip("timm")
    with pytest.raises(WeightsError, match="timm: nothing of timm's is embedded"):
        build("tiny")


@pytest.mark.parametrize("side", [32, 48])
def test_maps_are_the_patch_tokens_after_the_block(timm_folder: Path, side: int) -> None:
    images = photographs(side)
    with torch.no_grad():
        expected = its_own(timm_folder, side).forward_intermediates(
            (images - MEAN) / STD,
            indices=[0, 1],
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
    backbone = build(timm_folder, layers=(0, 1), input_size=side, cls=True)
    maps = backbone(images, ["a", "b"])
    for block, (patches, _) in enumerate(expected):
        assert maps[f"block{block}"].shape == (2, 1, 16, side // 8, side // 8)
        torch.testing.assert_close(as_tokens(maps[f"block{block}"]), patches, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps["cls"][:, 0, :, 0, 0], expected[1][1][:, 0], rtol=1e-4, atol=1e-5)


def test_the_last_block_and_the_final_norm_give_the_networks_own_output(timm_folder: Path) -> None:
    images = photographs(32)
    with torch.no_grad():
        expected = its_own(timm_folder, 32).forward_features((images - MEAN) / STD)[:, 1:]
    found = build(timm_folder, norm=True)(images, ["a", "b"])["block2"]
    torch.testing.assert_close(as_tokens(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("facet", "third"), [("query", 0), ("key", 1), ("value", 2)])
def test_a_facet_is_a_third_of_the_fused_projection(timm_folder: Path, facet: str, third: int) -> None:
    images = photographs(32)
    model = its_own(timm_folder, 32)
    kept: list[torch.Tensor] = []
    model.blocks[1].attn.qkv.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        model((images - MEAN) / STD)
    found = build(timm_folder, layers=(1,), facet=facet)(images, ["a", "b"])["block1"]
    expected = kept[0].reshape(2, 17, 3, 16)[:, 1:, third]
    torch.testing.assert_close(as_tokens(found), expected, rtol=1e-4, atol=1e-5)


def test_random_weights_are_another_reproducible_network(timm_folder: Path) -> None:
    images = photographs(32)
    trained = build(timm_folder)(images, ["a", "b"])["block2"]
    one, same, other = (
        build(timm_folder, init="random", seed=seed)(images, ["a", "b"])["block2"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(trained, one, atol=1e-3)
    assert not torch.allclose(one, other, atol=1e-3)


def architecture(folder: Path, copy: Path, name: str) -> Path:
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text()) | {"architecture": name, "model_args": {}}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swin_tiny_patch4_window7_224", "a SwinTransformer gives no token a patch"),
        ("no_such_net", "is not a vision transformer of timm"),
    ],
)
def test_another_network_is_refused(timm_folder: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        build(architecture(timm_folder, tmp_path / name, name), init="random")


def test_an_attention_whose_biases_stand_apart_gives_no_facet(timm_folder: Path, tmp_path: Path) -> None:
    folder = architecture(timm_folder, tmp_path / "beit", "beit_base_patch16_224")
    with pytest.raises(ConfigError, match="timm: the facet 'key' cannot be read in a Block"):
        build(folder, init="random", facet="key")


def test_blocks_without_the_class_token_that_comes_behind_them_are_refused(timm_folder: Path, tmp_path: Path) -> None:
    backbone = build(architecture(timm_folder, tmp_path / "cait", "cait_xxs24_224"), init="random", input_size=32)
    with pytest.raises(WeightsError, match="timm: block23 gives 4 tokens where 5 were to be expected"):
        backbone(photographs(32), ["a", "b"])


def test_an_input_that_is_no_multiple_of_the_patch_is_refused(timm_folder: Path) -> None:
    with pytest.raises(ConfigError, match="timm: input_size 30 is not a multiple of the patch, 8 pixels"):
        build(timm_folder, input_size=30)
