"""Losses over descriptors and keypoints."""

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from matchkit.core.similarity import unit

LOGIT_SCALE = 1 / 0.07
"""The constant scale of CLIP's initialisation; it is never trained. Source: Diffusion Hyperfeatures §4.3."""
FAR = 0.1
"""Weight of a far cell in `self_contrast`. Source: GeoAware-SC §3.1."""
BESIDE = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
"""From a cell to its eight neighbours, in row-major order."""


def symmetric_cross_entropy(
    source: Float[torch.Tensor, "cells d"],
    target: Float[torch.Tensor, "cells d"],
    source_cells: Int[torch.Tensor, " n"],
    target_cells: Int[torch.Tensor, " n"],
) -> Float[torch.Tensor, ""]:
    """Cross-entropy of every keypoint over all cells of the other image, mean of the two directions.

    The descriptors are at unit length; cells are flat row-major indices. Only the rows of the keypoints are ever
    compared with the other image, which equals the published cells x cells matrix and its transpose.
    Source: Diffusion Hyperfeatures §5.1.
    """
    forward = LOGIT_SCALE * source[source_cells] @ target.T
    backward = LOGIT_SCALE * target[target_cells] @ source.T
    return (functional.cross_entropy(forward, target_cells) + functional.cross_entropy(backward, source_cells)) / 2


def contrastive(
    source: Float[torch.Tensor, "n d"], target: Float[torch.Tensor, "n d"], scale: Float[torch.Tensor, ""]
) -> Float[torch.Tensor, ""]:
    """Cross-entropy of every keypoint over the other image's keypoints, mean of the two directions.

    The descriptors are at unit length; row i of one belongs to row i of the other. Source: GeoAware-SC §3.1.
    """
    logits = scale * source @ target.T
    rows = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, rows) + functional.cross_entropy(logits.T, rows)) / 2


def end_point_error(
    source: Float[torch.Tensor, "n d"],
    target: Float[torch.Tensor, "cells d"],
    flow: Float[torch.Tensor, "n 2"],
    cells: Int[torch.Tensor, " n"],
    *,
    grid: tuple[int, int],
    temperature: float,
) -> Float[torch.Tensor, ""]:
    """Mean distance in cells between the flow of a soft-argmax over the target and that of the keypoints.

    Only the keypoints' rows of the correlation are made. The soft-argmax starts from a keypoint's cell, the flow from
    the keypoint: its place within the cell is lost, as published. Source: GeoAware-SC §3.1.

    Args:
        source: descriptors of the keypoints' cells, at unit length.
        target: descriptors of all cells, at unit length, row-major.
        flow: from the source's keypoints to the target's, (x, y) in cells.
        cells: of the source's keypoints, flat and row-major.
        grid: (height, width) in cells.
        temperature: of the softmax.
    """
    height, width = grid
    every = torch.arange(height * width, device=target.device)
    places = torch.stack([every % width, every // width], 1).to(target)
    expected = (source @ target.T / temperature).softmax(1) @ places
    errors: torch.Tensor = torch.linalg.vector_norm(expected - places[cells] - flow, dim=1)
    return errors.mean()


def self_contrast(descriptors: Float[torch.Tensor, "b d gh gw"], *, draw: torch.Generator) -> Float[torch.Tensor, ""]:
    """One minus each cell's cosine with its neighbours, plus a tenth of that with a far cell; mean over all cells.

    The published code has this loss and leaves it off; of it is known that the similarity to the eight neighbours is
    driven up, and that to a random cell which is none down, times 0.1 (GeoAware-SC §3.1). Chosen here: the similarity
    is the cosine without a scale; a cell's neighbours, fewer at the border, are averaged; the far cell is drawn
    uniformly from all cells that are neither the cell nor its neighbours, one for each cell and image; a cell of a grid
    so small that there is none has no far term.

    Args:
        descriptors: of some images; they need not be at unit length.
        draw: the generator, on the CPU, of the far cells.
    """
    grid = (descriptors.shape[2], descriptors.shape[3])
    rows = unit(descriptors.movedim(1, -1).flatten(1, 2))
    beside = neighbours(grid)
    there = beside >= 0
    # a neighbour that is not there is looked up as cell 0, and its cosine does not count
    near = torch.stack([(rows * rows[:, cells]).sum(2) for cells in beside.clamp_min(0).T.to(rows.device)], 2)
    counts = there.sum(1).clamp_min(1).to(rows.device)
    loss = 1 - (near * there.to(rows.device)).sum(2) / counts
    far, drawn = far_cells(beside, images=len(rows), draw=draw)
    at_far = rows.gather(1, far.to(rows.device)[..., None].expand_as(rows))
    return (loss + FAR * (rows * at_far).sum(2) * drawn.to(rows.device)).mean()


def neighbours(grid: tuple[int, int]) -> Int[torch.Tensor, "cells 8"]:
    """The flat row-major neighbours of each cell of a grid (height, width) in ascending order, -1 outside it."""
    ys, xs = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
    steps = torch.tensor(BESIDE)
    y, x = ys.flatten()[:, None] + steps[:, 0], xs.flatten()[:, None] + steps[:, 1]
    inside = (y >= 0) & (y < grid[0]) & (x >= 0) & (x < grid[1])
    return torch.where(inside, y * grid[1] + x, -1)


def far_cells(
    beside: Int[torch.Tensor, "cells 8"], *, images: int, draw: torch.Generator
) -> tuple[Int[torch.Tensor, "b cells"], Bool[torch.Tensor, " cells"]]:
    """A random cell for each cell of each image that is neither itself nor its neighbour, and where there is one.

    The n-th of the cells that are left is found by stepping over those that are not, in ascending order.
    """
    cells = len(beside)
    own = torch.arange(cells)[:, None]
    taken = torch.cat([beside, own], 1)
    left = cells - (taken >= 0).sum(1)
    far = (torch.rand(images, cells, generator=draw, dtype=torch.float64) * left).long()
    for near in taken.where(taken >= 0, cells).sort(1).values.T:
        far += far >= near
    return far.clamp_max(cells - 1), left > 0
