"""Prompts from the cached latents to predictions, by the verbs' own functions."""

from pathlib import Path

import pytest

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.evaluate.predictions import Predictions
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.extract import extract
from matchkit.pipelines.fit_head import fit_head
from matchkit.pipelines.match import match


@pytest.fixture
def latents(spair_tree: Path, sd_folder: Path, dinov2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree whose latents and DINO tokens are in a store."""
    monkeypatch.chdir(spair_tree.parent)
    settings = ("dtype=fp32", f"dino_weights={dinov2_folder}", "dino_crop=whole")
    extract("spair", "sd-latents", root=spair_tree, weights=str(sd_folder), settings=settings, device="cpu")
    return spair_tree


def told(sd_folder: Path, *more: str) -> tuple[str, ...]:
    network = f"network={{weights: {sd_folder}, layers: [up1.out]}}"
    short = ("steps=3", "validate_every=2", "pairs=2", "ensemble=1", "points=align-corners", "lr=0.05")
    return ("features=sd-latents", network, *short, *more)


@pytest.mark.parametrize(
    ("head", "more"),
    [
        ("prompt", ("kind=single",)),
        ("prompt", ("kind=class",)),
        ("prompt", ("kind=text",)),
        ("conditional-prompt", ("global_tokens=1", "conditional_tokens=2")),
    ],
)
def test_a_prompt_is_fitted_and_matches(latents: Path, sd_folder: Path, head: str, more: tuple[str, ...]) -> None:
    settings = told(sd_folder, f"head={head}", *more)
    fitted = fit_head("spair", "mine", root=latents, settings=settings, device="cpu").weights
    kept = HeadWeights.load(fitted)
    if more == ("kind=class",):
        assert kept.config["categories"] == ["cat", "dog"]
    matched = match("spair", "mine", root=latents, settings=("matcher=nearest",), device="cpu")
    points = Predictions.load(matched.predictions).points
    assert [found.shape for found in points.values()] == [(3, 2)]


def test_maps_are_extracted_under_a_fitted_prompt(latents: Path, sd_folder: Path) -> None:
    settings = told(sd_folder, "head=prompt", "kind=class")
    fitted = fit_head("spair", "mine", root=latents, settings=settings, device="cpu").weights
    asked = ("layers=[up1.out]", "timesteps=[50]")
    done = extract(
        "spair", "sd-noise", root=latents, weights=str(sd_folder), settings=asked, prompt=fitted, device="cpu"
    )
    assert (Path(done.store).name, done.done) == ("mine.zarr", 3)
    scored = fit_head("spair", "raw-layer", root=latents, settings=("features=mine",), device="cpu")
    assert 0 <= scored.validation <= 100


def test_a_prompt_for_another_text_encoder_is_refused(latents: Path, sd_folder: Path) -> None:
    settings = told(sd_folder, "head=prompt", "kind=single")
    fitted = fit_head("spair", "mine", root=latents, settings=settings, device="cpu").weights
    with pytest.raises(WeightsError, match="does not fit the text encoder of tiny"):
        extract("spair", "sd-noise", root=latents, weights="tiny", prompt=fitted, device="cpu")


def test_latents_of_another_size_than_the_networks_are_refused(latents: Path) -> None:
    with pytest.raises(
        ConfigError, match="the latents are of inputs of 16 x 16 pixels, and the network to prompt takes"
    ):
        fit_head("spair", "mine", root=latents, settings=("head=prompt", "features=sd-latents"), device="cpu")
