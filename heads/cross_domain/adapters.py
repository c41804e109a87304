"""Two small networks, one a domain, into a space that both share.

Source: the domain adapters of CoCosNet §1.2, as small ones over cached features (CoCosNet §6.2).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.similarity import resize, unit

GROUPS = 8
"""Of the group norms; the width is a multiple of it."""
DILATIONS = (1, 2, 4, 1)
"""Of the residual blocks, in order: together they see 12 cells each way."""


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int, *, dilation: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, width) for _ in range(2)])

    def forward(self, x: Float[torch.Tensor, "b c gh gw"]) -> Float[torch.Tensor, "b c gh gw"]:
        """The sum of both ways."""
        within = self.first(functional.silu(self.norms[0](x)))
        result: torch.Tensor = x + self.second(functional.silu(self.norms[1](within)))
        return result


class Stem(nn.Module):
    """A picture brought down to the grid by strided 3x3 convolutions, a halving each."""

    def __init__(self, channels: int, width: int, *, halvings: int) -> None:
        super().__init__()
        self.halvings = halvings
        widths = [channels, *[max(GROUPS, width >> (halvings - 1 - step)) for step in range(halvings)]]
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)]
            if halvings
            else [nn.Conv2d(channels, width, 3, padding=1)]
        )

    def forward(self, picture: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b d gh gw"]:
        """Its values on the grid."""
        x = picture
        for number, convolution in enumerate(self.convolutions):
            x = convolution(functional.silu(x) if number else x)
        return x


class Adapter(nn.Module):
    """Pictures and cached maps of a domain to unit vectors on a grid.

    Args:
        picture: channels of the picture, 0 for none.
        maps: channels of each cached map.
        width: of the network within.
        out: of the vectors.
        grid: (height, width) in cells.
        halvings: how often the picture is halved to come to the grid.
    """

    def __init__(
        self, *, picture: int, maps: Sequence[int], width: int, out: int, grid: tuple[int, int], halvings: int
    ) -> None:
        super().__init__()
        if width % GROUPS:
            raise ConfigError(f"an adapter's width must be a multiple of {GROUPS}, not {width}")
        if not picture and not maps:
            raise ConfigError("an adapter needs a picture or a cached map")
        self.grid = grid
        self.stem = Stem(picture, width, halvings=halvings) if picture else None
        self.sources = nn.ModuleList([nn.Conv2d(channels, width, 1) for channels in maps])
        self.blocks = nn.ModuleList([Residual(width, dilation=dilation) for dilation in DILATIONS])
        self.norm = nn.GroupNorm(GROUPS, width)
        self.out = nn.Conv2d(width, out, 1)

    def forward(
        self, picture: Float[torch.Tensor, "b _ h w"] | None, maps: Sequence[Float[torch.Tensor, "b _ _ _"]]
    ) -> Float[torch.Tensor, "b d gh gw"]:
        """Unit vectors on the grid.

        Args:
            picture: at the grid's size times two to the power of the halvings.
            maps: of any grids; each is brought to unit length a cell, then to the grid.

        Raises:
            ConfigError: a picture of another size, or none where one is needed.
        """
        parts = [source(_unit_cells(values, self.grid)) for source, values in zip(self.sources, maps, strict=True)]
        if self.stem is not None:
            parts.append(self._on_grid(self.stem, picture))
        x = torch.stack(parts).sum(0)
        for block in self.blocks:
            x = block(x)
        return _unit(self.out(functional.silu(self.norm(x))))

    def _on_grid(self, stem: Stem, picture: Float[torch.Tensor, "b _ h w"] | None) -> Float[torch.Tensor, "b d gh gw"]:
        wanted = tuple(side << stem.halvings for side in self.grid)
        if picture is None or tuple(picture.shape[2:]) != wanted:
            given = "none" if picture is None else " x ".join(map(str, picture.shape[2:]))
            raise ConfigError(
                f"an adapter for a grid of {self.grid[0]} x {self.grid[1]} cells takes pictures of {wanted[0]} x "
                f"{wanted[1]} pixels, not {given}"
            )
        result: torch.Tensor = stem(picture)
        return result


def _unit_cells(maps: Float[torch.Tensor, "b c _ _"], grid: tuple[int, int]) -> Float[torch.Tensor, "b c gh gw"]:
    """On the grid, of values about 1 whatever the number of channels."""
    scaled: torch.Tensor = resize(_unit(maps.float()), grid) * float(maps.shape[1]) ** 0.5
    return scaled


def _unit(maps: Float[torch.Tensor, "b c gh gw"]) -> Float[torch.Tensor, "b c gh gw"]:
    return unit(maps.movedim(1, -1)).movedim(-1, 1)
