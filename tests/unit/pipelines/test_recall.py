"""Backbones built again from the specs of their features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from matchkit.core.errors import SpecMismatchError, WeightsError
from matchkit.core.spec import FeatureSpec
from matchkit.extract.backbones import BACKBONES
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.recall import recall, recalled

CPU = torch.device("cpu")
TOLD: list[tuple[str, dict[str, Any]]] = [
    ("pixels", {"input_size": 64, "cell": 4, "fit": "letterbox", "dtype": "fp32", "bars": 0.25}),
    ("hog", {"input_size": 64, "cell": 4, "block": 1, "oriented": True, "resample": "lanczos"}),
    ("sd-inversion", {"steps": 10, "keys": [8, 9, 6], "hook": "output", "layers": ["up1.0", "up0.1"]}),
    ("sd-inversion", {"steps": 4, "keys": [], "init": "random", "seed": 3, "posterior": "sample"}),
    ("sd-noise", {"timesteps": [40, 7], "noise": "shared", "ensemble": 2, "posterior": "copies", "prompt": "a cat"}),
    ("sd-latents", {"std": True, "dino_weights": "DINO", "dino_crop": "whole"}),
    ("dinov2", {"layers": [0, 1], "facet": "key", "cls": True, "input_size": 32}),
    ("dinov2", {"init": "random", "seed": 5, "norm": True, "precision": "bf16"}),
    ("geoaware", {"dino_weights": "DINO", "freeu": "none", "timestep": 80, "fit": "stretch"}),
]
"""Backbones with parameters that are not their defaults."""


@pytest.mark.parametrize(("name", "params"), TOLD)
def test_a_spec_tells_all_but_where_weights_lie(
    name: str, params: Mapping[str, Any], sd_folder: Path, dinov2_folder: Path
) -> None:
    weights = str(dinov2_folder if name == "dinov2" else sd_folder)
    places = {"dino_weights": str(dinov2_folder)} if "dino_weights" in params else {}
    places |= {} if name in ("pixels", "hog") else {"weights": weights}
    spec = BACKBONES.build(name, {**params, **places}, where="test", device=CPU).spec
    kept = HeadWeights("fusion", {}, spec)
    assert recall(kept, places, where="head", device=CPU).spec == spec
    assert "weights" not in recalled(spec)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureSpec:
    """That of mean colours in a project without `params.yaml`."""
    monkeypatch.chdir(tmp_path)
    made: FeatureSpec = BACKBONES.build("pixels", {"input_size": 32, "cell": 4}, where="test", device=CPU).spec
    return made


def kept(spec: FeatureSpec, **fit: str) -> HeadWeights:
    return HeadWeights("fusion", {}, spec, fit={"dataset": "toy", "features": "colours"} | fit)


def project(**entry: object) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"extract": {"toy": {"colours": {"backbone": "pixels"} | entry}}}))


def test_the_entry_of_the_project_comes_first(spec: FeatureSpec) -> None:
    project(input_size=32, cell=4, batch=3)
    assert recall(kept(spec), {}, where="head", device=CPU).spec == spec


def test_an_entry_that_changed_is_not_trusted(spec: FeatureSpec) -> None:
    project(input_size=64, cell=4)
    assert recall(kept(spec), {}, where="head", device=CPU).spec == spec


def test_features_that_nothing_gives(spec: FeatureSpec) -> None:
    project(input_size=64, cell=4)
    other = FeatureSpec.from_json(spec.to_json() | {"weights": "sha256:0"})
    with pytest.raises(SpecMismatchError) as refusal:
        recall(kept(other), {}, where="weights/head.safetensors", device=CPU)
    told = str(refusal.value)
    assert told.startswith(f"weights/head.safetensors was fitted on features of spec {other.digest()}")
    assert "extract.toy.colours of params.yaml gives others now (" in told
    assert "weights: none, not sha256:0" in told
    assert "--set weights=FOLDER" in told


def test_what_was_derived_is_had_from_what_it_was_derived_from(spec: FeatureSpec) -> None:
    project(input_size=32, cell=4)
    assert recall(kept(spec.derive(dtype="int8")), {}, where="head", device=CPU).spec == spec
    pooled = FeatureSpec.from_json(
        spec.derive(dtype="pca-2").to_json() | {"layers": [{"name": "rgb", "channels": 2, "grid": [8, 8]}]}
    )
    with pytest.raises(SpecMismatchError, match="layer rgb: 3 x 8 x 8, not 2 x 8 x 8"):
        recall(kept(pooled), {}, where="head", device=CPU)


def test_an_override_is_part_of_what_is_compared(spec: FeatureSpec) -> None:
    with pytest.raises(SpecMismatchError, match="fit: letterbox, not stretch"):
        recall(kept(spec), {"fit": "letterbox"}, where="head", device=CPU)


def test_weights_that_are_not_there(sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = BACKBONES.build("sd-noise", {"weights": str(sd_folder)}, where="test", device=CPU)
    Path("params.yaml").write_text(
        yaml.safe_dump({"extract": {"toy": {"colours": {"backbone": "sd-noise", "weights": str(tmp_path / "gone")}}}})
    )
    with pytest.raises(WeightsError, match="gone"):
        recall(kept(made.spec), {}, where="head", device=CPU)
