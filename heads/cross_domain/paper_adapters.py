"""CoCosNet's own domain adapters, and the blocks that both domains share, at the published size.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571); CoCosNet §1.2 and §1.3.
"""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from matchkit.core.errors import ConfigError
from matchkit.core.similarity import unit
from matchkit.heads.cross_domain.spade import SLOPE, SpadeBlock

WIDTH = 64
"""Channels after the first convolution; the space that both domains share is four times as wide."""
STRIDE = 4
"""Pixels a cell of the shared space."""
BLOCKS = 4
"""Residual blocks of the trunk."""


class PaperAdapter(nn.Module):
    """A picture of one domain to unit vectors at a quarter of its size.

    Args:
        channels_in: of the picture.
        kernel: of the two convolutions that halve the size: 3 as published for ADE20k, 4 for the others.
        width: channels after the first convolution.

    Raises:
        ConfigError: another kernel.
    """

    def __init__(self, channels_in: int, kernel: int, *, width: int = WIDTH) -> None:
        super().__init__()
        if kernel not in (3, 4):
            raise ConfigError(f"an adapter's kernel is 3 or 4, not {kernel}")
        widths = (channels_in, width, 2 * width, 4 * width, 8 * width, 8 * width)
        shapes = ((3, 1), (kernel, 2), (3, 1), (kernel, 2), (3, 1))
        self.convolutions = nn.ModuleList(
            # the instance norm takes away whatever a bias adds
            spectral_norm(nn.Conv2d(before, after, size, stride=stride, padding=1, bias=False))
            for before, after, (size, stride) in zip(widths, widths[1:], shapes, strict=False)
        )
        self.blocks = nn.ModuleList(
            SpadeBlock(8 * width, after, condition_channels=channels_in) for after in (8 * width, 8 * width, 4 * width)
        )

    def forward(self, picture: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b d gh gw"]:
        """The unit vectors; the picture also modulates the blocks.

        Raises:
            ConfigError: a side is no multiple of 4, or less than 8.
        """
        if any(side % STRIDE or side < 2 * STRIDE for side in picture.shape[2:]):
            height, width = picture.shape[2:]
            raise ConfigError(
                f"an adapter takes sides of 8 pixels and more that are multiples of {STRIDE}, not {height} x {width}"
            )
        x = picture
        for number, convolution in enumerate(self.convolutions):
            x = functional.instance_norm(convolution(functional.leaky_relu(x, SLOPE) if number else x))
        for block in self.blocks:
            x = block(x, picture)
        return unit(x.movedim(1, -1)).movedim(-1, 1)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, both before the same PReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect", bias=False) for _ in range(2)
        )
        self.prelu = nn.PReLU()

    def forward(self, x: Float[torch.Tensor, "b c gh gw"]) -> Float[torch.Tensor, "b c gh gw"]:
        within = self.prelu(functional.instance_norm(self.conv1(x)))
        result: torch.Tensor = self.prelu(functional.instance_norm(self.conv2(within)) + x)
        return result


class SharedTrunk(nn.Module):
    """The residual blocks that the vectors of either domain go through, before theta and phi.

    Args:
        width: of the vectors, with the channels of a condition where that is put beside them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[_Residual(width) for _ in range(BLOCKS)])

    def forward(self, x: Float[torch.Tensor, "b c gh gw"]) -> Float[torch.Tensor, "b c gh gw"]:
        """Maps of the same size, which must be two cells high and wide at least."""
        result: torch.Tensor = self.blocks(x)
        return result
