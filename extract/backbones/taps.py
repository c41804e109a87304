"""Where maps are read in a Stable Diffusion UNet's decoder: at ResNets, `up0.0`, and after blocks, `up0.out`.

At a ResNet, `residual` reads its second convolution's output, before the skip is added (Diffusion Hyperfeatures);
`output` what the ResNet gives; `sublayer` what is left after the attention that follows it, where there is one, which
is what enters the next sub-layer before its skip is concatenated (GeoAware-SC, sd-dino). A block's output comes after
its upsampler (DIFT, SD4Match); no hook applies to it.
"""

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

Hook = Literal["residual", "output", "sublayer"]
Tapped = dict[str, Float[torch.Tensor, "b _ _ _"]]
OUT = "out"


class _EnoughError(Exception):
    """Raised from within a forward pass whose rest nobody wants."""


def decoder_resnets(unet: UNet2DConditionModel) -> dict[str, Any]:
    """The decoder's ResNets in the order of the forward pass: `up0.0`, `up0.1`, ... `up3.2` for Stable Diffusion."""
    return {
        f"up{block}.{index}": resnet
        for block, module in enumerate(unet.up_blocks)
        for index, resnet in enumerate(module.resnets)
    }


def _points(unet: UNet2DConditionModel) -> tuple[str, ...]:
    """All that can be read, in the order of the forward pass."""
    return tuple(
        name
        for block, module in enumerate(unet.up_blocks)
        for name in (*(f"up{block}.{index}" for index in range(len(module.resnets))), f"up{block}.{OUT}")
    )


def chosen_layers(unet: UNet2DConditionModel, wanted: Sequence[str]) -> tuple[str, ...]:
    """The wanted layers in the order of the forward pass; all ResNets where none is named.

    Raises:
        ConfigError: a name that the decoder does not have.
    """
    names = _points(unet)
    for name in wanted:
        if name not in names:
            raise ConfigError(f"no layer '{name}' in this UNet's decoder.{nearest_name(name, names)}")
    return tuple(name for name in names if name in wanted) or tuple(decoder_resnets(unet))


def layer_specs(unet: UNet2DConditionModel, layers: Sequence[str], *, latent: tuple[int, int]) -> tuple[LayerSpec, ...]:
    """Channels and grids of the decoder's layers for a latent of (height, width) cells.

    A halving rounds up: an input need not be a multiple of 64 pixels.
    """
    blocks = len(unet.up_blocks)
    grids = [latent]
    for _ in range(blocks - 1):
        height, width = grids[-1]
        grids.append((-(-height // 2), -(-width // 2)))
    specs = []
    for name in layers:
        block, _, index = name.removeprefix("up").partition(".")
        level = blocks - 1 - int(block)
        module = unet.up_blocks[int(block)]
        if index == OUT:
            level = max(0, level - 1)
        resnet = module.resnets[-1 if index == OUT else int(index)]
        specs.append(LayerSpec(name, resnet.out_channels, grids[level]))
    return tuple(specs)


class DecoderTaps:
    """Hooks on some layers of a UNet that keep the maps of each forward pass.

    What is kept belongs to the thread that records, so several threads may run one network at the same time.
    """

    def __init__(self, unet: UNet2DConditionModel, layers: Sequence[str], *, hook: Hook) -> None:
        self._kept: ContextVar[Tapped | None] = ContextVar("kept", default=None)
        self._stops: ContextVar[bool] = ContextVar("stops", default=False)
        self._last = layers[-1]
        for name in layers:
            _module(unet, name, hook).register_forward_hook(partial(self._keep, name))

    def _keep(self, name: str, module: nn.Module, inputs: object, output: object) -> None:
        maps = self._kept.get()
        if maps is not None:
            # an attention of diffusers gives a tuple
            tensor = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
            assert isinstance(tensor, torch.Tensor)
            maps[name] = tensor
            if name == self._last and self._stops.get():
                raise _EnoughError

    @contextmanager
    def recording(self) -> Iterator[Tapped]:
        """While open, every forward pass of this thread leaves its maps in the mapping that is handed out."""
        maps: Tapped = {}
        token = self._kept.set(maps)
        try:
            yield maps
        finally:
            self._kept.reset(token)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Within `recording`: a forward pass ends when its last map is kept, and what it would return is lost."""
        token = self._stops.set(True)
        try:
            yield
        except _EnoughError:
            pass
        finally:
            self._stops.reset(token)


def _module(unet: UNet2DConditionModel, name: str, hook: Hook) -> nn.Module:
    block, _, index = name.removeprefix("up").partition(".")
    module = unet.up_blocks[int(block)]
    if index == OUT:
        return module  # type: ignore[no-any-return]
    resnet = module.resnets[int(index)]
    if hook == "residual":
        return resnet.conv2  # type: ignore[no-any-return]
    attentions = getattr(module, "attentions", None)
    return attentions[int(index)] if hook == "sublayer" and attentions else resnet  # type: ignore[no-any-return]
