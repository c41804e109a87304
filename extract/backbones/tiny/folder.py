"""Writes the embedded default's folders: half-precision safetensors with the libraries' own configuration files."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import StableDiffusionPipeline
from torch import nn
from transformers import Dinov2Model

from matchkit.core.errors import WeightsError

PIPELINE_FOLDER = "stable-diffusion"
VIT_FOLDER = "dinov2"
Network = TypeVar("Network", bound=nn.Module)


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Writes the pipeline in fp16 as `folder`, in the place of what is there."""
    half = _half_copy(pipeline)
    part = _fresh(folder)
    half.save_pretrained(part, safe_serialization=True)
    # transformers loads a model in the precision its configuration names, diffusers in fp32: both shall be fp32
    _declare_single(part / "text_encoder" / "config.json")
    _swap(part, folder)


def save_vit(vit: Dinov2Model, folder: Path) -> None:
    """Writes the ViT in fp16 as `folder`, in the place of what is there."""
    part = _fresh(folder)
    _half(vit).save_pretrained(part)
    _declare_single(part / "config.json")
    _swap(part, folder)


def size_in_bytes(folder: Path) -> int:
    """Bytes of all the files below `folder`.

    Raises:
        WeightsError: There is no such folder.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder} is missing. Run: python -m matchkit.pipelines.train_tiny")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _half_copy(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_half(pipeline.vae),
        text_encoder=_half(pipeline.text_encoder),
        tokenizer=pipeline.tokenizer,
        unet=_half(pipeline.unet),
        scheduler=pipeline.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _half(module: Network) -> Network:
    """A copy in fp16, its numbers in the plain order that safetensors asks for."""
    copy = deepcopy(module).half()
    for parameter in copy.parameters():
        parameter.data = parameter.data.contiguous()
    return copy


def _fresh(folder: Path) -> Path:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    return part


def _swap(part: Path, folder: Path) -> None:
    """Puts `part` in the place of `folder`, readable by all: safetensors are written for their owner alone."""
    for path in part.rglob("*.safetensors"):
        path.chmod(0o644)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _declare_single(path: Path) -> None:
    config = json.loads(path.read_text())
    config["dtype"] = str(torch.float32).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
