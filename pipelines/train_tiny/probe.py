"""What a backbone is worth while it trains: zero-shot PCK on held-out toy renders.

A thermometer, not a benchmark: some hundred pairs of objects that no phase is trained on, nearest neighbour of the
descriptor at each source keypoint, PCK@0.1 of the target's box, a mean over keypoints. Numbers to report come from
`matchkit evaluate`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from matchkit.core.seeding import derive_seed, generator
from matchkit.extract.backbones.tiny.architecture import INPUT_SIZE, Scheduler, Unet, Vae, Vit
from matchkit.extract.datasets.toy import CATEGORIES, Rendering, render, sample_instance, sample_view
from matchkit.pipelines.train_tiny.renders import PROBE_SEEDS
from matchkit.pipelines.train_tiny.vae import to_signed
from matchkit.pipelines.train_tiny.vit import normalise

TIMESTEPS = (51, 101, 201)
LAYERS = tuple(range(7, 13))
_CELLS = 32
"""Cells an axis that maps are brought to before the search, by bilinear interpolation."""
_ALPHA = 0.1
_FEWEST = 3
"""Common visible keypoints that a pair must have."""


@dataclass(frozen=True)
class Probe:
    """Held-out pictures, and the pairs among them as (source row, target row)."""

    views: tuple[Rendering, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All pictures, rows as in `views`."""
        return np.stack([view.image for view in self.views])


def draw_probe(*, each: int = 30, pairs: int = 600, seed: int = 0) -> Probe:
    """Renders `each` objects a category, one view each, and draws pairs within categories that share keypoints."""
    views = []
    for category in CATEGORIES:
        for index in range(each):
            base = PROBE_SEEDS + derive_seed(seed, category, index) % 500_000_000
            view = sample_view(seed=base, category=category)
            views.append(render(sample_instance(category, seed=base), view, size=INPUT_SIZE))
    rng = np.random.default_rng(seed)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < pairs:
        block = int(rng.integers(len(CATEGORIES))) * each
        source, target = (block + int(k) for k in rng.choice(each, 2, replace=False))
        if (views[source].visible & views[target].visible).sum() >= _FEWEST:
            chosen.append((source, target))
    return Probe(tuple(views), tuple(chosen))


@torch.no_grad()
def pck(probe: Probe, maps: Float[Tensor, "n c gh gw"]) -> float:
    """Share of keypoints, in per cent, whose nearest neighbour lies within 0.1 of the target box's longer edge."""
    fine = functional.normalize(functional.interpolate(maps.float(), size=(_CELLS, _CELLS), mode="bilinear"), dim=1)
    stride = INPUT_SIZE / _CELLS
    hits = []
    for source, target in probe.pairs:
        first, second = probe.views[source], probe.views[target]
        common = first.visible & second.visible
        points = torch.from_numpy((first.keypoints[common] + 0.5) / INPUT_SIZE * 2 - 1)
        wanted = functional.grid_sample(fine[source][None], points[None, None], align_corners=False)[0, :, 0]
        best = (wanted.T @ fine[target].flatten(1)).argmax(-1)
        found = (torch.stack([best % _CELLS, best // _CELLS], -1) + 0.5) * stride - 0.5
        left, top, right, bottom = second.box
        error = np.linalg.norm(found.numpy() - second.keypoints[common], axis=-1)
        hits.append(error <= _ALPHA * max(right - left + 1, bottom - top + 1))
    return 100 * float(np.concatenate(hits).mean())


@torch.no_grad()
def unet_table(
    probe: Probe, unet: Unet, *, vae: Vae, scheduler: Scheduler, context: Float[Tensor, "1 l d"]
) -> dict[str, float]:
    """PCK of single decoder maps, keyed `t51.layer9`: one draw of noise, the empty prompt's `context`, no inversion."""
    images = to_signed(probe.images)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(32)]) * vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=generator(0, "probe"))
    table = {}
    for timestep in TIMESTEPS:
        noisy = scheduler.add_noise(latents, noise, torch.full((len(latents),), timestep))
        for layer, maps in _decoder_maps(unet, noisy, timestep=timestep, context=context).items():
            table[f"t{timestep}.layer{layer}"] = round(pck(probe, maps), 1)
    return table


def _decoder_maps(
    unet: Unet, noisy: Float[Tensor, "n c gh gw"], *, timestep: int, context: Float[Tensor, "1 l d"]
) -> Mapping[int, Tensor]:
    kept: dict[int, list[Tensor]] = {layer: [] for layer in LAYERS}

    def keep(layer: int) -> Callable[..., None]:
        return lambda module, arguments, output: kept[layer].append(output)

    resnets = [resnet for block in unet.up_blocks for resnet in block.resnets]
    handles = [resnets[layer - 1].register_forward_hook(keep(layer)) for layer in LAYERS]
    for part in noisy.split(32):
        unet(part, timestep, context.expand(len(part), -1, -1))
    for handle in handles:
        handle.remove()
    return {layer: torch.cat(parts) for layer, parts in kept.items()}


@torch.no_grad()
def vit_table(probe: Probe, vit: Vit) -> dict[str, float]:
    """PCK of the patch tokens after each block, keyed `layer1` to `layer6`, and of the normalised last ones, `last`."""
    pixels = normalise(torch.from_numpy(probe.images).permute(0, 3, 1, 2).float() / 255)
    outputs = [vit(part, output_hidden_states=True) for part in pixels.split(32)]
    layers = {
        f"layer{k}": [output.hidden_states[k] for output in outputs] for k in range(1, len(outputs[0].hidden_states))
    }
    layers["last"] = [output.last_hidden_state for output in outputs]
    table = {}
    for name, parts in layers.items():
        tokens = torch.cat(parts)[:, 1:]
        edge = round(tokens.shape[1] ** 0.5)
        table[name] = round(pck(probe, tokens.transpose(1, 2).unflatten(-1, (edge, edge))), 1)
    return table
