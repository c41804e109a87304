"""Gradient checkpointing of a UNet: activations within its ResNets and attentions are computed again when backward."""

from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.utils.checkpoint import checkpoint

PARTS = ("resnets", "attentions")
"""What diffusers calls the lists of those modules of a block that are computed again."""


def checkpointed(unet: UNet2DConditionModel) -> None:
    """Keeps what enters and leaves the ResNets and attentions alone, whether the network trains or not.

    Diffusers' own switch does the same inside of the hooks of a module, where reading its map would be read twice, and
    in older versions nothing for a network in evaluation. A module that is read from within stays as it is.
    """
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        for module in (part for name in PARTS for part in getattr(block, name, None) or ()):
            inner = (child for child in module.modules() if child is not module)
            if not any(_is_read(child) for child in inner):
                module.forward = partial(_again, module.forward)


def _is_read(module: nn.Module) -> bool:
    return bool(module._forward_hooks)


def _again(forward: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - of any module
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
