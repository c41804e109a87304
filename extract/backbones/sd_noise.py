"""Stable Diffusion's decoder at noised latents, one call a timestep: DIFT, SD4Match, and networks without noise.

Sources: DIFT (Tang et al., NeurIPS 2023, arXiv 2306.03881), SD4Match (Li et al., CVPR 2024, arXiv 2310.17569). Both run
without guidance, and average the maps of `ensemble` draws of the noise; the published code draws from a generator
that no image owns, so its numbers depend on the order of the images, and these do not.

CleanDIFT (Stracke et al., CVPR 2025, arXiv 2412.03439) is a UNet fine-tuned to give such maps of a clean latent:
`noise: none`. Known from its public code: the network is told one constant time, 261 unless a training changed it,
and its `us6` is what `up1.out` is here. Not known: whether the published weights come with another time, and
whether its latents are means or samples of the VAE. Nothing of it was compared here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.spec import FeatureSpec, Scalar, StoredType
from matchkit.extract.backbones.diffusion import CLEAN, image_noise, plain_noise
from matchkit.extract.backbones.kernels import Kernels
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import STORED, Precision
from matchkit.extract.backbones.prompts import LearnedPrompts, Prompts, States
from matchkit.extract.backbones.stable_diffusion import Latents, Pipeline, Posterior, StableDiffusion
from matchkit.extract.backbones.taps import Hook, Tapped


@dataclass(frozen=True, slots=True)
class SDNoiseParams:
    """Parameters of `sd-noise`.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        unet: a safetensors file of other weights for the UNet, `owner/repository/file.safetensors` for one of the
            hub; "" keeps the pipeline's own.
        init: `random` draws the UNet's weights anew (the control); VAE and text encoder stay as they are.
        timesteps: to which latents are noised, 0..999, in the order of the stored axis; [-1] for `noise: none`.
        noise: `image` from the seed, image id, timestep and copy; `shared` one tensor for all of them, from a CPU
            generator with the plain seed; `none` leaves the latent clean.
        time: what the network is told in place of the timestep.
        ensemble: copies of an image with a draw each, whose maps are averaged in fp32.
        copies_at_once: how many of them make a call of the network together; a matter of memory alone.
        posterior: the VAE posterior's mean, or a `sample` an image (SD4Match), or one a copy (`copies`, DIFT).
        layers: what is kept; none named keeps all ResNets of the decoder.
        hook: where at a ResNet the map is read: `residual` before the skip is added, `output` after, `sublayer` after
            the attention that follows; nothing to a block's output, `up1.out`.
        prompt: text condition, in which `{category}` stands for the first part of an image's id; there is no guidance.
        input_size: the square input's side in pixels, a multiple of 8; 0 takes the pipeline's own.
        fit: how an image is put into the input.
        resample: the filter by which it is resized.
        bars: the value in [0, 1] of a letterbox's bars.
        oriented: whether an EXIF orientation is applied first.
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
        kernels: what computes the UNet's transformer blocks: `torch`, `compiled`, or `xformers` on a GPU.
        seed: of the noise, of a sampled posterior and of random weights.
    """

    weights: str = "tiny"
    unet: str = ""
    init: Literal["trained", "random"] = "trained"
    timesteps: tuple[int, ...] = (261,)
    noise: Literal["image", "shared", "none"] = "image"
    time: int | None = None
    ensemble: int = 1
    copies_at_once: int = 1
    posterior: Literal["mean", "sample", "copies"] = "mean"
    layers: tuple[str, ...] = ("up1.out",)
    hook: Hook = "output"
    prompt: str = ""
    input_size: int = 0
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    bars: float = 0.5
    oriented: bool = False
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"
    kernels: Kernels = "torch"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.timesteps or self.ensemble < 1 or self.copies_at_once < 1:
            raise ConfigError("sd-noise: timesteps, ensemble and copies_at_once must each be at least one")
        if self.noise == "none" and self.timesteps != (CLEAN,):
            raise ConfigError(
                f"sd-noise: noise none leaves the latent clean: timesteps must be [{CLEAN}]; set time too"
            )
        if self.ensemble > 1 and self.noise != "image" and self.posterior != "copies":
            raise ConfigError(f"sd-noise: all {self.ensemble} copies are equal with noise {self.noise}: set ensemble=1")


class SDNoise:
    """The maps of chosen decoder layers, each timestep from its own noised latent; the UNet runs no further than them.

    Args:
        params: of the backbone.
        device: on which it computes.
        prompts: learned, in place of the one in words.

    Raises:
        ConfigError: a timestep outside the schedule, or parameters that contradict each other.
        WeightsError: not a Stable Diffusion folder, or learned prompts that do not fit its UNet.
    """

    Params = SDNoiseParams

    def __init__(self, params: SDNoiseParams, *, device: torch.device, prompts: LearnedPrompts | None = None) -> None:
        self._params = params
        self._network = StableDiffusion(
            Pipeline(
                weights=params.weights,
                init=params.init,
                layers=params.layers,
                hook=params.hook,
                input_size=params.input_size,
                precision=params.precision,
                kernels=params.kernels,
                seed=params.seed,
                unet=params.unet,
            ),
            device=device,
        )
        last = len(self._network.alphas) - 1
        for timestep in params.timesteps:
            if params.noise != "none" and not 0 <= timestep <= last:
                raise ConfigError(f"sd-noise: timesteps must lie in 0..{last}, not {timestep}")
        self._prompts = self._take(prompts)
        self.spec = self._describe()
        self.canvases = (Canvas(self.spec.input_size, params.fit, params.resample, params.bars, params.oriented),)

    def _take(self, learned: LearnedPrompts | None) -> Prompts | LearnedPrompts:
        if learned is None:
            return Prompts(self._network.text_encoder(), self._params.prompt)
        return learned.fitting(width=self._network.states_width, where=f"the UNet of {self._params.weights}")

    def _describe(self) -> FeatureSpec:
        params = self._params
        options: dict[str, Scalar] = {
            "noise": params.noise,
            "ensemble": params.ensemble,
            "posterior": params.posterior,
            "hook": params.hook,
            "prompt": self._prompts.name,
            "precision": params.precision,
            **departures(params, "kernels", "time", "resample", "bars", "oriented"),
        }
        if params.noise != "none" or params.posterior != "mean":
            options["seed"] = params.seed
        return FeatureSpec(
            backbone="sd-noise",
            weights=self._network.checksum,
            layers=self._network.layers,
            timesteps=params.timesteps,
            input_size=(self._network.input_size,) * 2,
            fit=params.fit,
            dtype=params.dtype,
            options=options,
        )

    @torch.inference_mode()
    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c gh gw"]]:
        """The maps of images in [0, 1], on the device in the stored type."""
        states = self._prompts(ids)
        posterior = self._network.encode(images)
        steps = [self._mean(posterior, ids, timestep, states) for timestep in self._params.timesteps]
        return {layer.name: torch.stack([maps[layer.name] for maps in steps], dim=1) for layer in self.spec.layers}

    def _mean(self, posterior: Posterior, ids: Sequence[str], timestep: int, states: States) -> Tapped:
        params = self._params
        maps = self._network.mean_maps(
            lambda copy: self._noised(posterior, ids, timestep, copy),
            timestep if params.time is None else params.time,
            states,
            ensemble=params.ensemble,
            at_once=params.copies_at_once,
        )
        return {name: mean.to(STORED[self.spec.dtype]) for name, mean in maps.items()}

    def _noised(self, posterior: Posterior, ids: Sequence[str], timestep: int, copy: int) -> Latents:
        params = self._params
        if params.posterior == "mean":
            latents = posterior.expected()
        else:
            latents = posterior.drawn(ids, seed=params.seed, copy=copy if params.posterior == "copies" else 0)
        shape = latents.shape[1:]
        if params.noise == "none":
            return latents
        if params.noise == "shared":
            noise = plain_noise(shape, seed=params.seed)
        else:
            noise = image_noise(shape, ids, seed=params.seed, timestep=timestep, copy=copy)
        return self._network.noised(latents, noise, timestep)
