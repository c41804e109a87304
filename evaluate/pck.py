"""PCK: the percentage of correct keypoints. Numpy alone; it reads predictions, never a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.core.errors import DatasetError, MatchkitError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.breakdown import occurrence, parts
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.report import Part, Report, Scores
from matchkit.evaluate.resampling import share_intervals

NO_SCHEMES: Mapping[str, KeypointScheme] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Keypoints:
    """The keypoints of all scored pairs, one pair after another.

    Attributes:
        correct: by reference, whether a keypoint is correct at each alpha.
        pair: the row of its pair.
        category: the row of its category in `categories`.
        categories: the names, sorted.
    """

    correct: Mapping[Reference, Bool[np.ndarray, "n a"]]
    pair: Int[np.ndarray, " n"]
    category: Int[np.ndarray, " n"]
    categories: tuple[str, ...]


def score(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    predictions: Predictions,
    protocol: EvalProtocol,
    *,
    schemes: Mapping[str, KeypointScheme] = NO_SCHEMES,
) -> Report:
    """Scores predictions of `pairs` under a protocol.

    Averages: `keypoint` over all keypoints at once; `image` over pairs of each pair's own share; `category` over
    categories of each category's `image` average; `pair-weighted` over categories of each category's `keypoint`
    average, weighted by its number of pairs (Source: GeoAware-SC §5.1). Pairs without keypoints count nowhere.

    Args:
        pairs: what is scored.
        images: the dataset's.
        predictions: of every pair.
        protocol: what the numbers mean.
        schemes: by category, for the breakdown `geometry`.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: the protocol needs boxes and a pair has none, or a breakdown what the dataset does not tell.
    """
    counted = [pair for pair in pairs if len(pair.source_points)]
    if not counted:
        raise DatasetError("none of the pairs to be scored has a keypoint")
    keypoints = _judge(counted, images, predictions, protocol)
    everything = np.ones(len(keypoints.pair), dtype=bool)
    by_category = {
        name: _scores(keypoints, keypoints.category == row, protocol) for row, name in enumerate(keypoints.categories)
    }
    return Report(
        scores=_scores(keypoints, everything, protocol),
        categories={
            reference: {name: scores[reference] for name, scores in by_category.items()}
            for reference in protocol.references
        },
        counts=_counts(counted, keypoints, everything),
        protocol=protocol,
        made_by=predictions.made_by,
        breakdowns={
            breakdown: {
                name: _part(counted, keypoints, chosen, protocol)
                for name, chosen in parts(breakdown, counted, images, schemes).items()
            }
            for breakdown in protocol.breakdowns
        },
        intervals=_intervals(counted, keypoints, protocol) if protocol.resamples else {},
    )


def _errors(pair: Pair, predictions: Predictions) -> Float[np.ndarray, " n"]:
    if pair.id not in predictions.points:
        raise MatchkitError(f"the predictions lack pair '{pair.id}'. Run: matchkit match")
    points = predictions.points[pair.id]
    if points.shape != pair.target_points.shape:
        raise MatchkitError(
            f"the predictions of pair '{pair.id}' have {len(points)} keypoints, the dataset has "
            f"{len(pair.target_points)}. Run: matchkit match"
        )
    return np.asarray(np.linalg.norm(points.astype(np.float64) - pair.target_points, axis=1))


def hits(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    predictions: Predictions,
    *,
    alpha: float,
    reference: Reference,
) -> list[Bool[np.ndarray, " _"]]:
    """For each pair whether each of its keypoints is correct, for statistics over pairs.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: the reference is the box and a pair has none.
    """
    return [_errors(pair, predictions) <= alpha * reference_length(pair, images, reference) for pair in pairs]


def reference_length(pair: Pair, images: Mapping[str, ImageRecord], reference: Reference) -> float:
    """The length in original pixels of the target to which alpha is relative.

    Raises:
        DatasetError: `box` is asked for and the pair has none.
    """
    if reference == "image":
        return float(max(images[pair.target].size))
    if pair.target_box is None:
        raise DatasetError(f"pair '{pair.id}' has no target box. Score it with: --set 'references=[image]'")
    xmin, ymin, xmax, ymax = pair.target_box
    return float(max(xmax - xmin, ymax - ymin))


def _judge(
    pairs: Sequence[Pair], images: Mapping[str, ImageRecord], predictions: Predictions, protocol: EvalProtocol
) -> _Keypoints:
    errors = [_errors(pair, predictions) for pair in pairs]
    counts = [len(error) for error in errors]
    error = np.concatenate(errors)[:, None]
    correct: dict[Reference, Bool[np.ndarray, "n a"]] = {}
    for reference in protocol.references:
        lengths = np.repeat([reference_length(pair, images, reference) for pair in pairs], counts)
        bounds = lengths[:, None] * np.asarray(protocol.alphas)
        correct[reference] = error <= bounds if protocol.comparison == "<=" else error < bounds
    categories, rows = np.unique([pair.category for pair in pairs], return_inverse=True)
    return _Keypoints(
        correct=correct,
        pair=np.repeat(np.arange(len(pairs)), counts),
        category=np.repeat(rows, counts),
        categories=tuple(categories.tolist()),
    )


def _counts(pairs: Sequence[Pair], keypoints: _Keypoints, chosen: Bool[np.ndarray, " n"]) -> dict[str, int]:
    touched = [pairs[row] for row in np.unique(keypoints.pair[chosen])]
    return {
        "pairs": len(touched),
        "images": len({image for pair in touched for image in (pair.source, pair.target)}),
        "keypoints": int(chosen.sum()),
    }


def _part(pairs: Sequence[Pair], keypoints: _Keypoints, chosen: Bool[np.ndarray, " n"], protocol: EvalProtocol) -> Part:
    return Part(
        counts=_counts(pairs, keypoints, chosen),
        occurrence=occurrence(chosen, keypoints.pair, keypoints.category),
        scores=_scores(keypoints, chosen, protocol),
    )


def _scores(keypoints: _Keypoints, chosen: Bool[np.ndarray, " n"], protocol: EvalProtocol) -> dict[str, Scores]:
    """Percentages {reference: {average: {alpha: PCK}}} of the chosen keypoints; of pairs without one, nothing."""
    pair, category = keypoints.pair[chosen], keypoints.category[chosen]
    return {
        reference: _average(correct[chosen].astype(np.float64), pair, category, protocol)
        for reference, correct in keypoints.correct.items()
    }


def _average(
    correct: Float[np.ndarray, "n a"],
    pair: Int[np.ndarray, " n"],
    category: Int[np.ndarray, " n"],
    protocol: EvalProtocol,
) -> Scores:
    first = np.unique(pair, return_index=True)[1]
    a_pair, of_category = _group_means(correct, pair), category[first]
    averages = {
        "keypoint": correct.mean(axis=0),
        "image": a_pair.mean(axis=0),
        "category": _group_means(a_pair, of_category).mean(axis=0),
        "pair-weighted": np.average(
            _group_means(correct, category), axis=0, weights=np.unique(of_category, return_counts=True)[1]
        ),
    }
    return {
        name: {alpha: round(100 * float(value), 4) for alpha, value in zip(protocol.names, values, strict=True)}
        for name, values in averages.items()
    }


def _group_means(values: Float[np.ndarray, "n a"], group: Int[np.ndarray, " n"]) -> Float[np.ndarray, "g a"]:
    """The mean of each group's rows, in the order of the groups' numbers."""
    row = np.unique(group, return_inverse=True)[1]
    sums = np.stack([np.bincount(row, weights=column) for column in values.T], axis=1)
    return sums / np.bincount(row)[:, None]


def _intervals(
    pairs: Sequence[Pair], keypoints: _Keypoints, protocol: EvalProtocol
) -> dict[str, dict[str, tuple[float, float]]]:
    """{reference: {alpha: (low, high)}} of the average `keypoint`, in percent."""
    correct = np.concatenate(list(keypoints.correct.values()), axis=1)
    won = np.stack([np.bincount(keypoints.pair, weights=column) for column in correct.T], axis=1).astype(np.int64)
    found = share_intervals(won, np.bincount(keypoints.pair), pairs, resamples=protocol.resamples)
    rows = iter([(round(float(low), 4), round(float(high), 4)) for low, high in found])
    return {reference: {alpha: next(rows) for alpha in protocol.names} for reference in keypoints.correct}
