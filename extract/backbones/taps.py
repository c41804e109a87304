"""Where maps are read in a Stable Diffusion UNet: its decoder's ResNets, `up<block>.<resnet>`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import nn

from matchkit.core.errors import ConfigError, nearest_name
from matchkit.core.spec import LayerSpec

Hook = Literal["residual", "output"]
Tapped = dict[str, Float[torch.Tensor, "b c gh gw"]]


def decoder_resnets(unet: UNet2DConditionModel) -> dict[str, Any]:
    """The decoder's ResNets in the order of the forward pass: `up0.0`, `up0.1`, ... `up3.2` for Stable Diffusion."""
    return {
        f"up{block}.{index}": resnet
        for block, module in enumerate(unet.up_blocks)
        for index, resnet in enumerate(module.resnets)
    }


def chosen_layers(unet: UNet2DConditionModel, wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted layers in the order of the forward pass; all of them where none is named.

    Raises:
        ConfigError: a name that the decoder does not have.
    """
    names = tuple(decoder_resnets(unet))
    for name in wanted:
        if name not in names:
            raise ConfigError(f"no layer '{name}' in this UNet's decoder.{nearest_name(name, names)}")
    return tuple(name for name in names if not wanted or name in wanted)


def layer_specs(unet: UNet2DConditionModel, layers: Sequence[str], *, latent: tuple[int, int]) -> tuple[LayerSpec, ...]:
    """Channels and grids of the decoder's layers for a latent of (height, width) cells."""
    blocks = len(unet.up_blocks)
    resnets = decoder_resnets(unet)
    specs = []
    for name in layers:
        shrink = 2 ** (blocks - 1 - int(name[2:].partition(".")[0]))
        specs.append(LayerSpec(name, resnets[name].out_channels, (latent[0] // shrink, latent[1] // shrink)))
    return tuple(specs)


class DecoderTaps:
    """Hooks on some layers of a UNet that keep the maps of each forward pass.

    `residual` reads the second convolution's output, before the skip is added; `output` the whole ResNet's. What is
    kept belongs to the thread that records, so several threads may run one network at the same time.
    """

    def __init__(self, unet: UNet2DConditionModel, layers: Sequence[str], *, hook: Hook) -> None:
        self._kept: ContextVar[Tapped | None] = ContextVar("kept", default=None)
        resnets = decoder_resnets(unet)
        for name in layers:
            module = resnets[name].conv2 if hook == "residual" else resnets[name]
            module.register_forward_hook(partial(self._keep, name))

    def _keep(self, name: str, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        maps = self._kept.get()
        if maps is not None:
            maps[name] = output

    @contextmanager
    def recording(self) -> Iterator[Tapped]:
        """While open, every forward pass of this thread leaves its maps in the mapping that is handed out."""
        maps: Tapped = {}
        token = self._kept.set(maps)
        try:
            yield maps
        finally:
            self._kept.reset(token)
