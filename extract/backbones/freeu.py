"""FreeU as GeoAware-SC has it: the decoder's own maps are raised, the low frequencies of what skips to it are lowered.

Source: FreeU (Si et al., CVPR 2024, arXiv 2309.11497), first version. What is changed goes by the channels of the map
that enters a sub-layer of the decoder, not by the block: diffusers' own `enable_freeu` goes by the block, and differs.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import nn

Map = Float[torch.Tensor, "b c gh gw"]


@dataclass(frozen=True, slots=True)
class FreeU:
    """The factors: of the map's first half of channels, and of the skip's low frequencies.

    Attributes:
        raised: for maps of the UNet's greatest number of channels, and of its second greatest (SD: 1280, 640).
        lowered: for what is concatenated with them.
    """

    raised: tuple[float, float] = (1.2, 1.4)
    lowered: tuple[float, float] = (0.9, 0.2)

    def factors(self, unet: UNet2DConditionModel) -> dict[int, tuple[float, float]]:
        """(raised, lowered) by a map's channels; a map of other channels is left as it is."""
        widest = sorted(set(unet.config.block_out_channels), reverse=True)
        return dict(zip(widest, zip(self.raised, self.lowered, strict=True), strict=False))

    def install(self, unet: UNet2DConditionModel) -> None:
        """Puts FreeU before every ResNet of the decoder, for good."""
        factors = self.factors(unet)
        entering = unet.config.block_out_channels[-1]
        for resnet in (resnet for block in unet.up_blocks for resnet in block.resnets):
            if entering in factors:
                raised, lowered = factors[entering]
                resnet.register_forward_pre_hook(partial(_change, entering, raised, lowered))
            entering = resnet.out_channels


def _change(
    channels: int, raised: float, lowered: float, module: nn.Module, inputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Changes what enters a ResNet, whose first `channels` are the map and whose rest is the skip."""
    joined, *others = inputs
    own, skip = joined[:, :channels], joined[:, channels:]
    return torch.cat([raise_half(own, raised), lower_low_frequencies(skip, lowered)], dim=1), *others


def raise_half(maps: Map, factor: float) -> Map:
    """Multiplies the first half of the channels."""
    half = maps.shape[1] // 2
    return torch.cat([maps[:, :half] * factor, maps[:, half:]], dim=1)


def lower_low_frequencies(maps: Map, factor: float) -> Map:
    """Multiplies the frequencies -1 and 0 of both axes, and drops the imaginary part that this leaves.

    These four are the central 2 x 2 cells of a shifted spectrum, which the published code takes.
    """
    low = [torch.zeros(cells, device=maps.device) for cells in maps.shape[-2:]]
    for axis in low:
        axis[0] = axis[-1] = 1
    kept = 1 - (1 - factor) * low[0][:, None] * low[1]
    filtered: torch.Tensor = torch.fft.ifft2(torch.fft.fft2(maps.float()) * kept).real
    return filtered.to(maps)
