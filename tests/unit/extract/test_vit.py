"""The `vit` backbone on tiny untrained networks of every known kind, against the library's own forward pass."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.tokens import TokenParams
from matchkit.extract.backbones.vit import ViT
from matchkit.extract.backbones.vit_folder import CLASS_TOKENS, KINDS

CPU = torch.device("cpu")
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
SHAPE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SHAPE |= {"image_size": 32, "patch_size": 8}
CONFIGS = {
    "dinov2": transformers.Dinov2Config,
    "dinov2_with_registers": transformers.Dinov2WithRegistersConfig,
    "dinov3_vit": transformers.DINOv3ViTConfig,
    "vit": transformers.ViTConfig,
    "vit_msn": transformers.ViTMSNConfig,
    "vit_mae": transformers.ViTMAEConfig,
    "ijepa": transformers.IJepaConfig,
    "beit": transformers.BeitConfig,
    "data2vec-vision": transformers.Data2VecVisionConfig,
    "deit": transformers.DeiTConfig,
    "clip_vision_model": transformers.CLIPVisionConfig,
    "siglip_vision_model": transformers.SiglipVisionConfig,
}
EXTRA: dict[str, dict[str, Any]] = {
    "dinov3_vit": {"num_register_tokens": 3},
    "vit_mae": {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1},
    "beit": {"use_relative_position_bias": True},
}
PREFIX = dict(CLASS_TOKENS) | {"dinov2_with_registers": 5, "dinov3_vit": 4}
PROJECTIONS = {
    "data2vec-vision": "attention.attention.{word}",
    "clip_vision_model": "self_attn.{letter}_proj",
    "siglip_vision_model": "self_attn.{letter}_proj",
}
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes the folder of a kind of network once; norms and biases are drawn too, so that none can be left out."""
    made: dict[str, Path] = {}

    def folder_of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("networks") / kind
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                config = CONFIGS[kind](**SHAPE, **EXTRA.get(kind, {}))
                model = transformers.AutoModel.from_config(config)
                for parameter in model.parameters():
                    torch.nn.init.normal_(parameter, std=0.2)
            model.save_pretrained(made[kind])
            normalisation = {"image_mean": MEAN, "image_std": STD}
            (made[kind] / "preprocessor_config.json").write_text(json.dumps(normalisation))
        return made[kind]

    return folder_of


def build(folder: Path, **changes: Any) -> ViT:
    return ViT(TokenParams(**{"weights": str(folder), "dtype": "fp32"} | changes), device=CPU)


def photographs(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def forward(folder: Path, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The library's own hidden states; the embeddings come first. A masked autoencoder is told to mask nothing."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    pixels = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    told: dict[str, Any] = {"interpolate_pos_encoding": True}
    if model.config.model_type == "vit_mae":
        model.config.mask_ratio = 0.0
        told["noise"] = torch.linspace(0, 1, (images.shape[2] // 8) ** 2).expand(2, -1)
    states: tuple[torch.Tensor, ...] = model(pixel_values=pixels, output_hidden_states=True, **told).hidden_states
    return states


def as_tokens(maps: torch.Tensor) -> torch.Tensor:
    return maps[:, 0].flatten(2).transpose(1, 2)


def test_every_kind_is_tested() -> None:
    assert set(CONFIGS) == set(CLASS_TOKENS)


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize("kind", CONFIGS)
def test_maps_are_the_patch_tokens_after_the_block(kind: str, side: int, make: Make) -> None:
    backbone = build(make(kind), layers=(0, 1), input_size=side)
    images = photographs(side)
    maps = backbone(images, ["a", "b"])
    states = forward(make(kind), images)
    for block in (0, 1):
        assert maps[f"block{block}"].shape == (2, 1, 16, side // 8, side // 8)
        expected = states[block + 1][:, PREFIX[kind] :]
        torch.testing.assert_close(as_tokens(maps[f"block{block}"]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind, number in CLASS_TOKENS.items() if number])
def test_the_class_token_is_the_first_one_of_the_last_block_read(kind: str, make: Make) -> None:
    backbone = build(make(kind), layers=(0, 1), cls=True)
    assert [(layer.name, layer.grid) for layer in backbone.spec.layers] == [
        ("block0", (4, 4)),
        ("block1", (4, 4)),
        ("cls", (1, 1)),
    ]
    images = photographs(32)
    found = backbone(images, ["a", "b"])["cls"]
    assert found.shape == (2, 1, 16, 1, 1)
    torch.testing.assert_close(found[:, 0, :, 0, 0], forward(make(kind), images)[2][:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["ijepa", "siglip_vision_model"])
def test_a_network_without_a_class_token_is_refused_one(kind: str, make: Make) -> None:
    with pytest.raises(ConfigError, match="vit: this network has no class token"):
        build(make(kind), cls=True)


@pytest.mark.parametrize("kind", sorted(set(CONFIGS) - {"beit", "data2vec-vision", "clip_vision_model"}))
def test_the_last_block_and_the_final_norm_give_the_networks_own_output(kind: str, make: Make) -> None:
    images = photographs(32)
    model = transformers.AutoModel.from_pretrained(make(kind)).eval()
    norm = next(module for name, module in model.named_children() if name in ("layernorm", "norm", "post_layernorm"))
    with torch.no_grad():
        expected = norm(forward(make(kind), images)[3])[:, PREFIX[kind] :]
    backbone = build(make(kind), norm=True)
    torch.testing.assert_close(as_tokens(backbone(images, ["a", "b"])["block2"]), expected, rtol=1e-4, atol=1e-4)
    assert backbone.spec.options["norm"] is True


def test_a_network_without_a_final_norm_is_refused_one(make: Make) -> None:
    with pytest.raises(ConfigError, match="vit: this network has no final norm"):
        build(make("beit"), norm=True)


@pytest.mark.parametrize("facet", ["query", "key", "value"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_facet_is_the_projection_of_the_normed_tokens_before_the_block(kind: str, facet: str, make: Make) -> None:
    images = photographs(32)
    model = transformers.AutoModel.from_pretrained(make(kind)).eval()
    block = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))[1]
    place = PROJECTIONS.get(kind, "attention.{letter}_proj").format(letter=facet[0], word=facet)
    norm = next(getattr(block, name) for name in ("norm1", "layernorm_before", "layer_norm1") if hasattr(block, name))
    with torch.no_grad():
        projected = block.get_submodule(place)(norm(forward(make(kind), images)[1]))
    found = build(make(kind), layers=(0, 1), facet=facet)(images, ["a", "b"])["block1"]
    torch.testing.assert_close(as_tokens(found), projected[:, PREFIX[kind] :], rtol=1e-4, atol=1e-4)


def test_blocks_behind_the_last_one_read_are_not_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    layer = transformers.models.vit.modeling_vit.ViTLayer
    plain = layer.forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        ran.append(1)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(layer, "forward", counted)
    build(make("vit"), layers=(1,))(photographs(32), ["a", "b"])
    assert len(ran) == 2


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"norm": True}, {"norm": True}),
        ({"cls": True}, {"cls": True}),
        ({"facet": "key"}, {"facet": "key"}),
        ({"resample": "bicubic"}, {"resample": "bicubic"}),
        ({"oriented": True}, {"oriented": True}),
        ({"bars": 0.0}, {"bars": 0.0}),
        ({"normalise": "half"}, {"normalise": "half"}),
        ({}, {}),
    ],
)
def test_the_spec_records_what_is_not_at_its_default(
    change: dict[str, Any], option: dict[str, Any], make: Make
) -> None:
    backbone = build(make("vit"), **change)
    assert backbone.spec.options == {"facet": "token", "precision": "fp32"} | option
    (canvas,) = backbone.canvases
    assert (canvas.size, canvas.fit) == ((32, 32), "stretch")
    for name in change.keys() & {"resample", "oriented", "bars"}:
        assert getattr(canvas, name) == change[name]


def test_half_puts_the_values_into_minus_one_to_one(make: Make) -> None:
    images = photographs(32)
    half = build(make("vit"), normalise="half")(images, ["a", "b"])["block2"]
    # its own normalisation undoes what is done to the images here
    undone = (images * 2 - 1) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    torch.testing.assert_close(half, build(make("vit"))(undone, ["a", "b"])["block2"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["fp16", "fp32", "bf16"])
def test_a_map_shares_no_memory_with_the_network(dtype: str, make: Make) -> None:
    """The next block may change its input in place, as those of other libraries do."""
    backbone = build(make("vit"), layers=(0, 1), dtype=dtype)
    images = photographs(32)
    kept = backbone(images, ["a", "b"])["block0"].clone()

    def spoil(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs[0].zero_()

    backbone._read._network.blocks[1].register_forward_pre_hook(spoil)
    assert torch.equal(backbone(images, ["a", "b"])["block0"], kept)


@pytest.mark.parametrize(("kind", "config"), [("clip", "CLIP"), ("siglip", "Siglip")])
def test_the_image_tower_is_taken_from_a_folder_of_two(
    kind: str, config: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    text |= {"vocab_size": 20, "max_position_embeddings": 4}
    both = getattr(transformers, f"{config}Config")(text_config=text, vision_config=SHAPE)
    model = getattr(transformers, f"{config}Model")(both).eval()
    model.save_pretrained(tmp_path)
    shared = {"image_processor": {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}}
    (tmp_path / "processor_config.json").write_text(json.dumps(shared))
    capfd.readouterr()
    images = photographs(32)
    found = build(tmp_path, norm=True)(images, ["a", "b"])["block2"]
    with torch.no_grad():
        states = model.vision_model(images, output_hidden_states=True).hidden_states
        expected = model.vision_model.post_layernorm(states[3])[:, 1 if kind == "clip" else 0 :]
    torch.testing.assert_close(as_tokens(found), expected, rtol=1e-4, atol=1e-4)
    assert capfd.readouterr().err == ""


def test_another_kind_of_network_is_refused_by_name(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"its model_type is 'resnet'; known: dinov2, .*vit_mae.*, clip, siglip"):
        build(tmp_path)
    assert set(KINDS) > set(CLASS_TOKENS)


def test_weights_that_are_not_there_are_not_drawn(make: Make, tmp_path: Path) -> None:
    folder = shutil.copytree(make("vit"), tmp_path / "vit")
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if ".1." in name and "key.weight" in name.replace("k_proj", "key"))
    without_pooler = {name: tensor for name, tensor in weights.items() if "pool" not in name}
    save_file(without_pooler, folder / "model.safetensors", metadata={"format": "pt"})
    build(folder)
    save_file({n: t for n, t in weights.items() if n != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        WeightsError, match=r"vit lacks 1 weights of this network, e\.g\. .*1\.attention\.k_proj\.weight"
    ):
        build(folder)


def test_a_normalisation_that_nobody_tells_is_not_guessed(make: Make, tmp_path: Path) -> None:
    folder = shutil.copytree(make("vit"), tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"vit does not tell image_mean and image_std: preprocessor_config\.json is"):
        build(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": True, "facet": "key"}, "vit: norm is that of tokens; facet is 'key'"),
        ({"layers": (3,)}, r"vit: layers must lie in -3\.\.2, not \[3\]"),
        ({"input_size": 30}, "vit: input_size 30 is not a multiple of the patch, 8 pixels"),
        ({"bars": 1.5}, r"bars must lie in 0\.\.1, not 1\.5"),
    ],
)
def test_impossible_parameters_are_refused(change: dict[str, Any], message: str, make: Make) -> None:
    with pytest.raises(ConfigError, match=message):
        build(make("vit"), **change)


def test_patches_that_are_not_square_are_refused(make: Make, tmp_path: Path) -> None:
    shutil.copy(make("vit") / "preprocessor_config.json", tmp_path)
    config = transformers.ViTConfig(**SHAPE | {"patch_size": (8, 16)})
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"patches and images must be square, not [\[(]8, 16"):
        build(tmp_path)
