"""The embedded default: its builders, two steps of each phase, and the folders that ship."""

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, StableDiffusionPipeline
from torch import nn
from transformers import Dinov2Model

from matchkit.core.errors import WeightsError
from matchkit.extract.backbones.tiny import architecture
from matchkit.extract.backbones.tiny.folder import PIPELINE_FOLDER, VIT_FOLDER, save_pipeline, size_in_bytes
from matchkit.extract.backbones.tiny.tokenizer import WORDS, build_tokenizer
from matchkit.extract.datasets.toy import CATEGORIES
from matchkit.pipelines.train_tiny.loop import Phase, load_averages, train
from matchkit.pipelines.train_tiny.renders import Renders
from matchkit.pipelines.train_tiny.unet import tokenise, unet_phase
from matchkit.pipelines.train_tiny.vae import measure_scale, vae_phase
from matchkit.pipelines.train_tiny.vit import correspondence_loss, vit_phase

LIMIT = 12_000_000


@pytest.fixture
def renders() -> Renders:
    rng = np.random.default_rng(0)
    surface = rng.uniform(-0.5, 0.5, (4, 16, 16, 3)).astype(np.float32)
    surface[1::2] = surface[::2]
    surface[:, :4] = np.nan
    return Renders(
        images=rng.integers(0, 256, (4, 128, 128, 3), dtype=np.uint8),
        surface=surface,
        category=np.array([0, 0, 1, 1]),
        captions=("a photo of a red car", "a photo of a blue car", "a dog", ""),
    )


def make_phase(name: str, renders: Renders) -> Phase:
    if name == "vae":
        return vae_phase(architecture.build_vae(), renders.images, batch=2)
    if name == "vit":
        return vit_phase(architecture.build_vit(), renders, pairs=2)
    tokenizer = build_tokenizer()
    return unet_phase(
        architecture.build_unet(),
        architecture.build_text_encoder(tokenizer),
        latents=torch.randn(4, 2, 4, 16, 16, generator=torch.Generator().manual_seed(0)),
        tokens=tokenise(tokenizer, renders.captions),
        empty=tokenise(tokenizer, [""])[0],
        scheduler=architecture.build_scheduler(),
        scale=0.5,
        batch=2,
    )


def weights(modules: Mapping[str, nn.Module]) -> list[torch.Tensor]:
    return [value for module in modules.values() for value in module.state_dict().values()]


def test_unet_has_twelve_decoder_resnets_on_four_grids() -> None:
    unet = architecture.build_unet()
    grids: list[tuple[int, ...]] = []
    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.register_forward_hook(lambda module, arguments, output: grids.append(tuple(output.shape[2:])))
    with torch.no_grad():
        unet(torch.zeros(1, 4, 16, 16), 51, torch.zeros(1, 77, architecture.TEXT_WIDTH))
    assert grids == [(cells, cells) for cells in (2, 4, 8, 16) for _ in range(3)]


def test_vae_and_vit_have_sixteen_cells_an_axis() -> None:
    with torch.no_grad():
        latents = architecture.build_vae().encode(torch.zeros(1, 3, 128, 128)).latent_dist.mean
        tokens = architecture.build_vit()(torch.zeros(1, 3, 128, 128)).last_hidden_state
    assert latents.shape == (1, 4, 16, 16)
    assert tokens.shape == (1, 1 + 16 * 16, 96)


def test_builders_are_seeded_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (architecture.build_vit(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    pairs = list(zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(
        first.embeddings.patch_embeddings.projection.weight, other.embeddings.patch_embeddings.projection.weight
    )


def test_tokenizer_writes_a_caption_word_as_one_token_and_any_text_at_all() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer(word).input_ids) == 3 for word in WORDS)
    assert set(CATEGORIES) <= set(WORDS)
    assert tokenizer.decode(tokenizer("Größe 12").input_ids, skip_special_tokens=True).split() == ["größe", "1", "2"]
    assert tokenizer("").input_ids == [tokenizer.bos_token_id, tokenizer.eos_token_id]


@pytest.mark.parametrize("name", ["vae", "unet", "vit"])
def test_two_steps_and_one_step_resumed_give_the_same_weights(name: str, renders: Renders, tmp_path: Path) -> None:
    whole = train(make_phase(name, renders), steps=2, seed=0, folder=tmp_path / "whole", resume=False)
    cut = make_phase(name, renders)
    train(cut, steps=2, seed=0, folder=tmp_path / "cut", resume=False, stop=1)
    resumed = train(make_phase(name, renders), steps=2, seed=0, folder=tmp_path / "cut", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
    fresh = make_phase(name, renders).modules
    assert any(not torch.equal(a, b) for a, b in zip(weights(whole), weights(fresh), strict=True))
    load_averages(fresh, tmp_path / "cut" / f"{name}.pt")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(fresh), strict=True))


def test_resuming_under_another_seed_is_refused(renders: Renders, tmp_path: Path) -> None:
    train(make_phase("vit", renders), steps=1, seed=0, folder=tmp_path, resume=False)
    with pytest.raises(WeightsError, match="--seed 0"):
        train(make_phase("vit", renders), steps=1, seed=1, folder=tmp_path, resume=True)


def test_correspondence_loss_rewards_the_right_cell_and_hides_the_category_s_other_objects() -> None:
    tokens = torch.eye(4)[None].repeat(2, 1, 1)
    surface = torch.arange(4.0)[None, :, None].repeat(2, 1, 3)
    surface[:, 3] = float("nan")
    same, found = correspondence_loss(tokens, tokens, surfaces=(surface, surface), category=torch.tensor([1, 1]))
    other, _ = correspondence_loss(tokens, tokens, surfaces=(surface, surface), category=torch.tensor([0, 1]))
    assert found == 1.0
    assert same < 1e-4 < other
    _, wrong = correspondence_loss(tokens, tokens.flip(1), surfaces=(surface, surface), category=torch.tensor([1, 1]))
    assert wrong < 1.0


def test_scale_gives_sampled_latents_unit_deviation() -> None:
    latents = torch.stack([3 * torch.randn(8, 4, 16, 16), 4 * torch.ones(8, 4, 16, 16)], 1)
    assert measure_scale(latents) == pytest.approx(1 / 5, rel=0.05)


def test_saved_pipeline_replaces_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "stable-diffusion"
    folder.mkdir()
    (folder / "stale").touch()
    save_pipeline(architecture.build_pipeline(), folder)
    assert not (folder / "stale").exists()
    assert size_in_bytes(folder) < LIMIT
    assert [path.name for path in tmp_path.iterdir()] == ["stable-diffusion"]


def test_shipped_weights_are_small_and_load_with_plain_libraries() -> None:
    with as_file(files("matchkit.extract.backbones.tiny") / "weights") as shipped:
        assert size_in_bytes(shipped) <= LIMIT
        assert not [path for path in shipped.rglob("*") if path.suffix in {".bin", ".pt", ".ckpt"}]
        pipeline = StableDiffusionPipeline.from_pretrained(shipped / PIPELINE_FOLDER, local_files_only=True)
        vit = Dinov2Model.from_pretrained(shipped / VIT_FOLDER, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert {p.dtype for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder, vit) for p in m.parameters()} == {
        torch.float32
    }
    assert 0.01 < pipeline.vae.config.scaling_factor < 10
    image = pipeline("a photo of a red car seen from the left", num_inference_steps=2, output_type="np").images[0]
    assert image.shape == (128, 128, 3)
    assert np.isfinite(image).all()
    assert DDIMInverseScheduler.from_config(pipeline.scheduler.config).config.beta_schedule == "scaled_linear"
