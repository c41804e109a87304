"""What an extraction is told: the backbone that `params.yaml` describes, and how it runs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Backbone
from matchkit.core.params import build, divide
from matchkit.core.poses import Pose, posed
from matchkit.core.records import ImageRecord
from matchkit.extract.backbones import BACKBONES
from matchkit.extract.datasets import open_dataset
from matchkit.pipelines.prompted import Prompt, build_backbone, prompt_for
from matchkit.pipelines.settings import told_for

DECODERS = 8
"""Threads that decode for a GPU, at most."""


@dataclass(frozen=True, slots=True)
class ExtractParams:
    """How an extraction runs; none of this changes the features beyond the last bits.

    Attributes:
        backbone: name in the table of backbones; "" where the entry itself has that name.
        batch: images a batch.
        threads: threads that compute a batch each; 0 takes one a core, and one for a GPU.
        poses: in which images are extracted beside as they are, as `--flip` and `--rotate` ask for.
    """

    backbone: str = ""
    batch: int = 2
    threads: int = 0
    poses: tuple[Literal["hflip", "rot90", "rot270"], ...] = ()

    def __post_init__(self) -> None:
        if self.batch < 1 or self.threads < 0:
            raise ConfigError("batch must be at least 1 and threads at least 0")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A backbone, and how to run it.

    Attributes:
        backbone: ready to be called.
        name: in the table of backbones.
        values: its parameters, as they were told.
        params: of the run.
        device: on which it computes.
        prompt: learned, that it was given.
    """

    backbone: Backbone
    name: str
    values: Mapping[str, Any]
    params: ExtractParams
    device: torch.device
    prompt: Prompt | None = None

    @property
    def threads(self) -> int:
        """Batches at a time."""
        return self.params.threads or (cores() if self.device.type == "cpu" else 1)

    @property
    def decoders(self) -> int:
        """Threads that decode ahead."""
        return self.threads if self.device.type == "cpu" else min(cores(), DECODERS)


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(
    dataset: str,
    entry: str,
    *,
    weights: str | None,
    settings: Sequence[str],
    device: str,
    prompt: Path | None = None,
    root: Path | None = None,
) -> Prepared:
    """Builds the backbone that `extract.<dataset>.<entry>` of `params.yaml` describes.

    Args:
        dataset: name in the table of datasets.
        entry: of `params.yaml`, or a backbone.
        weights: of the backbone.
        settings: `key=value`, over `params.yaml`.
        device: on which to compute.
        prompt: file of a learned prompt that the backbone is to be given.
        root: the dataset's tree, of whose categories there may be a prompt each.

    Raises:
        MatchkitError: an unknown backbone or parameter, or weights that are not there.
    """
    asked = told_for("extract", dataset, entry, settings)
    name = str(asked.values.get("backbone") or entry)
    kinds = (ExtractParams, BACKBONES.load(name).Params)
    values = dict(asked.values) | ({"weights": weights} if weights else {})
    run, params = divide(values, kinds, where=asked.where)
    where = choose_device(device)
    learned = prompt_for(prompt, images_of(dataset, root)) if prompt else None
    backbone = build_backbone(name, params, where=asked.where, device=where, prompt=learned)
    return Prepared(backbone, name, params, build(ExtractParams, run, where=asked.where), where, learned)


def images_of(
    dataset: str, root: Path | None, *, limit: int | None = None, poses: tuple[Pose, ...] = ()
) -> list[ImageRecord]:
    """The images of a dataset by id, or the first `limit` of them; then their copies, pose by pose.

    Raises:
        DatasetError: the dataset is not there or malformed.
    """
    records = list(open_dataset(dataset, root).images.values())[:limit]
    return records + [posed(record, pose) for pose in poses for record in records]
