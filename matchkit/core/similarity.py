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


def cosines(
    queries: Float[torch.Tensor, "n d"], descriptors: Float[torch.Tensor, "d gh gw"]
) -> Float[torch.Tensor, "n gh gw"]:
    """The cosine of each query with every cell of a descriptor map; with a zero descriptor it is 0.

    The products are divided by the lengths of the cells, so a map of normalised cells is never written.
    """
    products: torch.Tensor = unit(queries) @ descriptors.flatten(1)
    found: torch.Tensor = products.unflatten(1, descriptors.shape[1:]) / _lengths(descriptors).clamp_min(EPSILON)
    return found


def _lengths(descriptors: Float[torch.Tensor, "d gh gw"]) -> Float[torch.Tensor, "gh gw"]:
    """Those of the cells, in single precision at least."""
    precision = torch.promote_types(descriptors.dtype, torch.float32)
    if descriptors.stride(0) == 1:  # the channels lie last in memory: no squares are written
        lengths: torch.Tensor = torch.linalg.vector_norm(descriptors, dim=0, dtype=precision)
        return lengths
    # not `vector_norm`: across the channels of channels-first memory torch takes 5 to 20 times as long for it
    return descriptors.to(precision).square().sum(0).sqrt()


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


def peaks(scores: Float[torch.Tensor, "n h w"]) -> Float[torch.Tensor, "n 2"]:
    """The (x, y) cell of each map's greatest value, the first one in row-major order where there are several."""
    best = scores.flatten(1).argmax(1)
    return torch.stack([best % scores.shape[2], best // scores.shape[2]], 1).to(scores)


def soft_argmax(scores: Float[torch.Tensor, "n h w"], temperature: float) -> Float[torch.Tensor, "n 2"]:
    """The expected (x, y) in the grid frame, under the softmax of each map at a temperature."""
    shares = (scores / temperature).flatten(1).softmax(1).unflatten(1, scores.shape[1:])
    ys, xs = (torch.arange(size).to(scores) for size in scores.shape[1:])
    return torch.stack([shares.sum(1) @ xs, shares.sum(2) @ ys], 1)


def windowed(scores: Float[torch.Tensor, "n h w"], reach: int, outside: float) -> Float[torch.Tensor, "n h w"]:
    """Each map with `outside` in all cells that lie more than `reach` cells, in x or in y, from its peak."""
    dx, dy = _from_peak(scores)
    return scores.masked_fill((dx.abs() > reach) | (dy.abs() > reach), outside)


def kernelled(scores: Float[torch.Tensor, "n h w"], sigma: float) -> Float[torch.Tensor, "n h w"]:
    """Each map times a Gaussian of `sigma` cells about its peak, where it is one."""
    dx, dy = _from_peak(scores)
    return scores * torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))


def _from_peak(
    scores: Float[torch.Tensor, "n h w"],
) -> tuple[Float[torch.Tensor, "n 1 w"], Float[torch.Tensor, "n h 1"]]:
    """How far each column and row of each map is from its peak, in cells."""
    peak = peaks(scores)
    ys, xs = (torch.arange(size).to(scores) for size in scores.shape[1:])
    return xs[None, None] - peak[:, :1, None], ys[None, :, None] - peak[:, 1:, None]
