"""The latents of Stable Diffusion's VAE as maps: what prompts are trained on, without encoding each image again.

A pipeline's VAE alone is read, and it runs once an image. SD4Match (Li et al., CVPR 2024, arXiv 2310.17569) draws from
the posterior in every step of training: from both layers, `latent + latent.std * noise` is such a draw. Its conditional
prompts read DINOv2 too, 16 x 16 cells of an input of its own: the layer `dino`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from safetensors import SafetensorError

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.spec import FeatureSpec, LayerSpec, Scalar, StoredType
from matchkit.extract.backbones.dinov2 import DINOv2, DINOv2Params
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import PRECISIONS, STORED, Precision
from matchkit.extract.backbones.weights import checksum, locate, not_a_pipeline, quietly

PARTS = ("vae",)
DINO = "dino"
DINO_CELLS = 16
"""Cells an edge of DINOv2's map: 224 pixels in patches of 14."""


@dataclass(frozen=True, slots=True)
class SDLatentsParams:
    """Parameters of `sd-latents`.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        std: whether the posterior's standard deviation is kept too, as the layer `latent.std`.
        dino_weights: of a DINOv2 whose normed patch tokens are kept too, as the layer `dino`: a transformers folder, a
            hub id, or `tiny` for the embedded default; "" for none.
        dino_crop: what DINOv2 sees: `centre` is the middle 224 pixels of the image whose shorter side is 256, resized
            bicubically (SD4Match; in proportion for a network of another patch), `whole` all of it, squashed
            bilinearly.
        input_size: the square input's side in pixels, a multiple of what the VAE makes one cell of (8 for Stable
            Diffusion); 0 takes the pipeline's own.
        fit: how an image is put into the input.
        resample: the filter by which it is resized.
        bars: the value in [0, 1] of a letterbox's bars.
        oriented: whether an EXIF orientation is applied.
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
    """

    weights: str = "tiny"
    std: bool = False
    dino_weights: str = ""
    dino_crop: Literal["centre", "whole"] = "centre"
    input_size: int = 0
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    bars: float = 0.5
    oriented: bool = False
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"


class SDLatents:
    """The posterior's mean as the layer `latent`, scaled as the UNet takes it; its deviation as `latent.std`.

    Where DINOv2 is wanted too, the second canvas is its.

    Raises:
        ConfigError: an input that is not a whole number of cells.
        WeightsError: not a Stable Diffusion folder, or not a Dinov2 folder.
    """

    Params = SDLatentsParams

    def __init__(self, params: SDLatentsParams, *, device: torch.device) -> None:
        folder = locate(params.weights, embedded="stable-diffusion", marker="model_index.json", parts=PARTS)
        self._device = device
        self._precision = PRECISIONS[params.precision]
        try:
            with quietly():
                vae = AutoencoderKL.from_pretrained(
                    folder, subfolder="vae", local_files_only=True, use_safetensors=True, torch_dtype=self._precision
                )
            side = params.input_size or _own_side(folder, vae)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise not_a_pipeline(folder, error) from error
        self._vae = vae.to(device).eval().requires_grad_(requires_grad=False)
        self._dino = _dino(params, device=device) if params.dino_weights else None
        self.spec = self._describe(params, side=side, weights=checksum(folder, parts=PARTS))
        self.canvases = self._canvases(params)

    def _describe(self, params: SDLatentsParams, *, side: int, weights: str) -> FeatureSpec:
        reduction = _reduction(self._vae)
        if side < 1 or side % reduction:
            raise ConfigError(f"sd-latents: input_size {side} is not a multiple of {reduction}")
        names = ("latent", "latent.std") if params.std else ("latent",)
        cells = side // reduction
        layers = [LayerSpec(name, self._vae.config.latent_channels, (cells, cells)) for name in names]
        options: dict[str, Scalar] = {
            "precision": params.precision,
            **departures(params, "resample", "bars", "oriented"),
        }
        if self._dino:
            weights = f"VAE {weights}; DINOv2 {self._dino.spec.weights}"
            tokens = self._dino.spec.layers[0]
            layers.append(LayerSpec(DINO, tokens.channels, tokens.grid))
            options["dino_crop"] = params.dino_crop
        return FeatureSpec(
            backbone="sd-latents",
            weights=weights,
            layers=tuple(layers),
            timesteps=(0,),
            input_size=(side, side),
            fit=params.fit,
            dtype=params.dtype,
            options=options,
        )

    def _canvases(self, params: SDLatentsParams) -> tuple[Canvas, ...]:
        first = Canvas(self.spec.input_size, params.fit, params.resample, params.bars, params.oriented)
        if self._dino is None:
            return (first,)
        size = self._dino.spec.input_size
        if params.dino_crop == "centre":
            return first, Canvas(size, "crop", "bicubic", oriented=params.oriented)
        return first, Canvas(size, "stretch", "bilinear", oriented=params.oriented)

    @torch.inference_mode()
    def __call__(
        self, images: Float[torch.Tensor, "b 3 _ _"], ids: Sequence[str], *others: Float[torch.Tensor, "b 3 _ _"]
    ) -> dict[str, Float[torch.Tensor, "b t _ _ _"]]:
        """The latents of images in [0, 1], on the device in the stored type.

        Args:
            images: on the VAE's canvas.
            ids: of the images.
            others: the same images on DINOv2's canvas, where there is one.
        """
        posterior = self._vae.encode((images * 2 - 1).to(self._device, self._precision)).latent_dist
        scale, shift = self._vae.config.scaling_factor, self._vae.config.shift_factor or 0.0
        maps = {"latent": (posterior.mean.float() - shift) * scale, "latent.std": posterior.std.float() * scale}
        stored = STORED[self.spec.dtype]
        latents = {layer.name: maps[layer.name][:, None].to(stored) for layer in self.spec.layers if layer.name in maps}
        if self._dino is None:
            return latents
        (small,) = others
        (tokens,) = self._dino(small, ids).values()
        return latents | {DINO: tokens}


def _dino(params: SDLatentsParams, *, device: torch.device) -> DINOv2:
    """The network whose normed tokens are kept, at an input of 16 x 16 patches."""

    def load(side: int) -> DINOv2:
        told = DINOv2Params(
            weights=params.dino_weights, norm=True, input_size=side, dtype=params.dtype, precision=params.precision
        )
        return DINOv2(told, device=device)

    own = load(0)
    cells = own.spec.layers[0].grid[0]
    return own if cells == DINO_CELLS else load(own.spec.input_size[0] // cells * DINO_CELLS)


def _reduction(vae: AutoencoderKL) -> int:
    """Input pixels a cell."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def _own_side(folder: Path, vae: AutoencoderKL) -> int:
    """The side in pixels of the input that the pipeline's UNet was made for."""
    config = json.loads((folder / "unet" / "config.json").read_text())
    return int(config["sample_size"]) * _reduction(vae)
