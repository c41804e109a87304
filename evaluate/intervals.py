"""How sure a number is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import bootstrap

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair
from matchkit.evaluate.resampling import CONFIDENCE, RESAMPLES, share_intervals


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Two methods on the same keypoints, in percent of correct keypoints.

    Attributes:
        before, after: the PCK of each.
        difference: after - before.
        low, high: the 95 % interval of the difference, over resamplings of the pairs; -100 and 100 where one pair alone
            has keypoints and the verdicts differ, as nothing is known then.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float


def paired_difference(
    before: Sequence[Bool[np.ndarray, " _"]], after: Sequence[Bool[np.ndarray, " _"]], *, seed: int = 0
) -> PairedDifference:
    """Compares the verdicts on each pair's keypoints; a pair is resampled whole, as its keypoints are not independent.

    Pairs without keypoints count nowhere.

    Raises:
        DatasetError: no pair has a keypoint.
    """
    both = [verdicts for verdicts in zip(before, after, strict=True) if len(verdicts[0])]
    if not both:
        raise DatasetError("none of the pairs to be compared on has a keypoint")
    counts = np.array([len(verdicts) for verdicts, _ in both])
    first = np.array([int(verdicts.sum()) for verdicts, _ in both])
    second = np.array([int(verdicts.sum()) for _, verdicts in both])
    change, total = second - first, int(counts.sum())
    low, high = _interval(change, counts, seed=seed) if change.any() else (0.0, 0.0)
    return PairedDifference(
        before=100 * int(first.sum()) / total,
        after=100 * int(second.sum()) / total,
        difference=100 * int(change.sum()) / total,
        low=low,
        high=high,
    )


def _interval(change: Int[np.ndarray, " n"], counts: Int[np.ndarray, " n"], *, seed: int) -> tuple[float, float]:
    """The percentile bootstrap of a ratio of sums (Efron and Tibshirani 1993, ch. 13), by scipy."""

    def gain(won: Int[np.ndarray, "..."], total: Int[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
        return np.asarray(100 * won.sum(axis=axis) / total.sum(axis=axis))

    if len(counts) == 1:
        return -100.0, 100.0
    found = bootstrap(
        (change, counts),
        gain,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=100,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


@dataclass(frozen=True, slots=True)
class Interval:
    """A number in percent, and its 95 % interval over resamplings of the images."""

    value: float
    low: float
    high: float


def pck_interval(verdicts: Sequence[Bool[np.ndarray, " _"]], pairs: Sequence[Pair], *, seed: int = 0) -> Interval:
    """The PCK of the verdicts on each pair's keypoints, and how sure it is of other images.

    Pairs that share an image are not independent, and a few unlucky images move many pairs, so images are drawn anew,
    from each category, and stray as far as `clusters` tells (`resampling.group_intervals`). Pairs without keypoints
    count nowhere. A single pair says nothing: 0 to 100.

    Raises:
        DatasetError: no pair has a keypoint.
    """
    return _over_images([int(told.sum()) for told in verdicts], list(map(len, verdicts)), pairs, lowest=0.0, seed=seed)


def gain_interval(
    before: Sequence[Bool[np.ndarray, " _"]],
    after: Sequence[Bool[np.ndarray, " _"]],
    pairs: Sequence[Pair],
    *,
    seed: int = 0,
) -> Interval:
    """What the PCK gains from `before` to `after` on the same keypoints; images are drawn as for `pck_interval`.

    Raises:
        DatasetError: no pair has a keypoint.
    """
    change = [int(now.sum()) - int(then.sum()) for then, now in zip(before, after, strict=True)]
    return _over_images(change, list(map(len, before)), pairs, lowest=-100.0, seed=seed)


def _over_images(
    won: Sequence[int], counts: Sequence[int], pairs: Sequence[Pair], *, lowest: float, seed: int
) -> Interval:
    """100 times the sum won over the sum counted, and its interval; `lowest` is the least it can be."""
    counted = [told for told in zip(won, counts, pairs, strict=True) if told[1]]
    if not counted:
        raise DatasetError("none of the pairs to be compared on has a keypoint")
    sums = np.array([told[:2] for told in counted])
    value = float(100 * sums[:, 0].sum() / sums[:, 1].sum())
    drawn = [pair for _, _, pair in counted]
    low, high = share_intervals(sums[:, :1], sums[:, 1], drawn, lowest=lowest, seed=seed)[0]
    return Interval(value, float(low), float(high))
