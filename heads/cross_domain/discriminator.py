"""The two-scale PatchGAN that judges a picture beside its condition.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571), after Wang et al., pix2pixHD; CoCosNet §2.3. The published
one also has a segmentation decoder (0.4 M parameters a scale), which no loss uses: it is left out.
"""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.spade import SLOPE, NonLocal

WIDTH = 64
"""Channels after the first convolution, as published."""
SMALLEST = 24
"""Pixels a side that leave one logit; also, its instance norms see more than one value."""
Judged = tuple[tuple[Float[torch.Tensor, "b _ _ _"], ...], ...]
"""Of each scale, the finest first, the maps of each layer; the last one are the logits."""


class _Patches(nn.Module):
    """One scale: three convolutions that halve the size, and two that do not."""

    def __init__(self, channels: int, *, width: int, attention: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.middle = nn.ModuleList(
            # the instance norm takes away whatever a bias adds
            spectral_norm(nn.Conv2d(width * before, width * after, 4, stride=stride, padding=1, bias=False))
            for before, after, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1))
        )
        self.attention = NonLocal(4 * width) if attention else nn.Identity()
        self.logits = nn.Conv2d(8 * width, 1, 4, padding=1)

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> tuple[Float[torch.Tensor, "b _ _ _"], ...]:
        maps = [functional.leaky_relu(self.first(x), SLOPE)]
        for number, convolution in enumerate(self.middle):
            given = self.attention(maps[-1]) if number == 2 else maps[-1]
            maps.append(functional.leaky_relu(functional.instance_norm(convolution(given)), SLOPE))
        return (*maps, self.logits(maps[-1]))


class Discriminator(nn.Module):
    """Logits for patches of a picture, at several scales, with the maps that led to them.

    Args:
        channels: of what it is given: as published, the condition's and the picture's.
        scales: how many, each of half the size of the one before.
        attention: whether a scale has a non-local block before its fourth convolution.
        width: channels after the first convolution.

    Raises:
        ConfigError: no scale.
    """

    def __init__(self, channels: int, *, scales: int = 2, attention: bool = False, width: int = WIDTH) -> None:
        super().__init__()
        if scales < 1:
            raise ConfigError(f"a discriminator has one scale or more, not {scales}")
        self.scales = nn.ModuleList(_Patches(channels, width=width, attention=attention) for _ in range(scales))

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> Judged:
        """Of each scale, the maps of its five layers.

        Raises:
            ConfigError: a side is so small that the coarsest scale has no logit.
        """
        halvings = len(self.scales) - 1
        least = ((SMALLEST - 1) << halvings) + 1
        if min(x.shape[2:]) < least:
            height, width = x.shape[2:]
            raise ConfigError(
                f"a discriminator of {halvings + 1} scale(s) needs sides of {least} pixels, not {height} x {width}: "
                "take fewer scales or larger pictures"
            )
        judged = []
        for number, patches in enumerate(self.scales):
            if number:  # the border counts for what lies inside
                x = functional.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            judged.append(patches(x))
        return tuple(judged)
