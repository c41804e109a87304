"""Phase 1: the autoencoder, and the latents that the U-Net is trained on."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from matchkit.extract.backbones.tiny.architecture import INPUT_SIZE, Vae
from matchkit.pipelines.train_tiny.loop import Phase

CROP = 64
"""Edge of the training crops in pixels: four times as many pictures a second as whole ones."""

KL_WEIGHT = 1e-4
"""Per latent number, against the squared error per colour value in [-1, 1]: it keeps the latents from drifting."""


def to_signed(pixels: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Pixels of 0 to 255, channels last, to values in [-1, 1], channels first."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def vae_phase(vae: Vae, images: UInt8[np.ndarray, "n h w 3"], *, batch: int = 16) -> Phase:
    """The autoencoder on random crops: squared and absolute error, and a small KL term.

    A quarter of the steps sees a quarter as many whole pictures, so that normalisation and attention meet the size they
    serve.
    """

    def loss(generator: torch.Generator) -> Mapping[str, Tensor]:
        whole = torch.rand((), generator=generator).item() < 0.25
        size, count = (INPUT_SIZE, max(1, batch // 4)) if whole else (CROP, batch)
        pixels = to_signed(_crops(images, size=size, count=count, generator=generator))
        posterior = vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        error = vae.decode(posterior.mean + posterior.std * noise).sample - pixels
        spread = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        squared = error.square().mean()
        return {"total": squared + 0.1 * error.abs().mean() + KL_WEIGHT * spread, "squared": squared, "kl": spread}

    return Phase(name="vae", modules={"vae": vae}, loss=loss, batch=batch, learning_rate=2e-3, average=0.995)


def _crops(
    images: UInt8[np.ndarray, "n h w 3"], *, size: int, count: int, generator: torch.Generator
) -> UInt8[np.ndarray, "b c c 3"]:
    def draw(limit: int) -> list[int]:
        return [int(value) for value in torch.randint(limit, (count,), generator=generator)]

    room = images.shape[1] - size + 1
    places = zip(draw(len(images)), draw(room), draw(room), strict=True)
    return np.stack([images[i, y : y + size, x : x + size] for i, y, x in places])


@torch.no_grad()
def psnr(vae: Vae, images: UInt8[np.ndarray, "n h w 3"]) -> float:
    """Peak signal-to-noise ratio in decibels of decoding the posterior means, over all pixels of all images."""
    errors = []
    for start in range(0, len(images), 16):
        pixels = to_signed(images[start : start + 16])
        decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
        errors.append((decoded - pixels).square().mean(dim=(1, 2, 3)))
    return -10 * math.log10(float(torch.cat(errors).mean()) / 4)


@torch.no_grad()
def encode_all(vae: Vae, images: UInt8[np.ndarray, "n h w 3"], *, path: Path) -> Float[Tensor, "n two c gh gw"]:
    """Mean and standard deviation of every picture's posterior, unscaled; kept at `path` for the next time."""
    if path.exists():
        return torch.from_numpy(np.load(path))
    rows = []
    for start in tqdm(range(0, len(images), 32), desc="encode", unit="batch", disable=None):
        posterior = vae.encode(to_signed(images[start : start + 32])).latent_dist
        rows.append(torch.stack([posterior.mean, posterior.std], 1))
    latents = torch.cat(rows)
    np.save(path, latents.numpy())
    return latents


def measure_scale(latents: Float[Tensor, "n two c gh gw"]) -> float:
    """The factor that gives sampled latents unit standard deviation (`scaling_factor`, as in Stable Diffusion)."""
    variance = latents[:, 0].var() + latents[:, 1].square().mean()
    return float(variance.rsqrt())
