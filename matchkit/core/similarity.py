"""Descriptors compared: sampled at points, normalised, and their cosines."""

import torch
from jaxtyping import Float
from torch.nn import functional

EPSILON = 1e-12
"""Below this length a descriptor counts as zero and is left so, instead of becoming NaN."""


def unit(descriptors: Float[torch.Tensor, "*b d"]) -> Float[torch.Tensor, "*b d"]:
    """Descriptors at length one along the last axis; a zero descriptor stays zero."""
    return functional.normalize(descriptors, dim=-1, eps=EPSILON)


def cells(descriptors: Float[torch.Tensor, "d gh gw"]) -> Float[torch.Tensor, "gh*gw d"]:
    """A descriptor map as one row a cell, row-major."""
    return descriptors.flatten(1).T


def sample(
    descriptors: Float[torch.Tensor, "d gh gw"], points: Float[torch.Tensor, "n 2"]
) -> Float[torch.Tensor, "n d"]:
    """Descriptors at (x, y) points of the grid frame, bilinear; points outside take the border's value."""
    height, width = descriptors.shape[-2:]
    size = torch.tensor([width, height], dtype=points.dtype, device=points.device)
    normalised = (points + 0.5) / size * 2 - 1
    sampled = functional.grid_sample(
        descriptors[None], normalised[None, None].to(descriptors), padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T


def resize(maps: Float[torch.Tensor, "b c gh gw"], grid: tuple[int, int]) -> Float[torch.Tensor, "b c h w"]:
    """Maps at another grid (height, width), bilinear with cell centres aligned (`align_corners=False`)."""
    if maps.shape[-2:] == grid:
        return maps
    return functional.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
