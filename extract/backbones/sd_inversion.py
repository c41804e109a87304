"""Stable Diffusion's decoder along a DDIM inversion: a map for each of its layers at each kept timestep.

Source: Diffusion Hyperfeatures (Luo et al., NeurIPS 2023), whose extractor this follows to the digit: the first call
sees the clean latent with time -1, there is no guidance, and the maps are read before the skip is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float

from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.spec import FeatureSpec, Scalar, StoredType
from matchkit.extract.backbones.diffusion import CLEAN, inversion_timesteps, invert
from matchkit.extract.backbones.kernels import Kernels
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import STORED, Precision
from matchkit.extract.backbones.prompts import Prompts
from matchkit.extract.backbones.stable_diffusion import Latents, Pipeline, StableDiffusion
from matchkit.extract.backbones.taps import Hook


@dataclass(frozen=True, slots=True)
class SDInversionParams:
    """Parameters of `sd-inversion`.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        init: `random` draws the UNet's weights anew (the control); VAE and text encoder stay as they are.
        steps: transitions of the inversion; 1 is one call on the clean latent.
        keys: the calls whose maps are kept, as generation steps: `steps - 1` is the clean latent, 0 the noisiest. The
            run ends at the smallest key; none named keeps every call.
        layers: what is kept; none named keeps all ResNets of the decoder.
        hook: where at a ResNet the map is read: `residual` before the skip is added, `output` after, `sublayer` after
            the attention that follows.
        posterior: the VAE posterior's mean, or a sample seeded by the image's id.
        first_t: the time value of the first call, which sees the clean latent.
        prompt: text condition, in which `{category}` stands for the first part of an image's id; there is no guidance.
        input_size: the square input's side in pixels, a multiple of 8; 0 takes the pipeline's own.
        fit: how an image is put into the input.
        resample: the filter by which it is resized.
        bars: the value in [0, 1] of a letterbox's bars.
        oriented: whether an EXIF orientation is applied first.
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
        kernels: what computes the UNet's transformer blocks: `torch`, `compiled`, or `xformers` on a GPU.
        seed: of a sampled posterior and of random weights.
    """

    weights: str = "tiny"
    init: Literal["trained", "random"] = "trained"
    steps: int = 50
    keys: tuple[int, ...] = (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
    layers: tuple[str, ...] = ()
    hook: Hook = "residual"
    posterior: Literal["mean", "sample"] = "mean"
    first_t: Literal[-1, 0] = -1
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


class SDInversion:
    """The maps of `up0.0` ... `up3.2` at the timesteps of an inversion.

    Raises:
        ConfigError: keys outside the trajectory, or an input size that the VAE cannot halve.
        WeightsError: not a Stable Diffusion folder.
    """

    Params = SDInversionParams

    def __init__(self, params: SDInversionParams, *, device: torch.device) -> None:
        pipeline = Pipeline(
            params.weights,
            params.init,
            params.layers,
            params.hook,
            params.input_size,
            params.precision,
            params.seed,
            kernels=params.kernels,
        )
        self._params = params
        self._network = StableDiffusion(pipeline, device=device)
        self._timesteps = inversion_timesteps(params.keys, steps=params.steps, train_steps=len(self._network.alphas))
        self._prompts = Prompts(self._network.text_encoder(), params.prompt)
        self.spec = self._describe()
        self.canvases = (Canvas(self.spec.input_size, params.fit, params.resample, params.bars, params.oriented),)

    def _describe(self) -> FeatureSpec:
        params = self._params
        options: dict[str, Scalar] = {
            "steps": params.steps,
            "hook": params.hook,
            "posterior": params.posterior,
            "first_t": params.first_t,
            "prompt": params.prompt,
            "precision": params.precision,
            **departures(params, "kernels", "resample", "bars", "oriented"),
        }
        if params.posterior == "sample":
            options["seed"] = params.seed
        return FeatureSpec(
            backbone="sd-inversion",
            weights=self._network.checksum,
            layers=self._network.layers,
            timesteps=self._timesteps,
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
        by_timestep: dict[int, dict[str, torch.Tensor]] = {}
        last = max(self._timesteps)
        states = self._prompts(ids)

        def predict_noise(latents: Latents, timestep: int) -> Latents:
            time = self._params.first_t if timestep == CLEAN else timestep
            if timestep == last:  # nobody wants its noise
                noise, maps = latents, self._network.maps(latents, time, states)
            else:
                noise, maps = self._network.predict(latents, time, states)
            if timestep in self._timesteps:
                stored = STORED[self.spec.dtype]
                by_timestep[timestep] = {name: tensor.to(stored) for name, tensor in maps.items()}
            return noise

        latents = self._network.latents(images, ids, posterior=self._params.posterior, seed=self._params.seed)
        for _ in invert(latents, predict_noise, alphas=self._network.alphas, steps=self._params.steps, last=last):
            pass
        return {
            layer.name: torch.stack([by_timestep[timestep][layer.name] for timestep in self._timesteps], dim=1)
            for layer in self.spec.layers
        }
