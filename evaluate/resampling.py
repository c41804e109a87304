"""Images drawn anew, and what becomes of shares over their pairs. Numpy alone."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from matchkit.core.records import Pair

RESAMPLES = 2000
CONFIDENCE = 0.95
BLOCK = 100
"""Resamplings that are summed together: 12,234 pairs take 10 MB an array."""


def share_intervals(
    won: Int[np.ndarray, "p k"],
    counts: Int[np.ndarray, " p"],
    pairs: Sequence[Pair],
    *,
    lowest: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "k 2"]:
    """The 95 % intervals, in percent, of k sums won by p pairs over the sum counted, by the percentile bootstrap.

    Every pair counts something. Images are drawn as for `intervals.pck_interval`, the same ones for all k. Memory is
    bound by a block of resamplings. A single pair says nothing: `lowest` to 100.
    """
    if len(pairs) == 1:
        return np.tile([lowest, 100.0], (won.shape[1], 1))
    names, ends = np.unique([(pair.source, pair.target) for pair in pairs], return_inverse=True)
    source, target = ends.reshape(-1, 2).T
    # whole numbers below 2 ** 53 in float64: the sums are exact, and BLAS adds them, which it does not do for integers
    columns = np.column_stack([won, counts]).astype(np.float64)
    generator = np.random.default_rng(seed)
    sums = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, BLOCK):
        rows = sums[start : start + BLOCK]
        drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=len(rows))
        times = drawn.astype(np.float64)
        rows[:] = (times[:, source] * times[:, target]) @ columns
    # of few images none may be drawn together with one that it makes a pair with
    total = sums[:, -1:]
    shares = 100 * sums[total[:, 0] > 0, :-1] / total[total > 0][:, None]
    return np.asarray(np.quantile(shares, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0).T)
