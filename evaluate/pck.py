"""PCK: the percentage of correct keypoints. Numpy alone; it reads predictions, never a network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.breakdown import occurrence, parts
from matchkit.evaluate.measured import Measured, measure, verdicts
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.report import Intervals, Part, Report, Scores
from matchkit.evaluate.resampling import group_intervals, grouped
from matchkit.evaluate.subsets import chosen

NO_SCHEMES: Mapping[str, KeypointScheme] = MappingProxyType({})
PLAIN = EvalProtocol()
Correct = Mapping[Reference, Bool[np.ndarray, "n a"]]
"""By reference, whether a keypoint is correct at each alpha."""


def score(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    predictions: Predictions,
    protocol: EvalProtocol,
    *,
    schemes: Mapping[str, KeypointScheme] = NO_SCHEMES,
) -> Report:
    """Scores predictions of `pairs`, or of those among them that count, under a protocol.

    Averages: `keypoint` over all keypoints at once; `image` over pairs of each pair's own share; `category` over
    categories of each category's `image` average; `category-keypoint` over categories of each category's `keypoint`
    average; `pair-weighted` the same, weighted by each category's number of pairs (Source: GeoAware-SC §5.1). Pairs
    without keypoints count nowhere.

    Args:
        pairs: what is scored.
        images: the dataset's.
        predictions: of every pair.
        protocol: what the numbers mean.
        schemes: by category, for the breakdown `geometry`.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: the dataset has not what the protocol needs: boxes, a subset's pairs, what a breakdown is by.
    """
    keypoints = measure(chosen(with_keypoints(pairs), protocol), images, predictions)
    counted = keypoints.pairs
    correct = {reference: verdicts(keypoints, protocol, reference) for reference in protocol.references}
    everything = np.ones(len(keypoints.pair), dtype=bool)
    of_category = {name: keypoints.category == row for row, name in enumerate(keypoints.categories)}
    broken = {breakdown: parts(breakdown, counted, images, schemes) for breakdown in protocol.breakdowns}
    masks = {("", ""): everything} | {("", name): mask for name, mask in of_category.items()}
    masks |= {(breakdown, name): mask for breakdown, found in broken.items() for name, mask in found.items()}
    intervals = _intervals(keypoints, correct, protocol, masks) if protocol.resamples else {}
    by_category = {name: _scores(keypoints, correct, mask, protocol) for name, mask in of_category.items()}
    return Report(
        scores=_scores(keypoints, correct, everything, protocol),
        categories={
            reference: {name: scores[reference] for name, scores in by_category.items()}
            for reference in protocol.references
        },
        counts=count(keypoints, everything),
        protocol=protocol,
        made_by=predictions.made_by,
        breakdowns={
            breakdown: {
                name: _part(keypoints, correct, mask, protocol, intervals.get((breakdown, name), {}))
                for name, mask in found.items()
            }
            for breakdown, found in broken.items()
        },
        intervals=intervals.get(("", ""), {}),
        category_intervals={name: intervals[("", name)] for name in of_category} if intervals else {},
    )


def hits(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    predictions: Predictions,
    *,
    alpha: float,
    reference: Reference,
    protocol: EvalProtocol = PLAIN,
) -> list[Bool[np.ndarray, " _"]]:
    """For each pair whether each of its keypoints is correct, for statistics over pairs.

    Of the protocol count the frame, the comparison and what is floored; pairs that it would not score have verdicts
    like all others.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: a pair has not what the reference is the length of.
    """
    found: list[Bool[np.ndarray, " _"]] = [np.zeros(0, dtype=bool) for _ in pairs]
    rows = [row for row, pair in enumerate(pairs) if len(pair.source_points)]
    if rows:
        keypoints = measure([pairs[row] for row in rows], images, predictions)
        told = verdicts(keypoints, replace(protocol, alphas=(alpha,)), reference)[:, 0]
        for row, verdict in zip(rows, np.split(told, np.cumsum(keypoints.counts)[:-1]), strict=True):
            found[row] = verdict
    return found


def with_keypoints(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that a keypoint can be scored of.

    Raises:
        DatasetError: there is none.
    """
    counted = [pair for pair in pairs if len(pair.source_points)]
    if not counted:
        raise DatasetError("none of the pairs to be scored has a keypoint")
    return counted


def count(keypoints: Measured, mask: Bool[np.ndarray, " n"]) -> dict[str, int]:
    """The keypoints of the mask, their pairs, and the images of these."""
    touched = [keypoints.pairs[row] for row in np.unique(keypoints.pair[mask])]
    return {
        "pairs": len(touched),
        "images": len({image for pair in touched for image in (pair.source, pair.target)}),
        "keypoints": int(mask.sum()),
    }


def _part(
    keypoints: Measured,
    correct: Correct,
    mask: Bool[np.ndarray, " n"],
    protocol: EvalProtocol,
    intervals: Intervals,
) -> Part:
    return Part(
        counts=count(keypoints, mask),
        occurrence=occurrence(mask, keypoints.pair, keypoints.category),
        scores=_scores(keypoints, correct, mask, protocol),
        intervals=intervals,
    )


def _scores(
    keypoints: Measured, correct: Correct, mask: Bool[np.ndarray, " n"], protocol: EvalProtocol
) -> dict[str, Scores]:
    """Percentages {reference: {average: {alpha: PCK}}} of the mask's keypoints; of pairs without one, nothing."""
    pair, category = keypoints.pair[mask], keypoints.category[mask]
    return {
        reference: averages(told[mask], pair, category, names=protocol.names) for reference, told in correct.items()
    }


def averages(
    correct: Bool[np.ndarray, "n a"],
    pair: Int[np.ndarray, " n"],
    category: Int[np.ndarray, " n"],
    *,
    names: Sequence[str],
) -> Scores:
    """Percentages {average: {alpha: PCK}} of verdicts, by the rows of each keypoint's pair and category.

    Args:
        correct: the verdicts at each alpha.
        pair: the keypoint's.
        category: the keypoint's.
        names: of the alphas.
    """
    first = np.unique(pair, return_index=True)[1]
    a_pair, of_category = _group_means(correct, pair), category[first]
    a_category = _group_means(correct, category)
    found = {
        "keypoint": correct.mean(axis=0),
        "image": a_pair.mean(axis=0),
        "category": _group_means(a_pair, of_category).mean(axis=0),
        "category-keypoint": a_category.mean(axis=0),
        "pair-weighted": np.average(a_category, axis=0, weights=np.unique(of_category, return_counts=True)[1]),
    }
    return {
        name: {alpha: round(100 * float(value), 4) for alpha, value in zip(names, values, strict=True)}
        for name, values in found.items()
    }


def _group_means(
    values: Bool[np.ndarray, "n a"] | Float[np.ndarray, "n a"], group: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "g a"]:
    """The mean of each group's rows, in the order of the groups' numbers."""
    row = np.unique(group, return_inverse=True)[1]
    sums = np.stack([np.bincount(row, weights=column) for column in values.T], axis=1)
    return sums / np.bincount(row)[:, None]


def _intervals(
    keypoints: Measured,
    correct: Correct,
    protocol: EvalProtocol,
    masks: Mapping[tuple[str, str], Bool[np.ndarray, " n"]],
) -> dict[tuple[str, str], Intervals]:
    """{reference: {alpha: (low, high)}} of the average `keypoint`, in percent, of the keypoints under each mask."""
    groups = grouped(np.concatenate(list(correct.values()), axis=1), keypoints.pair, masks)
    found = group_intervals(groups, keypoints.pairs, resamples=protocol.resamples)
    return {name: _by_alpha(ends, correct, protocol) for name, ends in found.items()}


def _by_alpha(ends: Float[np.ndarray, "k 2"], correct: Correct, protocol: EvalProtocol) -> Intervals:
    rows = iter([(round(float(low), 4), round(float(high), 4)) for low, high in ends])
    return {reference: {alpha: next(rows) for alpha in protocol.names} for reference in correct}


def won(keypoints: Measured, correct: Bool[np.ndarray, "n k"]) -> Int[np.ndarray, "p k"]:
    """How many keypoints of each pair are correct."""
    return np.stack([np.bincount(keypoints.pair, weights=column) for column in correct.T], axis=1).astype(np.int64)
