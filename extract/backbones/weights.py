"""Where weights come from: the embedded default, a folder, or a hub id; and the checksum that names them.

Only safetensors are read. A pickle is never opened, whoever made it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, TypeVar, cast

import torch
from diffusers import ModelMixin
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers.utils import logging

from matchkit.core.errors import WeightsError

EMBEDDED = "tiny"
"""The weights that ship with the package: a small pipeline trained on rendered toy objects."""

CONFIGURATION = ("*.json", "*.txt")
READ = ("*.safetensors", *CONFIGURATION)
VARIANTS = ("*.fp16.*", "*non_ema*")
"""Copies of the same weights that many hub folders hold beside them, and that are not read."""
Network = TypeVar("Network", bound=ModelMixin)


def locate(weights: str, *, embedded: str, marker: str, parts: Sequence[str]) -> Path:
    """The local folder of some weights, downloaded first where `weights` is a hub id.

    Args:
        weights: `tiny` for the embedded default, a folder, or a hub id such as `facebook/dinov2-base`.
        embedded: the folder of the embedded default below `tiny/weights`.
        marker: the file that such a folder must hold, e.g. `model_index.json`.
        parts: the sub-folders that are read, `.` for the folder itself.

    Raises:
        WeightsError: no such folder, not weights of this kind, pickles only, or the hub cannot be reached.
    """
    if weights == EMBEDDED:
        with as_file(files("matchkit.extract.backbones.tiny") / "weights" / embedded) as folder:
            return _checked(folder, marker=marker, parts=parts)
    folder = Path(weights).expanduser()
    if folder.is_dir():
        return _checked(folder, marker=marker, parts=parts)
    if folder.exists() or weights.startswith((".", "/", "~")) or weights.count("/") != 1:
        raise WeightsError(f"no weights at {weights}: give a folder, a hub id, or '{EMBEDDED}' for the embedded ones")
    return _checked(_download(weights, parts=parts), marker=marker, parts=parts)


def _download(hub_id: str, *, parts: Sequence[str]) -> Path:
    patterns = [os.path.normpath(f"{part}/*.safetensors") for part in parts]
    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=[*patterns, *CONFIGURATION], ignore_patterns=list(VARIANTS))
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"weights '{hub_id}' are neither a folder here nor to be had from the hub ({reason}). "
            "Give a folder with --weights DIR"
        ) from error


def locate_file(weights: str) -> Path:
    """The local file of some weights, downloaded first where it is of the hub: `owner/repository/file.safetensors`.

    Raises:
        WeightsError: no such file, a pickle, or the hub cannot be reached.
    """
    path = Path(weights).expanduser()
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{weights} is no safetensors file: what else there is could be a pickle, and is never opened"
        )
    if path.is_file():
        return path
    owner, _, rest = weights.partition("/")
    repository, _, name = rest.partition("/")
    if not (owner and repository and name) or owner in (".", "~"):
        raise WeightsError(f"no weights at {weights}: give a file, or owner/repository/file.safetensors of the hub")
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", name))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"weights '{weights}' are neither a file here nor to be had from the hub ({reason})"
        ) from error


def _checked(folder: Path, *, marker: str, parts: Sequence[str]) -> Path:
    if not (folder / marker).is_file():
        raise WeightsError(f"{folder} does not hold weights of this kind: {marker} is missing")
    for part in parts:
        if not list((folder / part).glob("*.safetensors")):
            pickled = any((folder / part).glob("*.bin")) or any((folder / part).glob("*.ckpt"))
            kind = "only pickles, which are never opened: convert them to safetensors" if pickled else "no weights"
            raise WeightsError(f"{folder / part} holds {kind}")
    return folder


def checksum(folder: Path, *, parts: Sequence[str]) -> str:
    """`sha256:` and 16 digits over the names and bytes of all safetensors and configurations of `parts`."""
    digest = hashlib.sha256()
    for part in parts:
        read = {path for pattern in READ for path in (folder / part).glob(pattern)}
        variants = {path for pattern in VARIANTS for path in (folder / part).glob(pattern)}
        for path in sorted(read - variants):
            digest.update(f"{part}/{path.name}".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


def file_checksum(path: Path) -> str:
    """`sha256:` and 16 digits over the bytes of one file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def not_a_pipeline(folder: Path, error: Exception) -> WeightsError:
    """What to raise where a part of a pipeline cannot be read."""
    reason = str(error).strip().partition("\n")[0]
    return WeightsError(f"{folder} is not a Stable Diffusion pipeline: {reason}")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The `scaled_linear` noise schedule of a pipeline: first and last beta, train timesteps, and what is predicted."""

    start: float
    end: float
    steps: int
    prediction: Literal["epsilon", "v_prediction"]


def noise_schedule(folder: Path) -> Schedule:
    """The noise schedule of a pipeline on Stable Diffusion's `scaled_linear` betas.

    Raises:
        WeightsError: the scheduler's configuration is absent or broken, or of another kind.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        config = json.loads(path.read_text())
        numbers = config["beta_start"], config["beta_end"], config["num_train_timesteps"]
        kind = config["beta_schedule"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is not a scheduler's configuration: {error}") from error
    prediction = config.get("prediction_type", "epsilon")
    if kind != "scaled_linear" or prediction not in ("epsilon", "v_prediction"):
        raise WeightsError(
            f"{path}: {kind} betas and a prediction of {prediction}; what is known here is scaled_linear betas and a "
            "prediction of epsilon or v_prediction"
        )
    return Schedule(*numbers, prediction)


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps transformers from drawing a progress bar of its own while weights are read."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def random_copy(network: Network, *, seed: int, dtype: torch.dtype) -> Network:
    """A network of the same configuration with weights drawn anew: the control for what training was worth."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        copy = type(network).from_config(network.config)
    return cast("Network", copy if dtype == torch.float32 else copy.to(dtype))
