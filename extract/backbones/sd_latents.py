"""The latents of Stable Diffusion's VAE as maps: what prompts are trained on, without encoding each image again.

A pipeline's VAE alone is read, and it runs once an image. SD4Match (Li et al., CVPR 2024, arXiv 2310.17569) draws from
the posterior in every step of training: from both layers, `latent + latent.std * noise` is such a draw.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from safetensors import SafetensorError

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import PRECISIONS, STORED, Precision
from matchkit.extract.backbones.weights import checksum, locate, not_a_pipeline, quietly

PARTS = ("vae",)


@dataclass(frozen=True, slots=True)
class SDLatentsParams:
    """Parameters of `sd-latents`.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        std: whether the posterior's standard deviation is kept too, as the layer `latent.std`.
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
    input_size: int = 0
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    bars: float = 0.5
    oriented: bool = False
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"


class SDLatents:
    """The posterior's mean as the layer `latent`, scaled as the UNet takes it; its deviation as `latent.std`.

    Raises:
        ConfigError: an input that is not a whole number of cells.
        WeightsError: not a Stable Diffusion folder.
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
        self.spec = self._describe(params, side=side, weights=checksum(folder, parts=PARTS))
        self.canvases = (Canvas(self.spec.input_size, params.fit, params.resample, params.bars, params.oriented),)

    def _describe(self, params: SDLatentsParams, *, side: int, weights: str) -> FeatureSpec:
        reduction = _reduction(self._vae)
        if side < 1 or side % reduction:
            raise ConfigError(f"sd-latents: input_size {side} is not a multiple of {reduction}")
        names = ("latent", "latent.std") if params.std else ("latent",)
        cells = side // reduction
        return FeatureSpec(
            backbone="sd-latents",
            weights=weights,
            layers=tuple(LayerSpec(name, self._vae.config.latent_channels, (cells, cells)) for name in names),
            timesteps=(0,),
            input_size=(side, side),
            fit=params.fit,
            dtype=params.dtype,
            options={"precision": params.precision, **departures(params, "resample", "bars", "oriented")},
        )

    @torch.inference_mode()
    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c gh gw"]]:
        """The latents of images in [0, 1], on the device in the stored type."""
        posterior = self._vae.encode((images * 2 - 1).to(self._device, self._precision)).latent_dist
        scale, shift = self._vae.config.scaling_factor, self._vae.config.shift_factor or 0.0
        latents = {"latent": (posterior.mean.float() - shift) * scale, "latent.std": posterior.std.float() * scale}
        return {layer.name: latents[layer.name][:, None].to(STORED[self.spec.dtype]) for layer in self.spec.layers}


def _reduction(vae: AutoencoderKL) -> int:
    """Input pixels a cell."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def _own_side(folder: Path, vae: AutoencoderKL) -> int:
    """The side in pixels of the input that the pipeline's UNet was made for."""
    config = json.loads((folder / "unet" / "config.json").read_text())
    return int(config["sample_size"]) * _reduction(vae)
