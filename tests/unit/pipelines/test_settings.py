"""What a stage is told: the file, the command line over it, and presets beneath both."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from matchkit.cache.store import FeatureStore
from matchkit.cli import main
from matchkit.core.errors import ConfigError, UnknownNameError
from matchkit.extract.presets import PRESETS
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
match:
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
    assert dict(told("match", ["upsample=8"], file=file).values) == {"split": "val", "upsample": 8}
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


def test_other_stages_have_no_presets(file: Path) -> None:
    assert dict(asked(file, "dift", stage="fit_head").values) == {"features": "mine"}
    assert dict(asked(file, "sd4match", stage="fit_head").values) == {}


def test_a_dataset_that_no_table_knows(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("extract:\n  spare:\n    dift: {}\n")
    with pytest.raises(ConfigError, match=r"no parameter 'spare'\. Did you mean 'spair'"):
        asked(tmp_path / "params.yaml", "dift")


def test_presets_on_the_command_line(
    spair_tree: Path, sd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(main, ["list", "presets"], catch_exceptions=False)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(PRESETS.table())
    run = ["extract", "--dataset", "spair", "--root", str(spair_tree), "--backbone", "dift", "--device", "cpu"]
    small = ["--weights", str(sd_folder), "--set", "input_size=16"]
    result = CliRunner().invoke(main, [*run, *small], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    spec = FeatureStore.open("features/spair/dift.zarr").spec
    assert (spec.backbone, spec.timesteps, spec.options["ensemble"]) == ("sd-noise", (261,), 8)
    assert spec.options["prompt"] == "a photo of a {category}"
