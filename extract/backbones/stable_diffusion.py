"""A frozen Stable Diffusion pipeline as a source of maps: its parts, its schedule, and one call of its UNet.

What the backbones `sd-*` and `geoaware` have in common. Any folder in diffusers' format with a `scaled_linear`
schedule: SD 1.x and 2.x by their own configurations, predicting epsilon or v.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.seeding import generator
from matchkit.core.spec import LayerSpec
from matchkit.extract.backbones.diffusion import CLEAN, add_noise, cumulative_alphas
from matchkit.extract.backbones.kernels import Kernels, with_kernels
from matchkit.extract.backbones.precision import PRECISIONS, Precision
from matchkit.extract.backbones.prompts import States, TextEncoder
from matchkit.extract.backbones.taps import DecoderTaps, Hook, Tapped, chosen_layers, layer_specs
from matchkit.extract.backbones.weights import (
    checksum,
    file_checksum,
    locate,
    locate_file,
    noise_schedule,
    not_a_pipeline,
    quietly,
    random_copy,
)

PARTS = ("unet", "vae", "text_encoder")
DESCRIBING = (*PARTS, "tokenizer", "scheduler")
SMALLEST = 8
"""Pixels of which an input's side must be a multiple, for a VAE of three halvings."""
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
Latents = Float[torch.Tensor, "b zc zh zw"]
Further = Callable[[Latents, Float[torch.Tensor, " b"], States], Mapping[str, Any]]
"""Makes further arguments of the UNet, by their names, of the three of a call: latents, times and states."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What is loaded, and where the maps are read.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        init: `random` draws the UNet's weights anew (the control); VAE and text encoder stay as they are.
        layers: what is kept; none named keeps all ResNets of the decoder.
        hook: where at a ResNet the map is read (see `matchkit.extract.backbones.taps`).
        input_size: the square input's side in pixels; 0 takes the pipeline's own.
        precision: the number type of the arithmetic.
        seed: of random weights.
        unet: a safetensors file of other weights for the UNet, `owner/repository/file.safetensors` for one of the
            hub; "" keeps the pipeline's own.
        kernels: what computes the UNet's transformer blocks (see `matchkit.extract.backbones.kernels`).
    """

    weights: str
    init: Literal["trained", "random"]
    layers: tuple[str, ...]
    hook: Hook
    input_size: int
    precision: Precision
    seed: int
    unet: str = ""
    kernels: Kernels = "torch"


@dataclass(frozen=True, slots=True)
class Posterior:
    """What the VAE says of some images, in fp32: a mean and a deviation, and the factor that scales a latent."""

    mean: Latents
    deviation: Latents
    scale: float

    def expected(self) -> Latents:
        """The scaled means."""
        return self.mean * self.scale

    def drawn(self, ids: Sequence[str], *, seed: int, copy: int = 0) -> Latents:
        """Scaled samples, drawn from the seed, each image's id and the number of the copy."""
        what = ("posterior", copy) if copy else ("posterior",)
        draws = [torch.randn(self.mean.shape[1:], generator=generator(seed, name, *what)) for name in ids]
        return (self.mean + self.deviation * torch.stack(draws).to(self.mean)) * self.scale


@dataclass(frozen=True, slots=True)
class Told:
    """What a call of the UNet is told beside latents and time.

    Attributes:
        states: of the prompt, one for every latent or one for all.
        further: what a ControlNet or a picture adds; None for the prompt alone.
    """

    states: States
    further: Further | None = None


class StableDiffusion:
    """The parts of a pipeline, frozen, with hooks where the maps are read.

    Raises:
        ConfigError: an input size that the VAE cannot halve, a layer that the UNet does not have, or kernels that
            cannot run here.
        WeightsError: not a Stable Diffusion folder.

    Attributes:
        unet: the network that the maps come from.
        vae: to latents and back.
        layers: what is read, with channels and grids.
        input_size: the square input's side in pixels.
        latent_shape: (channels, height, width) of its latent.
        states_width: of the states that its cross-attentions take.
        alphas: the cumulative alphas of the schedule, one a train timestep, fp32.
        checksum: of the weights, or how they were drawn.
        device: where it computes.
    """

    def __init__(self, pipeline: Pipeline, *, device: torch.device) -> None:
        self.device = device
        self._folder = locate(pipeline.weights, embedded="stable-diffusion", marker="model_index.json", parts=PARTS)
        self._precision = PRECISIONS[pipeline.precision]
        schedule = noise_schedule(self._folder)
        self._prediction = schedule.prediction
        self.alphas = cumulative_alphas(beta_start=schedule.start, beta_end=schedule.end, steps=schedule.steps)
        self.checksum = checksum(self._folder, parts=DESCRIBING)
        self._load(pipeline)
        self.input_size, side = self._sides(pipeline.input_size)
        self.latent_shape = (int(self.unet.config.in_channels), side, side)
        self.states_width = int(self.unet.config.cross_attention_dim)
        names = chosen_layers(self.unet, pipeline.layers)
        self.layers: tuple[LayerSpec, ...] = layer_specs(self.unet, names, latent=(side, side))
        self._taps = DecoderTaps(self.unet, names, hook=pipeline.hook)

    def _load(self, pipeline: Pipeline) -> None:
        options = {"local_files_only": True, "torch_dtype": self._precision, "use_safetensors": True}
        try:
            with quietly():
                unet = UNet2DConditionModel.from_pretrained(self._folder, subfolder="unet", **options)
                vae = AutoencoderKL.from_pretrained(self._folder, subfolder="vae", **options)
        except UNREADABLE as error:
            raise not_a_pipeline(self._folder, error) from error
        if pipeline.unet:
            self._replace(unet, pipeline.unet)
        if pipeline.init == "random":
            unet = random_copy(unet, seed=pipeline.seed, dtype=self._precision)
            self.checksum += f", UNet drawn at random from seed {pipeline.seed}"
        unet = unet.to(self.device).eval().requires_grad_(requires_grad=False)
        if self._precision != torch.float32:  # in fp32 the published code's own order counts more than speed
            unet = unet.to(memory_format=torch.channels_last)
        self.unet = with_kernels(unet, pipeline.kernels)
        self.vae = vae.to(self.device).eval().requires_grad_(requires_grad=False)

    def _replace(self, unet: UNet2DConditionModel, weights: str) -> None:
        path = locate_file(weights)
        try:
            unet.load_state_dict(load_file(path), strict=True)
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{path} holds no weights of the UNet of {self._folder}: {reason}") from error
        self.checksum += f", UNet {file_checksum(path)}"

    def _sides(self, wanted: int) -> tuple[int, int]:
        reduction = 2 ** (len(self.vae.config.block_out_channels) - 1)
        side = wanted or int(self.unet.config.sample_size) * reduction
        if side < 1 or side % max(SMALLEST, reduction):
            raise ConfigError(f"input_size {side} is not a multiple of {max(SMALLEST, reduction)}")
        return side, side // reduction

    def keep_maps_alone(self) -> None:
        """Lets go of what no map of a latent depends on: the VAE, and the blocks behind the last layer."""
        del self.vae
        last = max(int(layer.name.removeprefix("up").partition(".")[0]) for layer in self.layers)
        for block in range(last + 1, len(self.unet.up_blocks)):
            self.unet.up_blocks[block] = nn.Identity()  # never called, but counted

    def text_encoder(self) -> TextEncoder:
        """The pipeline's text encoder, loaded for this."""
        return TextEncoder(self._folder, device=self.device, dtype=self._precision)

    def encode(self, images: Float[torch.Tensor, "b 3 h w"]) -> Posterior:
        """The VAE's posterior of images in [0, 1]."""
        distribution = self.vae.encode((images * 2 - 1).to(self.device, self._precision)).latent_dist
        return Posterior(distribution.mean.float(), distribution.std.float(), float(self.vae.config.scaling_factor))

    def latents(
        self,
        images: Float[torch.Tensor, "b 3 h w"],
        ids: Sequence[str],
        *,
        posterior: Literal["mean", "sample"],
        seed: int,
    ) -> Latents:
        """Scaled latents of images in [0, 1], in fp32, the type in which trajectories are integrated.

        A sampled posterior is drawn from the seed and each image's id.
        """
        encoded = self.encode(images)
        return encoded.expected() if posterior == "mean" else encoded.drawn(ids, seed=seed)

    def decode(self, latents: Latents) -> UInt8[torch.Tensor, "b h w 3"]:
        """The pictures of scaled latents, on the CPU, values 0..255."""
        scaled = latents / float(self.vae.config.scaling_factor)
        decoded: torch.Tensor = self.vae.decode(scaled.to(self._precision)).sample
        bounded = (decoded.float() / 2 + 0.5).clamp(0, 1)
        return (bounded * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous()

    def predict(
        self, latents: Latents, timestep: int, states: States, *, further: Further | None = None
    ) -> tuple[Latents, Tapped]:
        """The predicted noise (epsilon) in fp32, and the maps of the call.

        Args:
            latents: scaled, in fp32.
            timestep: as the network is told it; -1 is the clean latent's in an inversion.
            states: of the prompt, one for every latent or one for all.
            further: what the network is told beside them.
        """
        with self._taps.recording() as maps:
            output = self._call(latents, timestep, states, further=further)
        return self._epsilon(latents, output, timestep), maps

    def guided(
        self, latents: Latents, timestep: int, *, wanted: Told, unwanted: Told, guidance: float
    ) -> tuple[Latents, Tapped]:
        """The noise led away from that of what is unwanted (classifier-free guidance), and the maps of what is wanted.

        A guidance of 1 is what is wanted alone, in one call.
        """
        if guidance == 1:
            return self.predict(latents, timestep, wanted.states, further=wanted.further)
        without, _ = self.predict(latents, timestep, unwanted.states, further=unwanted.further)
        noise, maps = self.predict(latents, timestep, wanted.states, further=wanted.further)
        return without + guidance * (noise - without), maps

    def maps(self, latents: Latents, timestep: int, states: States) -> Tapped:
        """The maps of a call that ends when the last of them is there: what follows in the UNet is not computed."""
        with self._taps.recording() as maps, self._taps.stopping():
            self._call(latents, timestep, states)
        return maps

    def mean_maps(
        self,
        noised: Callable[[int], Latents],
        timestep: int,
        states: States,
        *,
        ensemble: int,
        at_once: int = 1,
    ) -> Tapped:
        """The maps in fp32, averaged over several copies of some latents, each noised in its own way.

        Args:
            noised: gives the b latents of the copy of that number.
            timestep: as the network is told it.
            states: of the prompt, one for each of the b latents or one for all.
            ensemble: how many copies.
            at_once: how many of them make a call of the network together.
        """
        sums: Tapped = {}
        for first in range(0, ensemble, at_once):
            copies = range(first, min(first + at_once, ensemble))
            latents = torch.cat([noised(copy) for copy in copies])
            told = states if len(states) == 1 else states.repeat(len(copies), 1, 1)
            for name, maps in self.maps(latents, timestep, told).items():
                total = maps.float().unflatten(0, (len(copies), -1)).sum(0)
                sums[name] = sums[name] + total if name in sums else total
        return {name: total / ensemble for name, total in sums.items()}

    def _call(self, latents: Latents, timestep: int, states: States, *, further: Further | None = None) -> Latents:
        # a float time: -1 is outside the training range and the embedding is a sinusoid of any number
        times = torch.full((len(latents),), float(timestep), device=self.device)
        expanded = states.to(self.device, self._precision).expand(len(latents), -1, -1)
        given = latents.to(self._precision)
        more = {} if further is None else further(given, times, expanded)
        output: torch.Tensor = self.unet(given, times, encoder_hidden_states=expanded, **more).sample
        return output

    def _epsilon(self, latents: Latents, output: Latents, timestep: int) -> Latents:
        """Source of the v-parameterisation: Salimans and Ho 2022 (arXiv 2202.00512), appendix D."""
        if self._prediction == "epsilon":
            return output.float()
        alpha = torch.ones(()) if timestep <= CLEAN else self.alphas[timestep]
        return alpha.sqrt() * output.float() + (1 - alpha).sqrt() * latents

    def noised(self, latents: Latents, noise: Float[torch.Tensor, "_ zc zh zw"], timestep: int) -> Latents:
        """Latents at a timestep of the forward process, with given noise, one for every latent or one for all."""
        return add_noise(latents, noise.to(latents), alpha=self.alphas[timestep].to(latents))
