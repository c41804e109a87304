"""The contextual loss: every position of a picture shall have its like somewhere in the exemplar.

Source: Mechrez et al., ECCV 2018 (arXiv 1803.02077), in the direction of CoCosNet §3: the best match is
sought in the exemplar.
"""

import torch
from jaxtyping import Float, Int
from torch.utils.checkpoint import checkpoint

from matchkit.core.errors import ConfigError
from matchkit.core.similarity import unit

BANDWIDTH = 0.1
"""h: how sharply the best is told from the second best, as published."""
EPSILON = 1e-3
"""Added to the distance of the best, as published; the original loss has 1e-5."""
ROWS = 512
"""Positions of the picture whose distances to all of the exemplar's are held at a time."""


def contextual(
    x: Float[torch.Tensor, "b c h w"],
    y: Float[torch.Tensor, "b c h2 w2"],
    *,
    rows: int = ROWS,
    sample: int | None = None,
    draw: torch.Generator | None = None,
    bandwidth: float = BANDWIDTH,
    epsilon: float = EPSILON,
) -> Float[torch.Tensor, ""]:
    """Minus the log of the mean share that a position's best match has of all its matches; mean over the batch.

    Both sets are centred by the mean of the exemplar's features over its positions. The published code centres each
    position of the picture by the exemplar's at the same place, to which it does not belong (CoCosNet §7.2 no. 5); here
    the order of the exemplar's positions does not count, and equal sets have a loss of 0.

    Args:
        x: features of a picture.
        y: features of its exemplar.
        rows: positions of the picture, of each sample, that are compared at a time. More than these are never kept,
            nor for the gradient: it computes them anew.
        sample: how many of the picture's positions are compared, the same ones of each sample; None for all. All of the
            exemplar's always are.
        draw: the generator, on the CPU, of that sample.
        bandwidth: of the similarities.
        epsilon: added to the distance of the best match.

    Raises:
        ConfigError: a sample without a generator.
    """
    mean = y.mean((2, 3), keepdim=True)
    of_x, of_y = (unit((maps - mean).flatten(2).transpose(1, 2)) for maps in (x, y))
    if sample is not None and sample < of_x.shape[1]:
        of_x = of_x[:, _drawn(of_x.shape[1], sample, draw).to(x.device)]
    blocks = of_x.split(rows, dim=1)
    if len(blocks) == 1:
        best = _best_shares(of_x, of_y, bandwidth, epsilon)
    else:
        shares = [
            checkpoint(*(_best_shares, block, of_y, bandwidth, epsilon), use_reentrant=False, preserve_rng_state=False)
            for block in blocks
        ]
        best = torch.cat(shares, 1)
    return -best.mean(1).log().mean()


def _best_shares(
    x: Float[torch.Tensor, "b rows c"], y: Float[torch.Tensor, "b n c"], bandwidth: float, epsilon: float
) -> Float[torch.Tensor, "b rows"]:
    """The greatest A_ij of each i: one over the sum of all w_ij relative to the greatest."""
    distances = 1 - x @ y.transpose(1, 2)
    least = distances.amin(2, keepdim=True)
    return (-((least - distances) / ((least + epsilon) * bandwidth)).logsumexp(2)).exp()


def _drawn(positions: int, sample: int, draw: torch.Generator | None) -> Int[torch.Tensor, " n"]:
    if draw is None:
        raise ConfigError(f"a sample of {sample} of {positions} positions needs a generator to draw it")
    return torch.randperm(positions, generator=draw)[:sample]
