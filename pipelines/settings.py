"""What a stage is told: `params.yaml`, the command line over it, and where the project's files lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchkit.core.params import parse_overrides, read_params, section

PARAMS_FILE = Path("params.yaml")


@dataclass(frozen=True, slots=True)
class Told:
    """The parameters of one entry of a stage, and where they stand for error messages."""

    values: Mapping[str, Any]
    where: str


def told(stage: str, entry: str | None, settings: Sequence[str], *, file: Path = PARAMS_FILE) -> Told:
    """The parameters under `<stage>.<entry>` of the file with `key=value` settings over them."""
    keys = (stage,) if entry is None else (stage, entry)
    values = section(read_params(file), *keys, where=str(file))
    return Told(values | parse_overrides(settings), f"{file} {'.'.join(keys)}")


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
