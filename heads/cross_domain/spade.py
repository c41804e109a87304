"""Feature maps normalised at each position and modulated by a picture, and the blocks made of that.

Source: Park et al., SPADE, CVPR 2019 (arXiv 1903.07291), with the positional normalisation of Li et al., NeurIPS 2019
(arXiv 1907.04312), as CoCosNet §2.1 puts them together; the non-local block of Zhang et al., SAGAN, ICML 2019 (arXiv
1805.08318), CoCosNet §2.2.
"""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from matchkit.core.errors import ConfigError

EPSILON = 1e-5
"""Added to a position's variance, as published."""
HIDDEN = 128
"""Channels between a condition and what it modulates with, as published."""
SLOPE = 0.2
"""Of every leaky ReLU, as published."""


def positional_norm(x: Float[torch.Tensor, "b c h w"], *, epsilon: float = EPSILON) -> Float[torch.Tensor, "b c h w"]:
    """Maps with mean 0 and variance 1 over the channels at each position.

    The variance is the unbiased one, so there must be two channels or more.
    """
    variance, mean = torch.var_mean(x, dim=1, keepdim=True)
    return (x - mean) * (variance + epsilon).rsqrt()


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="reflect")


class Spade(nn.Module):
    """Positional normalisation, then a gain and an offset that a condition gives at each position and channel.

    Args:
        channels: of the maps that are modulated, two or more.
        condition_channels: of the condition.
        hidden: channels between a condition and its gains.

    Raises:
        ConfigError: one channel has no variance.
    """

    def __init__(self, channels: int, condition_channels: int, *, hidden: int = HIDDEN) -> None:
        super().__init__()
        if channels < 2:
            raise ConfigError(f"positional normalisation needs two channels or more, not {channels}")
        self.shared = _convolution(condition_channels, hidden)
        self.gamma = _convolution(hidden, channels)
        self.beta = _convolution(hidden, channels)

    def forward(
        self, x: Float[torch.Tensor, "b c h w"], condition: Float[torch.Tensor, "b _ _ _"]
    ) -> Float[torch.Tensor, "b c h w"]:
        """The modulated maps; the condition, of any size, is brought to theirs by its nearest values.

        Maps must be two cells high and wide at least, here and in `SpadeBlock`.
        """
        resized = functional.interpolate(condition, size=x.shape[-2:], mode="nearest")
        hidden = functional.relu(self.shared(resized))
        modulated: torch.Tensor = positional_norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)
        return modulated


class SpadeBlock(nn.Module):
    """Two modulated 3x3 convolutions beside the input, or beside its modulated 1x1 convolution to another width."""

    def __init__(self, channels_in: int, channels_out: int, *, condition_channels: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        between = min(channels_in, channels_out)
        self.spade1 = Spade(channels_in, condition_channels, hidden=hidden)
        self.conv1 = spectral_norm(_convolution(channels_in, between))
        self.spade2 = Spade(between, condition_channels, hidden=hidden)
        self.conv2 = spectral_norm(_convolution(between, channels_out))
        self.widens = channels_in != channels_out
        if self.widens:
            self.spade_skip = Spade(channels_in, condition_channels, hidden=hidden)
            self.conv_skip = spectral_norm(nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(
        self, x: Float[torch.Tensor, "b c h w"], condition: Float[torch.Tensor, "b _ _ _"]
    ) -> Float[torch.Tensor, "b d h w"]:
        """The sum of both ways."""
        skip = self.conv_skip(self.spade_skip(x, condition)) if self.widens else x
        within = self.conv1(functional.leaky_relu(self.spade1(x, condition), SLOPE))
        within = self.conv2(functional.leaky_relu(self.spade2(within, condition), SLOPE))
        result: torch.Tensor = skip + within
        return result


class NonLocal(nn.Module):
    """What other places of the map have, added with a gain that begins at 0: at the start the identity.

    Args:
        channels: of the map, a multiple of 8.

    Raises:
        ConfigError: they are not.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels % 8:
            raise ConfigError(f"a non-local block needs a multiple of 8 channels, not {channels}")
        self.theta, self.phi, self.g = (
            spectral_norm(nn.Conv2d(channels, channels // part, 1, bias=False)) for part in (8, 8, 2)
        )
        self.o = spectral_norm(nn.Conv2d(channels // 2, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b c h w"]:
        """The map, two cells high and wide at least, with what was attended to."""
        queries, keys, values = (
            maps.flatten(2).transpose(1, 2)[:, None].contiguous()
            for maps in (self.theta(x), functional.max_pool2d(self.phi(x), 2), functional.max_pool2d(self.g(x), 2))
        )
        # the fused kernels, which never hold the (positions x positions) matrix, want all three of one width and each
        # position's values side by side
        filled = (0, values.shape[3] - queries.shape[3])
        attended = functional.scaled_dot_product_attention(
            functional.pad(queries, filled), functional.pad(keys, filled), values, scale=1
        )
        found: torch.Tensor = self.o(attended[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))
        return self.gamma * found + x
