"""Descriptors of a pair made small enough for a page: few dimensions, one byte each, and what that costs."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Int, Int8

from matchkit.core.similarity import cells, unit

RANK = 32
"""The most dimensions that are kept."""
MOST_BYTES = 400_000
"""Of both descriptor maps of a pair; a fine grid gets fewer dimensions."""
BLOCK = 1024
"""Cells of the source that are compared at a time: 4,096 cells of a target take 16 MB."""
LEVELS = 127
SAMPLED = 4096
"""Cells of the source, evenly apart, of which the agreement is measured; a grid of 64 x 64 has no more."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """Both descriptor maps of a pair, reduced.

    Attributes:
        source: cells of the source's grid.
        target: cells of the target's.
        scales: what a step of each dimension is worth.
        kept: the share in 0..1 of the unit descriptors' squared lengths within the kept dimensions.
        same: the share in 0..1 of the source's cells whose most similar cell of the target stayed the same.
        near: the share whose most similar cell moved by at most one cell in x and in y.
    """

    source: Int8[np.ndarray, "sh sw k"]
    target: Int8[np.ndarray, "gh gw k"]
    scales: Float[np.ndarray, " k"]
    kept: float
    same: float
    near: float

    def descriptors(self) -> tuple[Float[torch.Tensor, "k sh sw"], Float[torch.Tensor, "k gh gw"]]:
        """Both maps as the page computes with them."""
        source, target = (
            torch.from_numpy((values * self.scales).astype(np.float32)).movedim(-1, 0)
            for values in (self.source, self.target)
        )
        return source, target


def reduce(
    source: Float[torch.Tensor, "d sh sw"], target: Float[torch.Tensor, "d gh gw"], *, rank: int = RANK
) -> Reduced:
    """Projects the unit descriptors of both maps onto their common principal axes, and rounds to int8.

    The axes go through zero, not through the mean: the products of the projections are then the best approximation of
    the cosines that so few dimensions allow, in the sense of least squares over all pairs of cells (Eckart and Young,
    Psychometrika 1, 1936). Each dimension is rounded to 255 steps of its own.
    """
    rows = torch.cat([unit(cells(values.detach().cpu().float())) for values in (source, target)])
    split = source.shape[1] * source.shape[2]
    rank = max(1, min(rank, MOST_BYTES // len(rows), *rows.shape))
    projected, kept = _project(rows.numpy(), rank)
    steps = np.abs(projected).max(axis=0) / LEVELS
    scales = np.where(steps > 0, steps, 1).astype(np.float32)
    small = np.rint(projected / scales).astype(np.int8)
    same, near = _agreement(rows, torch.from_numpy(small * scales), split=split, width=target.shape[2])
    return Reduced(
        source=small[:split].reshape(*source.shape[1:], rank),
        target=small[split:].reshape(*target.shape[1:], rank),
        scales=scales,
        kept=kept,
        same=same,
        near=near,
    )


def _project(rows: Float[np.ndarray, "n d"], rank: int) -> tuple[Float[np.ndarray, "n k"], float]:
    """The rows on their first principal axes, and the share of their squared lengths that lies there."""
    wide = rows.shape[1] > rows.shape[0]
    gram = rows @ rows.T if wide else rows.T @ rows
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=[len(gram) - rank, len(gram) - 1])
    values = np.maximum(values[::-1], 0)
    axes = vectors[:, ::-1]
    projected = axes * np.sqrt(values) if wide else rows @ axes
    total = float(np.trace(gram))
    return np.asarray(projected, np.float32), float(values.sum()) / total if total else 1.0


def _agreement(
    full: Float[torch.Tensor, "n d"], small: Float[torch.Tensor, "n k"], *, split: int, width: int
) -> tuple[float, float]:
    """The share of the first `split` rows whose nearest other row is the same, and at most a cell off."""
    every = -(-split // SAMPLED)
    before, after = (_nearest(rows[:split:every], rows[split:]) for rows in (full, small))
    dx = (before % width - after % width).abs()
    dy = (before // width - after // width).abs()
    return float((before == after).float().mean()), float(((dx <= 1) & (dy <= 1)).float().mean())


def _nearest(rows: Float[torch.Tensor, "m k"], others: Float[torch.Tensor, "n k"]) -> Int[torch.Tensor, " m"]:
    """For each row the one of the others with the greatest cosine."""
    columns = unit(others).T
    return torch.cat([(block @ columns).argmax(1) for block in rows.split(BLOCK)])
