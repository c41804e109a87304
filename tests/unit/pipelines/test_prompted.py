"""Extraction with a learned prompt: the states that a head's file becomes, and what is refused."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, WeightsError
from matchkit.extract.backbones.promptable import PromptableDiffusion, PromptableParams
from matchkit.extract.backbones.sd_latents import SDLatents, SDLatentsParams
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines import cluster
from matchkit.pipelines.extract import extract
from matchkit.pipelines.plan import plan
from matchkit.pipelines.prepare import prepare
from matchkit.pipelines.prompted import digest

CPU = torch.device("cpu")
SETTINGS = ("timesteps=[50]", "dtype=fp32")
Fitted = Callable[..., Path]


@pytest.fixture
def fitted(sd_folder: Path, tmp_path: Path) -> Fitted:
    """Writes a prompt of four tokens, for two categories or for all images."""

    def write(head: str = "prompt", **changes: Any) -> Path:
        spec = SDLatents(SDLatentsParams(weights=str(sd_folder)), device=CPU).spec
        config = {"network": {"weights": str(sd_folder)}, "kind": "class", "categories": ["cat", "dog"]} | changes
        shape = (2, 4, 8) if config["kind"] == "class" else (4, 8)
        tokens = torch.randn(shape, generator=torch.Generator().manual_seed(2))
        HeadWeights(head, config, spec, {"tokens": tokens}).save(tmp_path / "learned.safetensors")
        return tmp_path / "learned.safetensors"

    return write


def run(tree: Path, weights: Path | str, prompt: Path, **options: Any) -> FeatureStore:
    out = tree.parent / "F.zarr"
    told: dict[str, Any] = {"root": tree, "weights": str(weights), "settings": SETTINGS, "device": "cpu"}
    extract("spair", "sd-noise", out=out, prompt=prompt, **told | options)
    return FeatureStore.open(out)


def test_each_image_is_seen_under_the_prompt_of_its_category(sd_folder: Path, spair_tree: Path, fitted: Fitted) -> None:
    prompt = fitted()
    kept = HeadWeights.load(prompt)
    store = run(spair_tree, sd_folder, prompt)
    assert store.spec.options["prompt"] == f"learned {digest(kept)}"
    latents = FeatureStore.open(_latents(spair_tree, sd_folder))
    network = PromptableDiffusion(PromptableParams(weights=str(sd_folder)), device=CPU)
    for row, category in enumerate(("cat", "dog")):
        states = network.states_of_tokens(kept.tensors["tokens"][row : row + 1])
        for image_id in (name for name in store.ids if name.startswith(category)):
            mean = torch.as_tensor(latents.read(image_id)["latent"])
            maps = network.maps(mean, [image_id], states, timestep=50)["up1.out"]
            torch.testing.assert_close(torch.as_tensor(store.read(image_id)["up1.out"]), maps, rtol=1e-4, atol=1e-5)


def _latents(tree: Path, weights: Path) -> Path:
    out = tree.parent / "L.zarr"
    extract("spair", "sd-latents", root=tree, weights=str(weights), out=out, settings=("dtype=fp32",), device="cpu")
    return out


def test_a_plan_has_the_spec_of_its_extraction(sd_folder: Path, spair_tree: Path, fitted: Fitted) -> None:
    prompt = fitted(kind="single")
    run(spair_tree, sd_folder, prompt)
    told = {"root": spair_tree, "weights": str(sd_folder), "settings": SETTINGS, "device": "cpu", "probe": False}
    planned = plan("spair", "sd-noise", prompt=prompt, out=spair_tree.parent / "F.zarr", **told)
    assert (planned.images, planned.missing) == (3, 0)
    assert plan("spair", "sd-noise", prompt=prompt, **told).store == "features/spair/learned.zarr"


def test_a_category_that_was_not_trained_on_falls_back(
    sd_folder: Path, spair_tree: Path, fitted: Fitted, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run(spair_tree, sd_folder, fitted(categories=["cow", "dog"], unseen="cow"))
    assert [message for message in caplog.messages if "cat" in message] == [
        "category 'cat' was not trained on: its prompt is that of cow"
    ]


def test_the_prompt_travels_to_the_workers(sd_folder: Path, spair_tree: Path, fitted: Fitted) -> None:
    prompt = fitted()
    told: dict[str, Any] = {"weights": str(sd_folder), "settings": SETTINGS, "device": "cpu"}
    prepared = prepare("spair", "sd-noise", prompt=prompt, root=spair_tree, **told)
    job = cluster._job("F.zarr", prepared, device="cpu")
    assert job.prompt is not None
    assert (job.prompt.path, job.prompt.categories) == (str(prompt), ("cat", "dog"))
    there = cluster._load(job)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = ["cat/a", "dog/b"]
    assert torch.equal(there(images, ids)["up1.out"], prepared.backbone(images, ids)["up1.out"])
    fitted(kind="single")
    with pytest.raises(ConfigError, match=f"not {job.digest}: it has other weights, another prompt"):
        cluster._load(job)


def test_a_prompt_is_named_by_what_was_learned(fitted: Fitted) -> None:
    kept = HeadWeights.load(fitted())
    tensors = {"tokens": kept.tensors["tokens"].clone()}
    assert digest(replace(kept, tensors=tensors, fit={"steps": 3})) == digest(kept)
    tensors["tokens"][0, 0, 0] += 1
    config = {**kept.config, "unseen": "cat"}
    others = {digest(kept), digest(replace(kept, tensors=tensors)), digest(replace(kept, config=config))}
    assert len(others) == 3


def test_a_conditional_prompt_is_refused(sd_folder: Path, spair_tree: Path, fitted: Fitted) -> None:
    with pytest.raises(ConfigError, match=r"learned\.safetensors is a conditional prompt: it depends on both images"):
        run(spair_tree, sd_folder, fitted("conditional-prompt"))
    assert not (spair_tree.parent / "F.zarr").exists()


def test_another_head_is_refused(sd_folder: Path, spair_tree: Path, fitted: Fitted) -> None:
    with pytest.raises(ConfigError, match=r"holds the head 'aggregator', not a prompt\. Run: matchkit fit-head prompt"):
        run(spair_tree, sd_folder, fitted("aggregator"))


def test_a_backbone_that_takes_no_prompt_is_refused(spair_tree: Path, fitted: Fitted) -> None:
    with pytest.raises(ConfigError, match=r"'pixels' takes no learned prompt\. Take: --backbone sd-noise"):
        prepare("spair", "pixels", weights=None, settings=(), device="cpu", prompt=fitted(), root=spair_tree)


def test_a_prompt_of_another_text_encoder_is_refused(sd_folder: Path, spair_tree: Path, fitted: Fitted) -> None:
    with pytest.raises(WeightsError, match=r"not fit the text encoder of tiny .* learned on .*sd\. Take: --weights"):
        run(spair_tree, "tiny", fitted())


def test_the_command_refuses_in_one_line(spair_tree: Path, fitted: Fitted) -> None:
    told = ["--dataset", "spair", "--root", str(spair_tree), "--backbone", "pixels", "--prompt", str(fitted())]
    for verb in ("extract", "plan"):
        answer = CliRunner().invoke(main, [verb, *told])
        assert answer.exit_code == 1
        assert answer.stderr == "Error: the backbone 'pixels' takes no learned prompt. Take: --backbone sd-noise\n"


def test_a_prompt_that_is_not_there(spair_tree: Path, tmp_path: Path, sd_folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"no head at .*nowhere\.safetensors\. Run: matchkit fit-head"):
        run(spair_tree, sd_folder, tmp_path / "nowhere.safetensors")
