"""Images drawn anew, and what becomes of shares over their pairs. Numpy alone."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

from matchkit.core.records import Pair
from matchkit.evaluate.clusters import Ends, Sharing, Spread

RESAMPLES = 2000
CONFIDENCE = 0.95
BLOCK = 100
"""Resamplings that are summed together: 12,234 pairs take 10 MB an array."""
CLOSEST = 1e-9
"""How close a share may come to 0 and 1, so that its odds are finite."""
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Group:
    """What some of the pairs won and counted: those of a category, or those with a keypoint of a part.

    Attributes:
        rows: of these pairs among all.
        won: k sums of each pair.
        counts: what each pair counts, above 0.
    """

    rows: Int[np.ndarray, " q"]
    won: Real[np.ndarray, "q k"]
    counts: Real[np.ndarray, " q"]

    def a_pair(self) -> "Group":
        """Every pair's own share of its keypoints, each pair counting alike: the average `image`."""
        return Group(self.rows, self.won / self.counts[:, None], np.ones(len(self.rows)))


def grouped(
    correct: Shaped[np.ndarray, "n k"],
    pair: Int[np.ndarray, " n"],
    masks: Mapping[Name, Bool[np.ndarray, " n"]],
) -> dict[Name, Group]:
    """The groups of keypoints under each mask, by the row of each keypoint's pair; an empty mask has none.

    `correct` is 0 or 1 by keypoint, and -1 where a difference of two methods is a loss.
    """
    found = {}
    for name, mask in masks.items():
        rows, local = np.unique(pair[mask], return_inverse=True)
        if len(rows):
            won = np.stack([np.bincount(local, column) for column in correct[mask].T], axis=1)
            found[name] = Group(rows, won, np.bincount(local))
    return found


def share_intervals(
    won: Real[np.ndarray, "p k"],
    counts: Real[np.ndarray, " p"],
    pairs: Sequence[Pair],
    *,
    lowest: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Float[np.ndarray, "k 2"]:
    """The 95 % intervals, in percent, of k sums won by p pairs over the sum counted; see `group_intervals`.

    Every pair counts something.
    """
    everything = {"": Group(np.arange(len(pairs)), won, counts)}
    return group_intervals(everything, pairs, lowest=lowest, resamples=resamples, seed=seed)[""]


def group_intervals(
    groups: Mapping[Name, Group],
    pairs: Sequence[Pair],
    *,
    lowest: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[Name, Float[np.ndarray, "k 2"]]:
    """The 95 % intervals, in percent, of the k shares of each group, over images drawn anew from each category.

    A pair counts as often as its source was drawn times as often as its target, for all groups at once (the product of
    weights of Owen and Eckles, Bootstrapping data arrays of arbitrary order, Annals of Applied Statistics 6(3), 2012).
    Such draws count what strays by pairs three times, and miss that a share of few images was fitted to them. So how
    far they lie off is set to the standard error of `clusters`, and divided by the root of a chi-squared over its
    degrees of freedom, so that what was normal is Student's t. An interval reaches as far to both sides: percentiles
    reach to the wrong one where draws are skewed (Hall, On symmetric bootstrap confidence intervals, Journal of the
    Royal Statistical Society B 50(1), 1988). It does so on the scale of the share's log odds, and stays within 0 to
    100; that of a difference (`lowest` below 0) on its own. Of a share that is 0 or 100 the far end is the exact one of
    as many draws as there are clusters. How often all this holds the truth: docs/statistics.md.

    Memory is bound by a block of resamplings. What says nothing of other images, as a single pair, has the interval of
    `lowest` to 100.
    """
    ends = Ends.of(pairs)
    sums = {name: np.empty((resamples, 1 + group.won.shape[1])) for name, group in groups.items()}
    # whole numbers below 2 ** 53 in float64: their sums are exact, and BLAS adds them, but not integers
    columns = {name: np.column_stack([group.won, group.counts]).astype(float) for name, group in groups.items()}
    start = 0
    for times in _drawn(ends, resamples, seed):
        weights = times[:, ends.source] * times[:, ends.target]
        for name, group in groups.items():
            chosen = weights if len(group.rows) == len(pairs) else weights[:, group.rows]
            sums[name][start : start + len(times)] = chosen @ columns[name]
        start += len(times)
    found = {}
    for name, group in groups.items():
        sharing = Sharing(ends.take(group.rows), group.counts)
        if not sharing.known:
            found[name] = np.tile([lowest, 100.0], (group.won.shape[1], 1))
            continue
        # of few images none may be drawn together with one that it makes a pair with
        drawn = sums[name][sums[name][:, -1] > 0]
        spread, shares = sharing.spread(group.won), drawn[:, :-1] / drawn[:, -1:]
        found[name] = 100 * _ends(spread, shares, sharing, lowest=lowest / 100, seed=seed)
    return found


def _drawn(ends: Ends, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "b i"]]:
    """How often each image is drawn, in blocks of resamplings; an image is drawn for both of its roles at once."""
    category = np.empty(ends.images, np.int64)
    category[ends.target], category[ends.source] = ends.category, ends.category
    members = [np.flatnonzero(category == row) for row in np.unique(category)]
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        times = np.empty((min(BLOCK, resamples - start), ends.images))
        for images in members:
            times[:, images] = generator.multinomial(len(images), np.full(len(images), 1 / len(images)), len(times))
        yield times


def _ends(
    spread: Spread, shares: Float[np.ndarray, "r k"], sharing: Sharing, *, lowest: float, seed: int
) -> Float[np.ndarray, "k 2"]:
    """The interval of each share by its draws, in 0..1."""
    found = np.empty((len(spread.share), 2))
    for row, (share, error, freedom) in enumerate(zip(spread.share, spread.error, spread.freedom, strict=True)):
        off = np.sqrt(np.mean((shares[:, row] - share) ** 2))
        if lowest == 0 and share in (0, 1):
            found[row] = _one_sided(float(share), sharing.clusters)
        elif error == 0 or off == 0:
            found[row] = share
        else:
            # the same draws for every column: an interval does not depend on what else is asked for
            stretch = error / off / np.sqrt(np.random.default_rng(seed).chisquare(freedom, len(shares)) / freedom)
            found[row] = _around(float(share), shares[:, row], stretch, lowest=lowest)
    return found


def _around(
    share: float, shares: Float[np.ndarray, " r"], stretch: Float[np.ndarray, " r"], *, lowest: float
) -> Float[np.ndarray, " 2"]:
    """As far to either side as 95 % of the drawn shares lie off, so many times as far as they do."""
    sides = np.array([-1, 1])
    if lowest < 0:
        reach = np.quantile(stretch * np.abs(shares - share), CONFIDENCE)
        return np.asarray(np.clip(share + sides * reach, lowest, 1))
    reach = np.quantile(stretch * np.abs(_odds(shares) - _odds(share)), CONFIDENCE)
    return np.asarray(1 / (1 + np.exp(-(_odds(share) + sides * reach))))


def _odds(share: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    inner = np.clip(share, CLOSEST, 1 - CLOSEST)
    return np.asarray(np.log(inner / (1 - inner)))


def _one_sided(share: float, clusters: float) -> tuple[float, float]:
    """The interval of Clopper and Pearson (Biometrika 26, 1934) where all of some draws say the same."""
    far = ((1 - CONFIDENCE) / 2) ** (1 / clusters)
    return (far, 1.0) if share else (0.0, 1 - far)
