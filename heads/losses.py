"""Losses over descriptors and keypoints."""

import torch
from jaxtyping import Float, Int
from torch.nn import functional

LOGIT_SCALE = 1 / 0.07
"""The constant scale of CLIP's initialisation; it is never trained. Source: Diffusion Hyperfeatures §4.3."""


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
