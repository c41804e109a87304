"""What the heads that prompt a backbone share: their parameters, the latents that they give it, and how they ask it.

Source: Li et al., SD4Match, CVPR 2024 (arXiv 2310.17569).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError, WeightsError
from matchkit.core.interfaces import Maps, PromptableBackbone
from matchkit.core.seeding import generator
from matchkit.core.spec import FeatureSpec
from matchkit.heads.prompt_loss import PromptLossParams

MEAN, DEVIATION = "latent", "latent.std"
"""The layers of a store in which the VAE's posterior lies."""


@dataclass(frozen=True, slots=True)
class PromptedParams(PromptLossParams):
    """Parameters of both heads, with those of their loss; the defaults are the published ones.

    Attributes:
        network: what the backbone is built from that the head is given: its weights, layers, precision, ...
        layer: of the backbone, whose maps are the descriptors; "" takes its last one.
        timestep: to which latents are noised in training, where each step draws its noise anew.
        test_timestep: the same for descriptors.
        ensemble: draws of the noise whose maps a descriptor averages; training has one.
        posterior: the latent is the VAE posterior's mean, or a `sample` (published), for which the store must hold
            `latent.std`: a draw a step in training, and one an image for descriptors.
        seed: of the prompt at the start and of the samples; the noise's seed is the backbone's.
    """

    network: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""
    timestep: int = 261
    test_timestep: int = 50
    ensemble: int = 8
    posterior: Literal["mean", "sample"] = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        PromptLossParams.__post_init__(self)
        if self.ensemble < 1:
            raise ConfigError(f"ensemble must be at least 1, not {self.ensemble}")

    @property
    def latent_layers(self) -> tuple[str, ...]:
        """The layers of the store that latents are made from."""
        return (MEAN,) if self.posterior == "mean" else (MEAN, DEVIATION)


class PromptedNetwork:
    """A backbone, asked as a head's parameters have it.

    Args:
        params: of the head.
        backbone: that was taken.
        spec: of the store in which the latents are.

    Raises:
        ConfigError: the latents are of another input than the backbone's.
        StoreError: the backbone does not give the layer.
    """

    def __init__(self, params: PromptedParams, backbone: PromptableBackbone, *, spec: FeatureSpec) -> None:
        self._params = params
        self.backbone = backbone
        chosen = backbone.spec.layer(params.layer or backbone.spec.layers[-1].name)
        self._layer, self.grid = chosen.name, chosen.grid
        if spec.input_size != backbone.spec.input_size:
            (width, height), (ours, theirs) = backbone.spec.input_size, spec.input_size
            raise ConfigError(
                f"the latents are of inputs of {ours} x {theirs} pixels, and the network to prompt takes {width} x "
                f"{height}. Run: matchkit extract --set input_size={width}, or set input_size in `network`"
            )

    def in_training(
        self, latents: Float[torch.Tensor, "b _ _ _"], ids: Sequence[str], states: torch.Tensor, *, step: int
    ) -> Float[torch.Tensor, "b d gh gw"]:
        """The descriptors of one draw of the noise, which belongs to the images and the step."""
        of_step = [f"{image_id} in step {step}" for image_id in ids]
        return self.backbone.maps(latents, of_step, states, timestep=self._params.timestep)[self._layer]

    def in_testing(
        self, latents: Float[torch.Tensor, "b _ _ _"], ids: Sequence[str], states: torch.Tensor
    ) -> Float[torch.Tensor, "b d gh gw"]:
        """The descriptors, averaged over the ensemble's draws, which belong to the images."""
        params = self._params
        asked = {"timestep": params.test_timestep, "ensemble": params.ensemble}
        return self.backbone.maps(latents, ids, states, **asked)[self._layer]


def latents_of(
    params: PromptedParams, maps: Maps, ids: Sequence[str], *, device: torch.device, step: int | None = None
) -> Float[torch.Tensor, "b c h w"]:
    """The latents of images from maps (b,1,c,h,w) of their posteriors, in fp32.

    Args:
        params: of the head.
        maps: of the store.
        ids: of the images.
        device: where they go.
        step: of a training; None for descriptors.
    """
    means = maps[MEAN][:, 0].to(device, torch.float32)
    if params.posterior == "mean":
        return means
    shape, of_step = means.shape[1:], () if step is None else (step,)
    draws = [torch.randn(shape, generator=generator(params.seed, "posterior", name, *of_step)) for name in ids]
    return means + maps[DEVIATION][:, 0].to(means) * torch.stack(draws).to(means)


def fitting(old: torch.nn.Module | None, new: torch.nn.Module) -> torch.nn.Module:
    """The prompt of a head that takes a backbone: the new one, or the old one where there was one already.

    Raises:
        WeightsError: the old one was made for a backbone of other widths.
    """
    if old is None:
        return new
    had, wanted = ({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()} for module in (old, new))
    if had != wanted:
        raise WeightsError(f"the prompt {had} does not fit the backbone's text encoder, which takes {wanted}")
    return old


def untaken(head: str) -> ConfigError:
    """What a head says that has no backbone yet."""
    return ConfigError(
        f"head '{head}' has no backbone to prompt yet: give it one with `take`; its parameter `network` says which"
    )
