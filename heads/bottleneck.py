"""The ResNet bottleneck with group norms that all light heads of the field put over a layer's maps.

Source: Luo et al., Diffusion Hyperfeatures, NeurIPS 2023 (arXiv 2305.14334), after the bottleneck of ODISE.
"""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from matchkit.core.similarity import resize

GROUPS = 32
"""Groups of every group norm, as published."""


class _ConvNorm(nn.Conv2d):
    """A convolution without bias and its group norm, named `norm` as in the published weights.

    For channels-last memory torch takes a group's variance as E[x^2] - E[x]^2, which cancels where the mean is large. A
    group norm does not see a constant that is added to a group, nor does a resize between, so about the group's mean is
    taken away from what is convolved. That of every sixteenth cell will do: it is never further from the mean than
    3.9 standard deviations.
    """

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, channels_out)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def convolve(self, x: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b d h w"]:
        """The convolution up to a constant for each group of the norm."""
        if self.kernel_size == (1, 1):  # the channels lie last in memory, so this is one matrix product
            cells: torch.Tensor = functional.linear(x.movedim(1, -1), self.weight.flatten(1))
            return cells.sub_(_centre(cells.detach().movedim(-1, 1))[:, None, None]).movedim(-1, 1)
        maps = functional.conv2d(x, self.weight, padding=self.padding)
        return maps.sub_(_centre(maps.detach())[..., None, None])

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b d h w"]:
        return self.norm(self.convolve(x))  # type: ignore[no-any-return]


def _centre(maps: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b c"]:
    """Nearly the mean of each group, for each of its channels."""
    channels = maps[..., ::4, ::4].mean((2, 3)).unflatten(1, (GROUPS, -1))
    means: torch.Tensor = channels.mean(2, keepdim=True).expand_as(channels)
    return means.flatten(1)


class Bottleneck(nn.Module):
    """A ResNet bottleneck, 1x1 - 3x3 - 1x1 with a 1x1 skip, each convolution followed by a group norm.

    Where a map has the descriptor's width already, it is itself the skip. The first convolution and the skip are 1x1
    without bias, so they commute with the bilinear resize: they run on the map's own grid, and a quarter plus one of
    the projection's channels are resized instead of all of the layer's.

    Its steps are methods of their own, for `mixing` keeps what the convolutions give and takes each step's gradient.
    """

    def __init__(self, channels: int, projection: int) -> None:
        super().__init__()
        width = projection // 4
        self.shortcut = _ConvNorm(channels, projection, kernel=1) if channels != projection else None
        self.conv1 = _ConvNorm(channels, width, kernel=1)
        self.conv2 = _ConvNorm(width, width, kernel=3)
        self.conv3 = _ConvNorm(width, projection, kernel=1)

    def forward(self, x: Float[torch.Tensor, "b c gh gw"], grid: tuple[int, int]) -> Float[torch.Tensor, "b d h w"]:
        """The descriptors of one layer's maps on `grid` (height, width) in cells; never negative."""
        skip, narrow = self.project(x)
        return self.leave(self.conv2.convolve(self.enter(narrow, grid)), skip)

    def project(
        self, x: Float[torch.Tensor, "b c gh gw"]
    ) -> tuple[Float[torch.Tensor, "b d gh gw"], Float[torch.Tensor, "b w gh gw"]]:
        """The two 1x1 convolutions of the maps, on the maps' own grid: of the skip, and the narrow one."""
        x = x.float()
        return self.shortcut.convolve(x) if self.shortcut else x, self.conv1.convolve(x)

    def enter(self, narrow: Float[torch.Tensor, "b w gh gw"], grid: tuple[int, int]) -> Float[torch.Tensor, "b w h w2"]:
        """What the 3x3 convolution is given."""
        return self.conv1.norm(resize(narrow, grid)).relu_()  # type: ignore[no-any-return]

    def leave(
        self, inner: Float[torch.Tensor, "b w h w2"], skip: Float[torch.Tensor, "b d gh gw"]
    ) -> Float[torch.Tensor, "b d h w2"]:
        """The descriptors, from what the 3x3 convolution gave and the skip."""
        main = self.conv3(self.conv2.norm(inner).relu_())
        skip = resize(skip, (main.shape[-2], main.shape[-1]))
        return main.add_(self.shortcut.norm(skip) if self.shortcut else skip).relu_()  # type: ignore[no-any-return]
