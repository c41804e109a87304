"""Pictures as conditions of a UNet beside the prompt: drawn ones for a ControlNet, an exemplar for an IP-Adapter."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.control_net import ControlNet
from matchkit.extract.backbones.ip_adapter import IPAdapter
from matchkit.extract.backbones.prompts import States
from matchkit.extract.backbones.stable_diffusion import Further, Latents

Pictures = Float[torch.Tensor, "b 3 _ _"]


class PictureConditions:
    """What a ControlNet and an IP-Adapter tell a UNet, or one of them, or neither."""

    def __init__(self, controlnet: ControlNet | None, adapter: IPAdapter | None) -> None:
        self._controlnet, self._adapter = controlnet, adapter

    def told(
        self, count: int, grid: tuple[int, int], *, condition: Pictures | None, exemplar: Pictures | None
    ) -> tuple[Further | None, Further | None]:
        """What the call with the prompt is told, and the one without it, which sees the condition but no exemplar.

        Args:
            count: of the latents.
            grid: their (height, width).
            condition: drawn as pictures in [0, 1], one for each latent; not looked at without a ControlNet.
            exemplar: pictures in [0, 1], one for each latent; not looked at without an IP-Adapter.

        Raises:
            ConfigError: a picture that is wanted is not given, or not one for each latent.
        """
        wanted: list[Further] = []
        unwanted: list[Further] = []
        if self._controlnet is not None:
            drawn = self._controlnet.told(_given(condition, count, what="condition", by="controlnet"), grid)
            wanted.append(drawn)
            unwanted.append(drawn)
        if self._adapter is not None:
            shown, not_shown = self._adapter.told(_given(exemplar, count, what="exemplar", by="ip_adapter"))
            wanted.append(shown)
            unwanted.append(not_shown)
        return _together(wanted), _together(unwanted)


def _given(pictures: Pictures | None, count: int, *, what: str, by: str) -> Pictures:
    if pictures is None:
        raise ConfigError(f"{by} wants the {what} as a picture and was given none: hand it over, or set {by}=''")
    if len(pictures) != count:
        raise ConfigError(f"{len(pictures)} pictures as {what} for {count} latents: {by} wants one for each")
    return pictures


def _together(parts: Sequence[Further]) -> Further | None:
    """All that several parts tell the UNet, in one."""
    if not parts:
        return None

    def further(latents: Latents, times: Float[torch.Tensor, " b"], states: States) -> Mapping[str, Any]:
        return {name: value for part in parts for name, value in part(latents, times, states).items()}

    return further
