"""Stable Diffusion's decoder while it paints: pictures from prompts, and a map of each layer at each kept timestep.

Source: Diffusion Hyperfeatures (Luo et al., NeurIPS 2023), its synthetic images: classifier-free guidance as two calls,
without the prompt and then with it, of which the second's maps are kept. They come from the clean to the noisy end, as
those of an inversion with the same keys, so that what was trained on one takes the other as it is; a key's timestep
is 20 of 1000 above the inversion's (1 at the clean end).

This is no backbone: it takes no photographs. The published noise comes from the GPU's generator for a whole batch; here
it is drawn on the CPU from the seed and each picture's id, so that a picture does not depend on its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8

from matchkit.core.spec import FeatureSpec, StoredType
from matchkit.extract.backbones.diffusion import denoise, generation_timesteps, painting_noise
from matchkit.extract.backbones.kernels import Kernels
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import STORED, Precision
from matchkit.extract.backbones.prompts import Prompts
from matchkit.extract.backbones.stable_diffusion import Latents, Pipeline, StableDiffusion, Told
from matchkit.extract.backbones.taps import Hook, Tapped

PUBLISHED_SEED = 829304518
"""Of the published configuration for synthetic images."""


@dataclass(frozen=True, slots=True)
class SDGenerationParams:
    """Parameters of `sd-generation`.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        init: `random` draws the UNet's weights anew (the control); VAE and text encoder stay as they are.
        steps: calls of the UNet with the prompt.
        keys: the calls whose maps are kept, 0 the noisiest; none named keeps every call.
        layers: what is kept; none named keeps all ResNets of the decoder.
        hook: where at a ResNet the map is read (see `sd-inversion`).
        guidance: how far the noise is led away from that without the prompt; 1 is the prompt alone, in one call.
        negative_prompt: what stands in place of no prompt. The published configuration has a long one, not kept here.
        input_size: the square picture's side in pixels, a multiple of 8; 0 takes the pipeline's own.
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
        kernels: what computes the UNet's transformer blocks: `torch`, `compiled`, or `xformers` on a GPU.
        seed: of the noise that pictures are made of, together with their ids, and of random weights.
    """

    weights: str = "tiny"
    init: Literal["trained", "random"] = "trained"
    steps: int = 50
    keys: tuple[int, ...] = (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
    layers: tuple[str, ...] = ()
    hook: Hook = "residual"
    guidance: float = 7.5
    negative_prompt: str = ""
    input_size: int = 0
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"
    kernels: Kernels = "torch"
    seed: int = PUBLISHED_SEED


@dataclass(frozen=True, slots=True)
class Painted:
    """Pictures (b,h,w,3) with values 0..255, and their maps by layer (b,t,c,gh,gw) in the stored type, on the CPU."""

    pictures: UInt8[torch.Tensor, "b h w 3"]
    maps: dict[str, Float[torch.Tensor, "b t _ _ _"]]


class SDGeneration:
    """Prompts in, pictures and maps out.

    Raises:
        ConfigError: keys outside the trajectory, or an input size that the VAE cannot halve.
        WeightsError: not a Stable Diffusion folder.

    Attributes:
        spec: all that makes the features what they are, but for the prompts.
    """

    Params = SDGenerationParams

    def __init__(self, params: SDGenerationParams, *, device: torch.device) -> None:
        self._params = params
        pipeline = Pipeline(
            weights=params.weights,
            init=params.init,
            layers=params.layers,
            hook=params.hook,
            input_size=params.input_size,
            precision=params.precision,
            kernels=params.kernels,
            seed=params.seed,
        )
        self._network = StableDiffusion(pipeline, device=device)
        self._timesteps = generation_timesteps(params.keys, steps=params.steps, train_steps=len(self._network.alphas))
        self._encoder = self._network.text_encoder()
        self._negative = Prompts(self._encoder, params.negative_prompt)
        self.spec = self._describe()

    def _describe(self) -> FeatureSpec:
        params = self._params
        return FeatureSpec(
            backbone="sd-generation",
            weights=self._network.checksum,
            layers=self._network.layers,
            timesteps=self._timesteps,
            input_size=(self._network.input_size,) * 2,
            fit="stretch",
            dtype=params.dtype,
            options={
                "steps": params.steps,
                "hook": params.hook,
                "guidance": params.guidance,
                "negative_prompt": params.negative_prompt,
                "precision": params.precision,
                "seed": params.seed,
                **departures(params, "kernels"),
            },
        )

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str], ids: Sequence[str]) -> Painted:
        """Paints a picture for each prompt; its noise is drawn from the seed and its id."""
        wanted = Told(torch.cat([self._encoder(prompt) for prompt in prompts]))
        unwanted = Told(self._negative(ids))
        stored = STORED[self.spec.dtype]
        by_timestep: dict[int, Tapped] = {}

        def predict_noise(latents: Latents, timestep: int) -> Latents:
            noise, maps = self._network.guided(
                latents, timestep, wanted=wanted, unwanted=unwanted, guidance=self._params.guidance
            )
            if timestep in self._timesteps:
                by_timestep[timestep] = {name: tensor.to("cpu", stored) for name, tensor in maps.items()}
            return noise

        shape, seed = self._network.latent_shape, self._params.seed
        final = painting_noise(shape, ids, seed=seed).to(self._network.device)
        for _, latents in denoise(final, predict_noise, alphas=self._network.alphas, steps=self._params.steps):
            final = latents
        maps = {
            layer.name: torch.stack([by_timestep[timestep][layer.name] for timestep in self._timesteps], dim=1)
            for layer in self.spec.layers
        }
        return Painted(self._network.decode(final), maps)
