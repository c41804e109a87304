"""Stable Diffusion as what a prompt is tuned on: from latents to maps, differentiable in the prompt alone.

Source: SD4Match (Li et al., CVPR 2024, arXiv 2310.17569). The published code runs the VAE in every step and all of the
UNet. Here latents come from a store, and the UNet ends at the last layer that is wanted; before its first
cross-attention nothing depends on the prompt, so no activation is kept there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.spec import FeatureSpec, Scalar
from matchkit.extract.backbones.checkpointing import checkpointed
from matchkit.extract.backbones.diffusion import image_noise
from matchkit.extract.backbones.precision import Precision
from matchkit.extract.backbones.prompts import States
from matchkit.extract.backbones.stable_diffusion import Latents, Pipeline, StableDiffusion
from matchkit.extract.backbones.taps import Hook, Tapped

ENDS = 2
"""Tokens that no prompt replaces: the first one, and the one that ends it."""


@dataclass(frozen=True, slots=True)
class PromptableParams:
    """Parameters of a network that is prompted; those that `sd-noise` has too mean the same.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        unet: a safetensors file of other weights for the UNet; "" keeps the pipeline's own.
        init: `random` draws the UNet's weights anew (the control).
        layers: what is given; none named gives all ResNets of the decoder.
        hook: where at a ResNet the map is read: `residual`, `output` or `sublayer`.
        input_size: side in pixels of the square input that the latents are of; 0 takes the pipeline's own.
        precision: the number type of the weights; in fp32 they follow torch's autocast.
        checkpointing: whether activations are computed again when backward, which spares memory and costs time.
        copies_at_once: draws of an ensemble that make a call of the network together; a matter of memory alone.
        seed: of the noise and of random weights.
    """

    weights: str = "tiny"
    unet: str = ""
    init: Literal["trained", "random"] = "trained"
    layers: tuple[str, ...] = ("up1.out",)
    hook: Hook = "output"
    input_size: int = 0
    precision: Precision = "fp32"
    checkpointing: bool = False
    copies_at_once: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.copies_at_once < 1:
            raise ConfigError(f"copies_at_once must be at least 1, not {self.copies_at_once}")


class PromptableDiffusion:
    """A pipeline's UNet up to the last wanted layer, and its text encoder; all weights are frozen.

    Several threads may call it at the same time.

    Raises:
        ConfigError: a layer that the UNet does not have, or an input size that the VAE cannot halve.
        WeightsError: not a Stable Diffusion folder.

    Attributes:
        spec: the layers that are given, of latents of `input_size`; their timestep is told in each call.
        token_width: of the text encoder's input embeddings.
        most_tokens: that can be learned, between the first token and the last one.
        states_shape: (l, c) of a prompt's states.
    """

    Params = PromptableParams

    def __init__(self, params: PromptableParams, *, device: torch.device) -> None:
        self._params = params
        self._network = StableDiffusion(
            Pipeline(
                weights=params.weights,
                init=params.init,
                layers=params.layers,
                hook=params.hook,
                input_size=params.input_size,
                precision=params.precision,
                seed=params.seed,
                unet=params.unet,
            ),
            device=device,
        )
        self._encoder = self._network.text_encoder()
        self._network.keep_maps_alone()
        if params.checkpointing:
            checkpointed(self._network.unet)
        self.spec = self._describe()
        self.token_width = self._encoder.width
        self.most_tokens = self._encoder.length - ENDS
        self.states_shape = (self._encoder.length, self._network.states_width)

    def _describe(self) -> FeatureSpec:
        params = self._params
        options: dict[str, Scalar] = {"hook": params.hook, "precision": params.precision, "seed": params.seed}
        return FeatureSpec(
            backbone="sd-noise",
            weights=self._network.checksum,
            layers=self._network.layers,
            timesteps=(-1,),
            input_size=(self._network.input_size,) * 2,
            fit="stretch",
            dtype="fp32",
            options=options,
        )

    def drawn_tokens(self, count: int, draw: torch.Generator) -> Float[torch.Tensor, "n d"]:
        """Input embeddings of random words, with those of their positions, from the second position on.

        Raises:
            ConfigError: there is no room for as many.
        """
        self._require(count)
        return self._encoder.drawn(count, draw).float()

    def told_tokens(self, prompt: str, count: int) -> Float[torch.Tensor, "n d"]:
        """Input embeddings of a prompt in words, filled up as the text encoder does, from the second position on.

        Raises:
            ConfigError: there is no room for as many.
        """
        self._require(count)
        return self._encoder.embedded(self._encoder.tokens(prompt))[0, 1 : 1 + count].float()

    def states_of_tokens(self, tokens: Float[torch.Tensor, "b n d"]) -> Float[torch.Tensor, "b l c"]:
        """The states, in fp32, of input embeddings that stand between the first and the last token.

        They replace the embeddings of tokens and of positions together: no position is added.

        Raises:
            ConfigError: there is no room for as many.
            WeightsError: they are not as wide as the text encoder's.
        """
        self._require(tokens.shape[1])
        if tokens.shape[2] != self.token_width:
            raise WeightsError(
                f"tokens {tokens.shape[2]} wide do not fit the text encoder of {self._params.weights}, whose own are "
                f"{self.token_width} wide: they were learned with another one"
            )
        return self._encoder.of_embeddings(tokens).float()

    def _require(self, count: int) -> None:
        if not 1 <= count <= self.most_tokens:
            raise ConfigError(f"a prompt for {self._params.weights} has 1..{self.most_tokens} tokens, not {count}")

    def states_of_text(self, prompt: str) -> Float[torch.Tensor, "1 l c"]:
        """The states, in fp32, of a prompt in words."""
        return self._encoder(prompt).float()

    def maps(self, latents: Latents, ids: Sequence[str], states: States, *, timestep: int, ensemble: int = 1) -> Tapped:
        """The maps of clean, scaled latents, in fp32, as `sd-noise` gives them of the images.

        Args:
            latents: of the images.
            ids: of the images, which seed the noise.
            states: of the prompt, one for every image or one for all.
            timestep: to which the latents are noised.
            ensemble: draws of the noise, whose maps are averaged.

        Raises:
            ConfigError: a timestep outside the schedule, or latents of another input.
            WeightsError: states of another width than the UNet takes.
        """
        self._check(latents, states, timestep=timestep)
        clean = latents.to(self._network.device, torch.float32)
        shape, seed = self._network.latent_shape, self._params.seed

        def noised(copy: int) -> Latents:
            return self._network.noised(
                clean, image_noise(shape, ids, seed=seed, timestep=timestep, copy=copy), timestep
            )

        return self._network.mean_maps(noised, timestep, states, ensemble=ensemble, at_once=self._params.copies_at_once)

    def _check(self, latents: Latents, states: States, *, timestep: int) -> None:
        last = len(self._network.alphas) - 1
        if not 0 <= timestep <= last:
            raise ConfigError(f"a prompted network's timestep must lie in 0..{last}, not {timestep}")
        shape = self._network.latent_shape
        if tuple(latents.shape[1:]) != shape:
            raise ConfigError(
                f"latents of {tuple(latents.shape[1:])} are not those of an input of {self.spec.input_size[0]} pixels, "
                f"{shape}: extract sd-latents with --set input_size={self.spec.input_size[0]}, or change the network's"
            )
        if states.shape[2] != self.states_shape[1]:
            raise WeightsError(
                f"states {states.shape[2]} wide do not fit the UNet of {self._params.weights}, which takes "
                f"{self.states_shape[1]}: they were learned with another one"
            )
