"""Stable Diffusion's decoder along a DDIM inversion: a map for each of its ResNets at each kept timestep.

Source: Diffusion Hyperfeatures (Luo et al., NeurIPS 2023), whose extractor this follows to the digit: the first call
sees the clean latent with time -1, there is no guidance, and the maps are read before the skip is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.geometry import Fit
from matchkit.core.seeding import generator
from matchkit.core.spec import FeatureSpec, Scalar, StoredType
from matchkit.extract.backbones.diffusion import CLEAN, cumulative_alphas, inversion_timesteps, invert
from matchkit.extract.backbones.precision import PRECISIONS, STORED, Precision
from matchkit.extract.backbones.taps import DecoderTaps, chosen_layers, layer_specs
from matchkit.extract.backbones.weights import checksum, epsilon_schedule, locate, quietly, random_copy

PARTS = ("unet", "vae", "text_encoder")
DESCRIBING = (*PARTS, "tokenizer", "scheduler")
Latents = Float[torch.Tensor, "b zc zh zw"]


@dataclass(frozen=True, slots=True)
class SDInversionParams:
    """Parameters of `sd-inversion`.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        init: `random` draws the UNet's weights anew (the control); VAE and text encoder stay as they are.
        steps: transitions of the inversion.
        keys: the calls whose maps are kept, as generation steps: `steps - 1` is the clean latent, 0 the noisiest. The
            run ends at the smallest key; none named keeps every call.
        layers: the ResNets that are kept; none named keeps all.
        hook: where in a ResNet the map is read: `residual` before the skip is added, `output` after.
        posterior: the VAE posterior's mean, or a sample seeded by the image's id.
        first_t: the time value of the first call, which sees the clean latent.
        prompt: text condition; there is no guidance.
        input_size: the square input's side in pixels; 0 takes the pipeline's own.
        fit: how an image is put into the input.
        dtype: the number type of the maps at rest.
        precision: the number type of the arithmetic.
        seed: of a sampled posterior and of random weights.
    """

    weights: str = "tiny"
    init: Literal["trained", "random"] = "trained"
    steps: int = 50
    keys: tuple[int, ...] = (49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0)
    layers: tuple[str, ...] = ()
    hook: Literal["residual", "output"] = "residual"
    posterior: Literal["mean", "sample"] = "mean"
    first_t: Literal[-1, 0] = -1
    prompt: str = ""
    input_size: int = 0
    fit: Fit = "stretch"
    dtype: StoredType = "fp16"
    precision: Precision = "fp32"
    seed: int = 0


class SDInversion:
    """The maps of `up0.0` ... `up3.2` at the timesteps of an inversion.

    Raises:
        ConfigError: keys outside the trajectory, or an input size that the network cannot halve.
        WeightsError: not a Stable Diffusion folder, or one that does not predict epsilon.
    """

    Params = SDInversionParams

    def __init__(self, params: SDInversionParams, *, device: torch.device) -> None:
        folder = locate(params.weights, embedded="stable-diffusion", marker="model_index.json", parts=PARTS)
        self._params = params
        self._device = device
        self._precision = PRECISIONS[params.precision]
        schedule = epsilon_schedule(folder)
        self._timesteps = inversion_timesteps(params.keys, steps=params.steps, train_steps=schedule.steps)
        self._alphas = cumulative_alphas(beta_start=schedule.start, beta_end=schedule.end, steps=schedule.steps)
        self._load(folder)
        self.spec = self._describe(checksum(folder, parts=DESCRIBING))
        self._layers = tuple(layer.name for layer in self.spec.layers)
        self._taps = DecoderTaps(self._unet, self._layers, hook=params.hook)

    def _load(self, folder: Path) -> None:
        options = {"local_files_only": True, "torch_dtype": self._precision}
        try:
            with quietly():
                unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", use_safetensors=True, **options)
                vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", use_safetensors=True, **options)
                self._states = self._text_states(folder)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise WeightsError(f"{folder} is not a Stable Diffusion pipeline: {reason}") from error
        if self._params.init == "random":
            unet = random_copy(unet, seed=self._params.seed, dtype=self._precision)
        self._unet = unet.to(self._device).eval().requires_grad_(requires_grad=False)
        self._vae = vae.to(self._device).eval().requires_grad_(requires_grad=False)

    @torch.inference_mode()
    def _text_states(self, folder: Path) -> Float[torch.Tensor, "1 n c"]:
        """The prompt's states, final layer norm applied; the text encoder is not needed again."""
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(
            folder, subfolder="text_encoder", use_safetensors=True, local_files_only=True, dtype=self._precision
        ).to(self._device)
        tokens = tokenizer(
            self._params.prompt,
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        states: torch.Tensor = encoder.eval()(tokens.input_ids.to(self._device)).last_hidden_state
        return states

    def _describe(self, weights: str) -> FeatureSpec:
        params = self._params
        reduction = 2 ** (len(self._vae.config.block_out_channels) - 1)
        side = params.input_size or int(self._unet.config.sample_size) * reduction
        multiple = reduction * 2 ** (len(self._unet.up_blocks) - 1)
        if side % multiple:
            raise ConfigError(f"sd-inversion: input_size {side} is not a multiple of {multiple}")
        latent = (side // reduction, side // reduction)
        layers = chosen_layers(self._unet, params.layers)
        options: dict[str, Scalar] = {
            "steps": params.steps,
            "hook": params.hook,
            "posterior": params.posterior,
            "first_t": params.first_t,
            "prompt": params.prompt,
            "precision": params.precision,
        }
        if params.posterior == "sample":
            options["seed"] = params.seed
        return FeatureSpec(
            backbone="sd-inversion",
            weights=weights if params.init == "trained" else f"{weights}, UNet drawn at random from seed {params.seed}",
            layers=layer_specs(self._unet, layers, latent=latent),
            timesteps=self._timesteps,
            input_size=(side, side),
            fit=params.fit,
            dtype=params.dtype,
            options=options,
        )

    @torch.inference_mode()
    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c gh gw"]]:
        """The maps of images in [0, 1], on the CPU in the stored type."""
        states = self._states.expand(len(images), -1, -1)
        stored = STORED[self.spec.dtype]
        by_timestep: dict[int, dict[str, torch.Tensor]] = {}
        with self._taps.recording() as maps:

            def predict_noise(latents: Latents, timestep: int) -> Latents:
                time = self._params.first_t if timestep == CLEAN else timestep
                # a float time: -1 is outside the training range and the embedding is a sinusoid of any number
                times = torch.full((len(latents),), float(time), device=self._device)
                noise: torch.Tensor = self._unet(
                    latents.to(self._precision), times, encoder_hidden_states=states
                ).sample
                if timestep in self._timesteps:
                    by_timestep[timestep] = {name: tensor.to("cpu", stored) for name, tensor in maps.items()}
                return noise.float()

            for _ in invert(
                self._encode(images, ids),
                predict_noise,
                alphas=self._alphas,
                steps=self._params.steps,
                last=max(self._timesteps),
            ):
                pass
        return {
            layer: torch.stack([by_timestep[timestep][layer] for timestep in self._timesteps], dim=1)
            for layer in self._layers
        }

    def _encode(self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]) -> Latents:
        """Scaled latents in fp32, the type in which the trajectory is integrated."""
        pixels = (images * 2 - 1).to(self._device, self._precision)
        posterior = self._vae.encode(pixels).latent_dist
        latents: torch.Tensor = posterior.mean.float()
        if self._params.posterior == "sample":
            draws = [
                torch.randn(latents.shape[1:], generator=generator(self._params.seed, name, "posterior"))
                for name in ids
            ]
            latents = latents + posterior.std.float() * torch.stack(draws).to(latents)
        return latents * float(self._vae.config.scaling_factor)
