"""Stable Diffusion as a translator: a warped exemplar's latent is noised a little and denoised under the condition.

Nothing is trained. Source: CoCosNet §6.2, translator T3. Re-matching between the steps (`interleave`) is MIDMs' (Seo et
al., AAAI 2023): the clean latent that a step predicts is matched with the exemplar again, and gives way to the new
warp where that is trusted. What is drawn, a ControlNet sees; whose look it is, an IP-Adapter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.control_net import ControlNet
from matchkit.extract.backbones.diffusion import denoise, levels, painting_noise
from matchkit.extract.backbones.ip_adapter import IPAdapter
from matchkit.extract.backbones.picture_conditions import PictureConditions, Pictures
from matchkit.extract.backbones.precision import Precision
from matchkit.extract.backbones.prompts import Prompts
from matchkit.extract.backbones.stable_diffusion import Latents, Pipeline, StableDiffusion, Told
from matchkit.extract.backbones.taps import Hook, Tapped

Accepted = Bool[torch.Tensor, "b zh zw"]
Rematch = Callable[[int, Latents, Tapped], tuple[Latents, Accepted]]
"""Told a timestep, the clean latents that are predicted there, and the UNet's maps of that very call by layer: gives
the exemplar's latents warped anew, and the cells where they are to be trusted."""


@dataclass(frozen=True, slots=True)
class SDTranslationParams:
    """Parameters of the translator `sd`.

    Attributes:
        weights: a diffusers folder, a hub id, or `tiny` for the embedded default.
        strength: how far the warped latent is noised, 0 (decoded as it is) to 1 (to the noisiest level).
        steps: of the whole trajectory, of which the last `strength` are taken.
        guidance: how far the noise is led away from that of the negative prompt; 1 is the prompt alone, in one call.
        prompt: text condition, in which `{category}` stands for the first part of an image's id.
        negative_prompt: what stands in place of no prompt.
        fill: what cells take whose match is not trusted: `noise` alone, or the `latent` of another translator.
        least_confidence: of a match that is trusted, 0..1.
        interleave: in how many of the first steps it is matched again.
        layers: of the UNet's decoder, handed to whoever matches again; none named hands over all ResNets.
        hook: where at a ResNet the map is read (see `sd-noise`).
        controlnet: a folder of diffusers or a hub id; "" for none.
        controlnet_scale: of what it adds.
        ip_adapter: a safetensors file, or one of the hub as owner/repository/file; "" for none.
        ip_adapter_scale: of what it adds.
        image_encoder: the folder of the CLIP vision network that the IP-Adapter was trained with, or a hub id.
        input_size: the square picture's side in pixels, a multiple of 8; 0 takes the pipeline's own.
        precision: the number type of the arithmetic.
        seed: of the noise, together with the images' ids.
    """

    weights: str = "tiny"
    strength: float = 0.5
    steps: int = 50
    guidance: float = 7.5
    prompt: str = ""
    negative_prompt: str = ""
    fill: Literal["noise", "latent"] = "noise"
    least_confidence: float = 0.1
    interleave: int = 0
    layers: tuple[str, ...] = ()
    hook: Hook = "residual"
    controlnet: str = ""
    controlnet_scale: float = 1.0
    ip_adapter: str = ""
    ip_adapter_scale: float = 0.6
    image_encoder: str = ""
    input_size: int = 0
    precision: Precision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("strength", "least_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"sd translator: {name} must lie in 0..1, not {getattr(self, name)}")
        if self.steps < 1:
            raise ConfigError(f"sd translator: steps must be at least 1, not {self.steps}")
        if not 0 <= self.interleave <= self.calls:
            raise ConfigError(
                f"sd translator: interleave must lie in 0..{self.calls}, the steps taken at strength {self.strength} "
                f"of {self.steps}, not {self.interleave}"
            )

    @property
    def calls(self) -> int:
        """Steps that are taken: the nearest whole number to `strength` of all."""
        return round(self.strength * self.steps)


@dataclass(frozen=True, slots=True)
class Translated:
    """Pictures with values 0..255, on the CPU, and the clean, scaled latents that they were decoded from, in fp32."""

    pictures: UInt8[torch.Tensor, "b h w 3"]
    latents: Latents


class SDTranslation:
    """Warped latents in, pictures out.

    Raises:
        ConfigError: an input size that the VAE cannot halve, an unknown layer, or an IP-Adapter without an encoder.
        WeightsError: not a Stable Diffusion folder, or a ControlNet or an IP-Adapter that does not fit its UNet.

    Attributes:
        latent_shape: (channels, height, width) of the latents that it takes.
        layers: what is handed to whoever matches again.
        checksum: of all weights.
    """

    Params = SDTranslationParams

    def __init__(self, params: SDTranslationParams, *, device: torch.device) -> None:
        self._params = params
        pipeline = Pipeline(
            weights=params.weights,
            init="trained",
            layers=params.layers,
            hook=params.hook,
            input_size=params.input_size,
            precision=params.precision,
            seed=params.seed,
        )
        network = self._network = StableDiffusion(pipeline, device=device)
        # the noisiest first: what is noised to, and where it is matched again
        self._levels = levels(params.steps, train_steps=len(network.alphas))[: params.calls][::-1]
        encoder = network.text_encoder()
        self._wanted, self._unwanted = Prompts(encoder, params.prompt), Prompts(encoder, params.negative_prompt)
        self.latent_shape, self.layers = network.latent_shape, network.layers
        self.checksum = network.checksum
        self._conditions = self._load_conditions()

    def _load_conditions(self) -> PictureConditions:
        params, unet = self._params, self._network.unet
        control = adapter = None
        if params.controlnet:
            control = ControlNet(params.controlnet, unet=unet, scale=params.controlnet_scale)
            self.checksum += f", ControlNet {control.checksum}"
        if params.ip_adapter:
            adapter = IPAdapter(
                params.ip_adapter, image_encoder=params.image_encoder, unet=unet, scale=params.ip_adapter_scale
            )
            self.checksum += f", IP-Adapter {adapter.checksum}"
        return PictureConditions(control, adapter)

    @torch.no_grad()
    def __call__(
        self,
        warped: Latents,
        confidence: Float[torch.Tensor, "b _ _"],
        ids: Sequence[str],
        *,
        condition: Pictures | None = None,
        exemplar: Pictures | None = None,
        fallback: Float[torch.Tensor, "b _ _ _"] | None = None,
        rematch: Rematch | None = None,
    ) -> Translated:
        """Translates some images; a picture depends on its own row and id alone.

        Args:
            warped: the scaled latents of the exemplars, warped to the conditions.
            confidence: in [0, 1], of the match of each cell of the latents.
            ids: of the images.
            condition: drawn as pictures in [0, 1], for the ControlNet.
            exemplar: pictures in [0, 1], for the IP-Adapter.
            fallback: scaled latents for the cells that are not trusted, where `fill` is `latent`.
            rematch: matches again, where `interleave` is not 0.

        Raises:
            ConfigError: something that the parameters ask for is not given, or tensors of another shape.
        """
        self._require(fallback=fallback, rematch=rematch)
        self._check(warped, confidence, ids, fallback=fallback)
        told = self._conditions.told(len(ids), self.latent_shape[1:], condition=condition, exemplar=exemplar)
        latents = self._denoised(
            self._start(warped, confidence, ids, fallback=fallback),
            wanted=Told(self._wanted(ids), told[0]),
            unwanted=Told(self._unwanted(ids), told[1]),
            rematch=rematch,
        )
        return Translated(self._network.decode(latents), latents)

    def _denoised(self, start: Latents, *, wanted: Told, unwanted: Told, rematch: Rematch | None) -> Latents:
        params = self._params
        kept: Tapped = {}
        rematched = self._levels[: params.interleave]

        def predict_noise(latents: Latents, timestep: int) -> Latents:
            noise, maps = self._network.guided(
                latents, timestep, wanted=wanted, unwanted=unwanted, guidance=params.guidance
            )
            kept.update(maps)
            return noise

        def revise(timestep: int, clean: Latents) -> Latents:
            if rematch is None or timestep not in rematched:
                return clean
            return _replaced(clean, *rematch(timestep, clean, dict(kept)))

        latents, alphas = start, self._network.alphas
        for _, reached in denoise(
            start, predict_noise, alphas=alphas, steps=params.steps, calls=params.calls, revise=revise
        ):
            latents = reached
        return latents

    def _start(
        self,
        warped: Latents,
        confidence: Float[torch.Tensor, "b zh zw"],
        ids: Sequence[str],
        *,
        fallback: Latents | None,
    ) -> Latents:
        """The latents at the level where the denoising begins; the clean ones where it does not.

        A cell that takes noise is noise alone at that level too: its clean value would be as much noise as the rest.
        """
        device = self._network.device
        clean = warped.to(device, torch.float32)
        doubtful = (confidence.to(device) < self._params.least_confidence)[:, None]
        if self._params.fill == "latent":
            assert fallback is not None
            clean = torch.where(doubtful, fallback.to(clean), clean)
        if not self._levels:
            return clean
        noise = painting_noise(self.latent_shape, ids, seed=self._params.seed).to(device)
        noised = self._network.noised(clean, noise, self._levels[0])
        return torch.where(doubtful, noise, noised) if self._params.fill == "noise" else noised

    def _require(self, *, fallback: torch.Tensor | None, rematch: Rematch | None) -> None:
        if self._params.fill == "latent" and fallback is None:
            raise ConfigError(
                "sd translator: fill latent wants the latents of another translator as fallback and was given none: "
                "hand them over, or set fill=noise"
            )
        if self._params.interleave and rematch is None:
            raise ConfigError(
                f"sd translator: interleave {self._params.interleave} wants a rematch and was given none: hand it "
                "over, or set interleave=0"
            )

    def _check(
        self, warped: torch.Tensor, confidence: torch.Tensor, ids: Sequence[str], *, fallback: torch.Tensor | None
    ) -> None:
        shape, side = self.latent_shape, self._network.input_size
        for name, latents in (("warped", warped), ("fallback", fallback)):
            if latents is not None and tuple(latents.shape) != (len(ids), *shape):
                raise ConfigError(
                    f"sd translator: {name} latents of {tuple(latents.shape)} are not those of {len(ids)} inputs of "
                    f"{side} pixels, {(len(ids), *shape)}: extract sd-latents with --set input_size={side}, or change "
                    "the translator's"
                )
        if tuple(confidence.shape) != (len(ids), *shape[1:]):
            raise ConfigError(
                f"sd translator: a confidence of {tuple(confidence.shape)} is not one for each cell of the latents, "
                f"{(len(ids), *shape[1:])}: resize it to their grid"
            )


def _replaced(clean: Latents, warped: Latents, accepted: Accepted) -> Latents:
    return torch.where(accepted.to(clean.device)[:, None], warped.to(clean), clean)
