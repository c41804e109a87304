"""What a stage is told: `params.yaml`, the command line over it, and where the project's files lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchkit.core.params import check_names, parse_overrides, read_params, section
from matchkit.core.presets import PresetsByStage
from matchkit.evaluate import presets as of_match
from matchkit.evaluate import protocols as of_evaluate
from matchkit.extract import presets as of_extract
from matchkit.extract.datasets import DATASETS
from matchkit.heads import presets as of_fit_head

PARAMS_FILE = Path("params.yaml")
EXEMPLARS = "exemplars"
"""The folder of lists of exemplars, and that of the reports on heads which are given them."""
PRESETS = PresetsByStage([of_extract.PRESETS, of_fit_head.PRESETS, of_match.PRESETS, of_evaluate.PRESETS])
NO_PRESETS_AFFAIR = ("split", "memory_gb", "breakdowns", "resamples")
"""Parameters of a section that stand over a preset of the command line, too."""


@dataclass(frozen=True, slots=True)
class Told:
    """The parameters of a stage, and where they stand for error messages."""

    values: Mapping[str, Any]
    where: str


def told(stage: str, settings: Sequence[str], *, file: Path = PARAMS_FILE) -> Told:
    """The parameters under `<stage>` of the file with `key=value` settings over them, and a preset beneath.

    A preset that the settings name takes the section's place but for `NO_PRESETS_AFFAIR`: the section is everybody's,
    and its parameters may be those of another matcher.

    Raises:
        UnknownNameError: no such preset, or one of another stage.
    """
    values, given = section(read_params(file), stage, where=str(file)), parse_overrides(settings)
    if PRESETS.of(stage).table():
        if given.get("preset"):
            values = {key: value for key, value in values.items() if key in NO_PRESETS_AFFAIR}
        return Told(_over_preset(stage, values | given), f"{file} {stage}")
    return Told(values | given, f"{file} {stage}")


def told_for(stage: str, dataset: str, entry: str, settings: Sequence[str], *, file: Path = PARAMS_FILE) -> Told:
    """The parameters under `<stage>.<dataset>.<entry>` of the file with `key=value` settings over them.

    They stand over a preset: the one that `preset` names, or the one that is called like the entry where this names no
    backbone or head.

    Raises:
        ConfigError: the stage's section names a dataset that no table knows.
        UnknownNameError: no such preset, or one of another stage.
    """
    data = read_params(file)
    check_names(section(data, stage, where=str(file)), list(DATASETS.table()), where=f"{file} {stage}")
    values = section(data, stage, dataset, entry, where=str(file)) | parse_overrides(settings)
    return Told(_over_preset(stage, values, entry), f"{file} {stage}.{dataset}.{entry}")


def _over_preset(stage: str, values: Mapping[str, Any], entry: str = "") -> dict[str, Any]:
    presets = PRESETS.of(stage)
    own = entry if entry in presets.table() and presets.key not in values else ""
    name = values.get("preset") or own
    rest = {key: value for key, value in values.items() if key != "preset"}
    return PRESETS.params(stage, str(name)) | rest if name else rest


def features_path(dataset: str, features: str) -> Path:
    """The feature store of a dataset."""
    return Path("features") / dataset / f"{features}.zarr"


def weights_path(dataset: str, head: str) -> Path:
    """The fitted head of a dataset."""
    return Path("weights") / dataset / f"{head}.safetensors"


def predictions_path(dataset: str, head: str) -> Path:
    """The predictions of a head on a dataset."""
    return Path("predictions") / dataset / f"{head}.npz"


def report_path(dataset: str, head: str) -> Path:
    """The report on a head's predictions on a dataset."""
    return Path("reports") / dataset / f"{head}.json"


def exemplars_path(dataset: str, split: str) -> Path:
    """The lists of exemplars of a split's images."""
    return Path(EXEMPLARS) / dataset / f"{split}.jsonl"


def exemplar_report_path(dataset: str, head: str) -> Path:
    """The report on a head between two domains."""
    return Path("reports") / dataset / EXEMPLARS / f"{head}.json"
