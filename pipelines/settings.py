"""What a stage is told: `params.yaml`, the command line over it, and where the project's files lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchkit.core.params import check_names, parse_overrides, read_params, section
from matchkit.extract.datasets import DATASETS
from matchkit.extract.presets import PRESETS

PARAMS_FILE = Path("params.yaml")


@dataclass(frozen=True, slots=True)
class Told:
    """The parameters of a stage, and where they stand for error messages."""

    values: Mapping[str, Any]
    where: str


def told(stage: str, settings: Sequence[str], *, file: Path = PARAMS_FILE) -> Told:
    """The parameters under `<stage>` of the file with `key=value` settings over them."""
    values = section(read_params(file), stage, where=str(file))
    return Told(values | parse_overrides(settings), f"{file} {stage}")


def told_for(stage: str, dataset: str, entry: str, settings: Sequence[str], *, file: Path = PARAMS_FILE) -> Told:
    """The parameters under `<stage>.<dataset>.<entry>` of the file with `key=value` settings over them.

    Those of the stage extract stand over a preset: the one that `preset` names, or the one that is called like the
    entry where this names no backbone.

    Raises:
        ConfigError: the stage's section names a dataset that no table knows.
        UnknownNameError: no such preset.
    """
    data = read_params(file)
    check_names(section(data, stage, where=str(file)), list(DATASETS.table()), where=f"{file} {stage}")
    values = section(data, stage, dataset, entry, where=str(file)) | parse_overrides(settings)
    if stage == "extract":
        values = _over_preset(entry, values)
    return Told(values, f"{file} {stage}.{dataset}.{entry}")


def _over_preset(entry: str, values: dict[str, Any]) -> dict[str, Any]:
    own = entry if entry in PRESETS.table() and "backbone" not in values else ""
    name = values.pop("preset", None) or own
    return PRESETS.params(str(name)) | values if name else values


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
