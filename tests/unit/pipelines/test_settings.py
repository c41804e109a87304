"""What a stage is told: the file, the command line over it, and presets beneath both."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from matchkit.cache.exemplars import Shares
from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, UnknownNameError
from matchkit.core.flips import FlipWeights
from matchkit.core.params import build, divide
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.pose_alignment import PoseAlignmentParams
from matchkit.extract.presets import PRESETS
from matchkit.heads import HEADS
from matchkit.heads.fit import FitParams
from matchkit.pipelines.fit_exemplars import EXEMPLAR_HEADS, FitExemplarsParams
from matchkit.pipelines.fit_head import FitHeadParams
from matchkit.pipelines.match import MatchParams
from matchkit.pipelines.settings import PRESETS as ALL
from matchkit.pipelines.settings import Told, told, told_for

PARAMS = """
extract:
  toy:
    plain:
      backbone: pixels
      cell: 4
    mine:
      preset: dift
      ensemble: 2
    dift:
      batch: 4
    geoaware:
      backbone: pixels
fit_head:
  toy:
    dift:
      features: mine
    slow:
      preset: post-processor-code
      lr: 0.5
    hyperfeatures:
      steps: 3
match:
  upsample: 8
  split: val
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    return path


def asked(file: Path, entry: str, *settings: str, stage: str = "extract") -> Told:
    return told_for(stage, "toy", entry, settings, file=file)


def test_settings_stand_over_the_file(file: Path) -> None:
    assert dict(told("match", ["upsample=4"], file=file).values) == {"split": "val", "upsample": 4}
    assert dict(asked(file, "plain", "cell=2").values) == {"backbone": "pixels", "cell": 2}
    assert asked(file, "plain").where == f"{file} extract.toy.plain"


def test_an_entry_that_is_not_there_is_the_preset_of_its_name(file: Path) -> None:
    assert dict(asked(file, "sd4match").values) == PRESETS.params("sd4match")
    assert dict(asked(file, "sd4match", "ensemble=1").values) == PRESETS.params("sd4match") | {"ensemble": 1}
    assert dict(asked(file.with_name("no.yaml"), "dift").values) == PRESETS.params("dift")
    assert dict(asked(file, "dinov2").values) == {}


def test_a_preset_is_the_base_of_an_entry(file: Path) -> None:
    assert dict(asked(file, "mine").values) == PRESETS.params("dift") | {"ensemble": 2}
    assert dict(asked(file, "mine", "preset=sd4match").values) == PRESETS.params("sd4match") | {"ensemble": 2}
    assert dict(asked(file, "other", "preset=cleandift", "time=0").values) == PRESETS.params("cleandift") | {"time": 0}
    with pytest.raises(UnknownNameError, match=r"no preset 'dif'\. Did you mean 'dift'"):
        asked(file, "mine", "preset=dif")


def test_an_entry_called_like_a_preset(file: Path) -> None:
    """It builds on the preset unless it names a backbone."""
    assert dict(asked(file, "dift").values) == PRESETS.params("dift") | {"batch": 4}
    assert dict(asked(file, "geoaware").values) == {"backbone": "pixels"}


def test_a_preset_is_the_base_of_a_fit(file: Path) -> None:
    code, hyperfeatures = ALL.params("fit_head", "post-processor-code"), ALL.params("fit_head", "hyperfeatures")
    assert dict(asked(file, "slow", stage="fit_head").values) == code | {"lr": 0.5}
    assert dict(asked(file, "post-processor-code", "steps=7", stage="fit_head").values) == code | {"steps": 7}
    assert dict(asked(file, "hyperfeatures", stage="fit_head").values) == hyperfeatures | {"steps": 3}
    named = asked(file, "hyperfeatures", "head=raw-layer", stage="fit_head")
    assert dict(named.values) == {"steps": 3, "head": "raw-layer"}


def test_an_entry_of_one_stage_is_no_preset_of_another(file: Path) -> None:
    assert dict(asked(file, "dift", stage="fit_head").values) == {"features": "mine"}
    assert dict(asked(file, "sd4match", stage="fit_head").values) == {}
    with pytest.raises(UnknownNameError, match="is one of extract and evaluate, not of fit_head, which has: post-pro"):
        asked(file, "mine", "preset=dift", stage="fit_head")
    with pytest.raises(UnknownNameError, match="preset 'dift' is one of extract and evaluate, not of match"):
        told("match", ["preset=dift"], file=file)


def test_a_preset_of_the_command_line_takes_the_place_of_the_section_match(file: Path) -> None:
    """The section's `upsample` is nothing that a soft-argmax takes."""
    zero_shot = ALL.params("match", "geoaware-zero-shot")
    found = told("match", ["preset=geoaware-zero-shot", "window=3"], file=file)
    assert dict(found.values) == zero_shot | {"split": "val", "window": 3}


def test_a_preset_of_the_section_match_lies_beneath_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("match: {preset: sd4match, sigma: 5.0}")
    sd4match = ALL.params("match", "sd4match")
    assert dict(told("match", ["temperature=1.0"], file=path).values) == sd4match | {"sigma": 5.0, "temperature": 1.0}
    code = ALL.params("match", "geoaware-code")
    assert dict(told("match", ["preset=geoaware-code"], file=path).values) == code


def test_a_stage_without_presets_is_told_no_preset(file: Path) -> None:
    assert dict(told("report", ["preset=dift"], file=file).values) == {"preset": "dift"}


@pytest.mark.parametrize("preset", ALL.of("fit_head").table())
def test_every_preset_of_fit_head_is_dealt_out(preset: str) -> None:
    params = ALL.params("fit_head", preset)
    of_head = HEADS.load(params["head"]).Params
    kinds = (FitHeadParams, of_head, FitParams, FlipWeights)
    if params["head"] in EXEMPLAR_HEADS:
        kinds = (FitExemplarsParams, of_head, FitParams, Shares)
    for kind, values in zip(kinds, divide(params, kinds, where=preset), strict=True):
        build(kind, values, where=preset)


@pytest.mark.parametrize("preset", ALL.of("match").table())
def test_every_preset_of_match_is_dealt_out(preset: str) -> None:
    params = ALL.params("match", preset)
    kinds = (MatchParams, MATCHERS.load(params["matcher"]).Params, PoseAlignmentParams)
    for kind, values in zip(kinds, divide(params, kinds, where=preset), strict=True):
        build(kind, values, where=preset)


def test_a_dataset_that_no_table_knows(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("extract:\n  spare:\n    dift: {}\n")
    with pytest.raises(ConfigError, match=r"no parameter 'spare'\. Did you mean 'spair'"):
        asked(tmp_path / "params.yaml", "dift")


def test_presets_on_the_command_line(
    spair_tree: Path, sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(main, ["list", "presets"], catch_exceptions=False)
    assert [" ".join(line.split()[:2]) for line in listed.stdout.splitlines()] == list(ALL.table())
    assert {f"extract {name}" for name in PRESETS.table()} < set(ALL.table())
    run = ["extract", "--dataset", "spair", "--root", str(spair_tree), "--backbone", "dift", "--device", "cpu"]
    small = ["--weights", str(sd_folder), "--set", "input_size=16"]
    result = CliRunner().invoke(main, [*run, *small], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    spec = FeatureStore.open("features/spair/dift.zarr").spec
    assert (spec.backbone, spec.timesteps, spec.options["ensemble"]) == ("sd-noise", (261,), 8)
    assert spec.options["prompt"] == "a photo of a {category}"
