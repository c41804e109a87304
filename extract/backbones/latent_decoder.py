"""The VAE of a pipeline alone: from scaled latents to pictures, and back."""

from typing import cast

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.precision import PRECISIONS, Precision
from matchkit.extract.backbones.stable_diffusion import UNREADABLE, Latents
from matchkit.extract.backbones.weights import checksum, locate, not_a_pipeline, quietly

PARTS = ("vae",)


class LatentDecoder:
    """A frozen VAE; the pipeline's other parts are not read.

    Args:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        device: on which it computes, and what it gives lies there.
        precision: the number type of the arithmetic.

    Raises:
        WeightsError: not a Stable Diffusion folder.

    Attributes:
        channels: of a latent.
        reduction: a cell's side in pixels.
        checksum: of its weights.
    """

    def __init__(self, weights: str = "tiny", *, device: torch.device, precision: Precision = "fp32") -> None:
        folder = locate(weights, embedded="stable-diffusion", marker="model_index.json", parts=PARTS)
        self._device, self._precision = device, PRECISIONS[precision]
        try:
            with quietly():
                vae = AutoencoderKL.from_pretrained(
                    folder, subfolder="vae", local_files_only=True, use_safetensors=True, torch_dtype=self._precision
                )
        except UNREADABLE as error:
            raise not_a_pipeline(folder, error) from error
        self._vae = vae.to(device).eval().requires_grad_(requires_grad=False)
        self._scale, self._shift = float(vae.config.scaling_factor), float(vae.config.shift_factor or 0)
        self._weights = weights
        self.channels: int = vae.config.latent_channels
        self.reduction = 2 ** (len(vae.config.block_out_channels) - 1)
        self.checksum = checksum(folder, parts=PARTS)

    @torch.no_grad()
    def decode(self, latents: Latents) -> Float[torch.Tensor, "b 3 h w"]:
        """The pictures, in [0, 1] and fp32, of scaled latents of any size.

        Raises:
            ConfigError: latents of another VAE.
        """
        if latents.shape[1] != self.channels:
            raise ConfigError(
                f"latents of {latents.shape[1]} channels are not those of the VAE of {self._weights}, which has "
                f"{self.channels}: extract sd-latents with the same weights"
            )
        plain = latents.to(self._device) / self._scale + self._shift
        decoded = self._vae.decode(plain.to(self._precision)).sample
        return cast("torch.Tensor", (decoded.float() / 2 + 0.5).clamp(0, 1))

    @torch.no_grad()
    def encode(self, images: Float[torch.Tensor, "b 3 h w"]) -> Latents:
        """The posterior's mean of images in [0, 1], as a scaled latent in fp32.

        Raises:
            ConfigError: images that are not a whole number of cells.
        """
        height, width = images.shape[2:]
        if height % self.reduction or width % self.reduction:
            raise ConfigError(
                f"images of {width} x {height} pixels are no whole number of cells of {self.reduction} pixels: resize "
                "them"
            )
        posterior = self._vae.encode((images * 2 - 1).to(self._device, self._precision)).latent_dist
        return cast("torch.Tensor", (posterior.mean.float() - self._shift) * self._scale)
