"""The parameters of a head that another program trained, from a file of `torch.save`, as a fitted head of matchkit."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from matchkit.cache.interchange.torch_files import load_tensors
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError, StoreError, WeightsError
from matchkit.core.flips import FlipWeights
from matchkit.core.interfaces import Head, TrainableHead
from matchkit.core.params import build, divide
from matchkit.heads import HEADS
from matchkit.heads.fit import FitParams
from matchkit.heads.weights import HeadWeights, keep
from matchkit.pipelines.fit_head import FitHeadParams
from matchkit.pipelines.settings import features_path, told_for, weights_path

log = logging.getLogger(__name__)
WITHIN = ("aggregation_network", "state_dict", "model_state_dict", "model")
"""Where a checkpoint that holds more than parameters has them. The first is Diffusion Hyperfeatures'."""
PARALLEL = "module."
"""What torch's DataParallel puts before every name."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import wrote: the weights, and how many numbers are in them."""

    weights: Path
    parameters: int


def import_head(
    file: Path,
    dataset: str,
    entry: str,
    *,
    store: Path | str | None = None,
    out: Path | None = None,
    settings: Sequence[str] = (),
) -> Imported:
    """Takes the parameters of `file` as those of the head that `fit_head.<dataset>.<entry>` describes.

    The names and shapes must be exactly the head's, but for a `module.` before all of them. Nothing in the file is
    executed. The head's layers are those of the features, in the order in which the file was trained on them.

    Args:
        file: of `torch.save`: the tensors by name, or a checkpoint with them under one of `WITHIN`.
        dataset: whose head it becomes.
        entry: of `params.yaml`, a preset or a head.
        store: the features that it will describe, [default: features/<dataset>/<features>.zarr].
        out: where it goes, [default: weights/<dataset>/<entry>.safetensors].
        settings: over the entry.

    Raises:
        WeightsError: the file is no head's, another head's or needs code, or there is another head already.
        ConfigError: the head has no parameters.
        StoreError: the features are not there.
    """
    asked = told_for("fit_head", dataset, entry, settings)
    name = str(asked.values.get("head") or entry)
    kinds = (FitHeadParams, HEADS.load(name).Params, FitParams, FlipWeights)
    own, of_head, *_ = divide(asked.values, kinds, where=asked.where)
    params = build(FitHeadParams, own, where=asked.where)
    spec = FeatureStore.open(store or features_path(dataset, params.features)).spec
    head: Head = HEADS.build(name, of_head, where=asked.where, spec=spec)
    if not isinstance(head, TrainableHead):
        raise ConfigError(f"{asked.where}: head '{name}' has no parameters to import. Run: matchkit fit-head {entry}")
    tensors = head_tensors(file)
    try:
        HeadWeights(name, head.config(), spec, tensors).give(head)
    except WeightsError as error:
        layers = ", ".join(head.layers)
        raise WeightsError(f"{file}: {error}. The layers were: {layers}. Give its own, --set 'layers=[...]'") from error
    with file.open("rb") as opened:
        digest = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()[:16]}"
    fit = {"dataset": dataset, "features": params.features, "imported": file.name, "checksum": digest}
    path = out or weights_path(dataset, entry)
    _require_room(path, digest)
    keep(head, name, spec=spec, fit=fit).save(path)
    return Imported(path, sum(values.numel() for values in tensors.values()))


def head_tensors(file: Path) -> dict[str, torch.Tensor]:
    """The parameters in a file of `torch.save`, by name.

    Raises:
        WeightsError: it cannot be read without running its code, or holds no tensors by name.
    """
    try:
        loaded: Any = load_tensors(file)
    except StoreError as error:
        raise WeightsError(str(error)) from error
    if isinstance(loaded, Mapping):
        loaded = next((loaded[key] for key in WITHIN if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{file} holds no parameters by name. Give a state dict, or a checkpoint with one")
    strange = [str(key) for key, values in loaded.items() if not isinstance(values, torch.Tensor)]
    if strange:
        raise WeightsError(f"{file} is no state dict: '{strange[0]}' is no tensor. Save the head's state dict alone")
    names = [str(key) for key in loaded]
    prefix = PARALLEL if all(name.startswith(PARALLEL) for name in names) else ""
    return {name.removeprefix(prefix): values for name, values in zip(names, loaded.values(), strict=True)}


def _require_room(path: Path, digest: str) -> None:
    """Refuses to write over a head that is not this one."""
    if path.exists() and HeadWeights.load(path).fit.get("checksum") != digest:
        raise WeightsError(f"{path} is another head already. Move it away, or give --out")
