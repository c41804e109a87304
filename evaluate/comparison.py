"""Whether one method beats another on the same pairs: how sure, and what could have been seen at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair
from matchkit.evaluate.clusters import Ends, Sharing
from matchkit.evaluate.resampling import BLOCK, CONFIDENCE, RESAMPLES, Group, group_intervals, grouped

SWAPS = 1999
POWER = 0.8
LEAST = 1e-9
"""Of a difference, the least that its standard error is taken for: where all pairs say the same it is nothing."""
Masks = Mapping[str, Bool[np.ndarray, " n"]]
NO_BREAKDOWNS: Mapping[str, Masks] = MappingProxyType({})
Place = tuple[str, str]
"""A group of keypoints: what it is a part of, and its name."""
OVERALL: Place = ("", "")
CATEGORIES = ""
Verdicts = Sequence[Bool[np.ndarray, " _"]]


@dataclass(frozen=True, slots=True)
class Compared:
    """Two methods on the same keypoints, in percent.

    Attributes:
        before, after: the score of each.
        difference: after - before.
        low, high: its 95 % interval over images drawn anew; -100 and 100 where nothing is known of other images.
        p: how often methods that are equal would differ at least so much, in 0..1; see `swap_test`.
        adjusted: p among its kind by Holm, Scandinavian Journal of Statistics 6(2), 1979: of the categories, or of the
            parts of a breakdown. One of those below 0.05 is by luck in at most 5 of 100 such tables.
        detectable: the least true difference that a test at 5 % finds with 80 % probability, on pairs like these.
        pairs, keypoints: how many were compared.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    detectable: float
    pairs: int
    keypoints: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods on all pairs, on those of each category, and on each part of each breakdown."""

    overall: Compared
    categories: Mapping[str, Compared]
    breakdowns: Mapping[str, Mapping[str, Compared]]


def compare(
    before: Verdicts,
    after: Verdicts,
    pairs: Sequence[Pair],
    *,
    breakdowns: Mapping[str, Masks] = NO_BREAKDOWNS,
    average: Literal["keypoint", "image"] = "keypoint",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compares the verdicts of two methods on each pair's keypoints.

    Args:
        before: of the first, by pair, whether each of its keypoints is correct.
        after: of the second.
        pairs: whose keypoints they are; those without a keypoint count nowhere.
        breakdowns: masks over the keypoints of all pairs, one pair after another.
        average: over all keypoints at once, or over pairs of each pair's own share.
        resamples: how often images are drawn anew for the intervals.
        seed: of the draws and the swaps.

    Raises:
        DatasetError: no pair has a keypoint.
    """
    counts = [len(verdicts) for verdicts in before]
    if not sum(counts):
        raise DatasetError("none of the pairs to be compared on has a keypoint")
    first, second = (np.concatenate(list(verdicts)).astype(np.int64) for verdicts in (before, after))
    pair = np.repeat(np.arange(len(pairs)), counts)
    categories, rows = np.unique([told.category for told in pairs], return_inverse=True)
    masks = {OVERALL: np.ones(len(pair), dtype=bool)}
    masks |= {(CATEGORIES, str(name)): rows[pair] == row for row, name in enumerate(categories)}
    masks |= {(kind, name): mask for kind, parts in breakdowns.items() for name, mask in parts.items()}
    groups = grouped(np.column_stack([first, second, second - first]), pair, masks)
    if average == "image":
        groups = {place: group.a_pair() for place, group in groups.items()}
    gains = {place: replace(group, won=group.won[:, 2:]) for place, group in groups.items()}
    intervals = group_intervals(gains, pairs, lowest=-100.0, resamples=resamples, seed=seed)
    found: dict[str, dict[str, Compared]] = {kind: {} for kind in (CATEGORIES, *breakdowns)}
    ends = Ends.of(pairs)
    for place, group in groups.items():
        mask = masks[place]
        compared = _compared(group, ends.take(group.rows), intervals[place][0], keypoints=int(mask.sum()), seed=seed)
        if place == OVERALL:
            overall = compared
        else:
            found[place[0]][place[1]] = compared
    adjusted = {kind: _adjusted(parts) for kind, parts in found.items()}
    return Comparison(overall, adjusted.pop(CATEGORIES), adjusted)


def swap_test(change: Float[np.ndarray, " p"], ends: Ends, sharing: Sharing, *, seed: int = 0) -> float:
    """The p value, two-sided, of what the second method wins on each pair, by swapping the methods.

    Of methods that are equal either one could have made the predictions on a target image: swapped are all predictions
    on a target at once, as these stray together. That makes the test exact where the methods are equal on every image.
    But equal may also be methods of which each is better on some images; then pairs of one source stray together, too,
    which swapped targets do not. So what is compared is the difference over its standard error (`Sharing.spread`),
    which is computed for every swap anew. Source: Chung and Romano, Exact and asymptotically robust permutation tests,
    Annals of Statistics 41(2), 2013.

    Of n targets no p is below 2 / 2 ** n. Where nothing is known of other images it is 1.
    """
    if not sharing.known or not change.any():
        return 1.0
    targets, rows = np.unique(ends.target, return_inverse=True)

    def statistic(signs: Float[np.ndarray, "..."], axis: int) -> Float[np.ndarray, "..."]:
        swaps = np.moveaxis(signs, axis, 0).reshape(len(targets), -1)
        spread = sharing.spread(swaps[rows] * change[:, None])
        found = spread.share / np.maximum(spread.error, np.maximum(LEAST * np.abs(spread.share), LEAST**2))
        return np.asarray(found.reshape(np.moveaxis(signs, axis, 0).shape[1:]))

    swapped = stats.permutation_test(
        (np.ones(len(targets)),),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=SWAPS,
        batch=BLOCK,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(swapped.pvalue)


def detectable_difference(error: float, freedom: float) -> float:
    """The least true difference that a two-sided test at 5 % finds with 80 % probability, in the unit of `error`.

    Source: Bloom, Minimum detectable effects, Evaluation Review 19(5), 1995.
    """
    return float(error * (stats.t.ppf((1 + CONFIDENCE) / 2, freedom) + stats.t.ppf(POWER, freedom)))


def holm(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """P values of which at least one below 5 % is by luck in at most 5 % of all tables."""
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _compared(group: Group, ends: Ends, interval: Float[np.ndarray, " 2"], *, keypoints: int, seed: int) -> Compared:
    sharing = Sharing(ends, group.counts)
    spread = sharing.spread(group.won)
    p = swap_test(group.won[:, 2].astype(np.float64), ends, sharing, seed=seed)
    detectable = 100 * detectable_difference(float(spread.error[2]), float(spread.freedom[2]))
    before, after, difference = (100 * float(share) for share in spread.share)
    return Compared(
        before=before,
        after=after,
        difference=difference,
        low=float(interval[0]),
        high=float(interval[1]),
        p=p,
        adjusted=p,
        detectable=min(detectable, 100.0) if sharing.known else 100.0,
        pairs=len(group.rows),
        keypoints=keypoints,
    )


def _adjusted(parts: Mapping[str, Compared]) -> dict[str, Compared]:
    adjusted = holm(np.array([part.p for part in parts.values()]))
    return {name: replace(part, adjusted=float(p)) for (name, part), p in zip(parts.items(), adjusted, strict=True)}
