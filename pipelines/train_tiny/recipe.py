"""What the shipped weights were trained with, phase by phase, and how the pieces come together."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from torch import nn

from matchkit.extract.backbones.tiny.architecture import Pipeline, Unet, Vit, build_pipeline, build_vit
from matchkit.extract.backbones.tiny.folder import PIPELINE_FOLDER, VIT_FOLDER, save_pipeline, save_vit, size_in_bytes
from matchkit.pipelines.train_tiny.loop import Measure, Phase, load_averages, train
from matchkit.pipelines.train_tiny.probe import Probe, draw_probe, unet_table, vit_table
from matchkit.pipelines.train_tiny.renders import Renders, load_renders
from matchkit.pipelines.train_tiny.unet import tokenise, unet_phase
from matchkit.pipelines.train_tiny.vae import encode_all, measure_scale, psnr, vae_phase
from matchkit.pipelines.train_tiny.vit import vit_phase

PHASES = ("vae", "unet", "vit")
Summary = Mapping[str, object]
_log = logging.getLogger(__name__)


def _default_steps() -> Mapping[str, int]:
    return MappingProxyType({"vae": 2000, "unet": 3400, "vit": 1600})


@dataclass(frozen=True)
class Recipe:
    """The few numbers of the recipe that a maintainer may want to change; the rest are constants beside their use.

    Attributes:
        pairs: Objects rendered, two views each; the last one in twenty-five measures PSNR and trains no autoencoder.
        seed: Of the renders, the first weights and every batch.
        steps: Length of each phase.
    """

    pairs: int = 5000
    seed: int = 0
    steps: Mapping[str, int] = field(default_factory=_default_steps)


def run(recipe: Recipe, *, phases: Sequence[str], work: Path, out: Path, resume: bool) -> Summary:
    """Trains the phases in their order, writes the folders below `out` and says what came of it.

    Args:
        recipe: The numbers.
        phases: Some of `PHASES`; the U-Net needs a trained autoencoder's checkpoint.
        work: Renders, checkpoints and logs; a folder a seed.
        out: Where `stable-diffusion/` and `dinov2/` go.
        resume: Whether to take up checkpoints.

    Raises:
        WeightsError: A checkpoint is missing or was trained from another seed.
    """
    renders = load_renders(work / "renders", pairs=recipe.pairs, seed=recipe.seed)
    folder = work / f"seed{recipe.seed}"
    probe = draw_probe()
    pipeline, vit = build_pipeline(recipe.seed), build_vit(recipe.seed)
    summary: dict[str, object] = {}
    if "vae" in phases:
        summary["vae"] = _run_vae(recipe, renders, pipeline=pipeline, folder=folder, resume=resume)
    if "unet" in phases:
        summary["unet"] = _run_unet(recipe, renders, pipeline=pipeline, folder=folder, resume=resume, probe=probe)
        save_pipeline(pipeline, out / PIPELINE_FOLDER)
    if "vit" in phases:
        summary["vit"] = _run_vit(recipe, renders, vit=vit, folder=folder, resume=resume, probe=probe)
        save_vit(vit, out / VIT_FOLDER)
    summary["bytes"] = size_in_bytes(out) if out.is_dir() else 0
    return summary


def _run_vae(recipe: Recipe, renders: Renders, *, pipeline: Pipeline, folder: Path, resume: bool) -> Summary:
    trained = len(renders.images) - max(1, len(renders.images) // 25)
    phase = vae_phase(pipeline.vae, renders.images[:trained])
    train(phase, steps=recipe.steps["vae"], seed=recipe.seed, folder=folder, resume=resume)
    (folder / "latents.npy").unlink(missing_ok=True)
    load_averages({"vae": pipeline.vae}, folder / "vae.pt")
    return {"psnr": round(psnr(pipeline.vae, renders.images[trained:]), 2)}


def load_vae(pipeline: Pipeline, renders: Renders, *, folder: Path) -> torch.Tensor:
    """Puts the trained autoencoder into the pipeline, scales it, and returns all latents (n, 2, 4, 16, 16)."""
    load_averages({"vae": pipeline.vae}, folder / "vae.pt")
    latents = encode_all(pipeline.vae, renders.images, path=folder / "latents.npy")
    pipeline.vae.register_to_config(scaling_factor=round(measure_scale(latents), 5))
    return latents


def _run_unet(
    recipe: Recipe, renders: Renders, *, pipeline: Pipeline, folder: Path, resume: bool, probe: Probe
) -> Summary:
    latents = load_vae(pipeline, renders, folder=folder)
    empty = tokenise(pipeline.tokenizer, [""])

    def measure(modules: Mapping[str, nn.Module]) -> dict[str, float]:
        with torch.no_grad():
            context = modules["text_encoder"](empty).last_hidden_state
        unet = cast("Unet", modules["unet"])
        return unet_table(probe, unet, vae=pipeline.vae, scheduler=pipeline.scheduler, context=context)

    phase = unet_phase(
        pipeline.unet,
        pipeline.text_encoder,
        latents=latents,
        tokens=tokenise(pipeline.tokenizer, renders.captions),
        empty=empty[0],
        scheduler=pipeline.scheduler,
        scale=pipeline.vae.config.scaling_factor,
    )
    return _trained(recipe, phase, folder=folder, resume=resume, measure=measure)


def _run_vit(recipe: Recipe, renders: Renders, *, vit: Vit, folder: Path, resume: bool, probe: Probe) -> Summary:
    def measure(modules: Mapping[str, nn.Module]) -> dict[str, float]:
        return vit_table(probe, cast("Vit", modules["vit"]))

    return _trained(recipe, vit_phase(vit, renders), folder=folder, resume=resume, measure=measure)


def _trained(recipe: Recipe, phase: Phase, *, folder: Path, resume: bool, measure: Measure) -> Summary:
    """Trains a phase, leaves the averaged weights in its modules, and probes it before and after."""
    summary = {"random": measure(phase.modules)}
    _log.info("%s, random weights: %s", phase.name, summary["random"])
    train(phase, steps=recipe.steps[phase.name], seed=recipe.seed, folder=folder, resume=resume, measure=measure)
    load_averages(phase.modules, folder / f"{phase.name}.pt")
    return summary | {"trained": measure(phase.modules)}
