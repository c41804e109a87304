"""Payloads of any size warped by a match on its grid: as patches where they are finer, as the grid's cells else."""

import torch
from jaxtyping import Float
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.matching import Match


def warped_payload(match: Match, payload: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b c h w"]:
    """The payload where the condition wants it, at its own size.

    A finer one is cut into patches, one a cell, which are warped whole, so that it keeps its detail (CoCosNet §1.4,
    `warp_patch`, at any size); each cell of a coarser one stands for as many cells of the grid.

    Raises:
        ConfigError: one of the two sizes is no multiple of the other.
    """
    (height, width), (rows, columns) = payload.shape[2:], match.grid
    if height % rows == 0 and width % columns == 0 and height // rows == width // columns:
        patch = height // rows
        return functional.pixel_shuffle(match.warp(functional.pixel_unshuffle(payload, patch)), patch)
    if rows % height == 0 and columns % width == 0:
        finer = functional.interpolate(payload, size=match.grid, mode="nearest-exact")
        return functional.adaptive_avg_pool2d(match.warp(finer), (height, width))
    raise ConfigError(
        f"a payload of {height} x {width} neither cuts into patches on a grid of {rows} x {columns} cells nor does the "
        "grid into its cells: extract it at another size, or fit a head with another grid"
    )
