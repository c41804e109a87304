"""What matches photographs, by the name of a head, by its file, or by nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.spec import FeatureSpec, LayerSpec
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.photo_heads import head_file, load

SPEC = FeatureSpec("pixels", "none", (LayerSpec("rgb", 3, (8, 8)),), (0,), (32, 32), "stretch", "fp16")
FIT = {"dataset": "toy", "features": "pixels"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Heads of two datasets, where the test runs."""
    monkeypatch.chdir(tmp_path)
    for dataset, name in (("toy", "fusion"), ("toy", "colours"), ("spair", "fusion"), ("toy", "colours.last")):
        HeadWeights("fusion", {}, SPEC, fit=FIT).save(Path("weights", dataset, f"{name}.safetensors"))
    return tmp_path


def test_a_head_is_told_by_its_name_or_its_file() -> None:
    assert head_file("colours", None) == Path("weights/toy/colours.safetensors")
    assert head_file("fusion", "spair") == Path("weights/spair/fusion.safetensors")
    assert head_file("weights/toy/fusion.safetensors", None) == Path("weights/toy/fusion.safetensors")
    assert head_file("mine.safetensors", None) == Path("mine.safetensors")
    assert head_file(Path("mine"), None) == Path("mine")


def test_heads_that_are_not_there() -> None:
    with pytest.raises(
        ConfigError, match="which head 'fusion' is meant? Say --dataset, one of: spair, toy".replace("?", r"\?")
    ):
        head_file("fusion", None)
    with pytest.raises(
        WeightsError, match=r"no head 'colour' below weights/\. Did you mean 'colours'\? Run: matchkit fit"
    ):
        head_file("colour", None)
    with pytest.raises(WeightsError, match="Run: matchkit fit-head colours --dataset spair"):
        head_file("colours", "spair")
    with pytest.raises(ConfigError, match="a head's file already: leave the dataset 'toy' out"):
        head_file("mine.safetensors", "toy")
    with pytest.raises(ConfigError, match="photographs have none"):
        head_file("same-relative-position", None)
    with pytest.raises(WeightsError, match=r"no head at mine\.safetensors"):
        load("mine.safetensors", dataset=None, settings=(), device="cpu")


def test_a_head_between_two_domains_matches_no_photographs(project: Path) -> None:
    HeadWeights("cross-domain", {}, SPEC, fit=FIT).save(project / "cross-edge.safetensors")
    with pytest.raises(WeightsError, match="Run: matchkit translate --head cross-edge"):
        load(project / "cross-edge.safetensors", dataset=None, settings=(), device="cpu")


def test_settings_are_of_the_matcher_and_of_the_backbone() -> None:
    made = load(
        "colours", dataset=None, settings=("matcher=soft-argmax", "temperature=0.1", "points=patch"), device="cpu"
    )
    assert type(made.matcher).__name__ == "SoftArgmax"
    assert made.name == "the head weights/toy/colours.safetensors"
    for settings, message in (
        (("poses=[hflip]",), r"without pose alignment\. Match with: --set 'poses=\[\]'"),
        (("temperature=0.1",), "no parameter 'temperature'"),
        (("upsampel=3",), "no parameter 'upsampel'. Did you mean 'upsample'?".replace("?", r"\?")),
    ):
        with pytest.raises(ConfigError, match=message):
            load("colours", dataset=None, settings=settings, device="cpu")


def test_the_fusion_that_needs_no_fitting(
    sd_folder: Path, dinov2_folder: Path, caplog: pytest.LogCaptureFixture, draw: Callable[..., Image.Image]
) -> None:
    told = (f"weights={sd_folder}", f"dino_weights={dinov2_folder}")
    made = load(None, dataset=None, settings=told, device="cpu")
    assert made.head.layers == ("sd.s5", "sd.s4", "sd.s3", "dino")
    assert made.name == "a fusion of Stable Diffusion and DINOv2 (sd.s5, sd.s4, sd.s3, dino), not fitted"
    assert "rendered toys" not in caplog.text
