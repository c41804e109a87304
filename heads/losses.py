"""Losses over descriptors and keypoint cells."""

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
