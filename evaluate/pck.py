"""PCK: the percentage of correct keypoints. Numpy alone; it reads predictions, never a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from matchkit.core.errors import DatasetError, MatchkitError
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.report import Report, Scores


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """Whether keypoint n is correct at each alpha, and to which pair and category it belongs."""

    correct: Bool[np.ndarray, "n a"]
    pair: np.ndarray
    category: np.ndarray


def score(
    pairs: Sequence[Pair], images: Mapping[str, ImageRecord], predictions: Predictions, protocol: EvalProtocol
) -> Report:
    """Scores predictions of `pairs` under a protocol.

    Averages: `keypoint` over all keypoints at once; `image` over pairs of each pair's own share; `category` over
    categories of each category's `image` average. Pairs without keypoints count nowhere.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: the protocol needs boxes and a pair has none.
    """
    counted = [pair for pair in pairs if len(pair.source_points)]
    if not counted:
        raise DatasetError("none of the pairs to be scored has a keypoint")
    errors = [_errors(pair, predictions) for pair in counted]
    scores: dict[str, Scores] = {}
    categories: dict[str, dict[str, Scores]] = {}
    for reference in protocol.references:
        verdicts = _judge(counted, images, errors, protocol, reference)
        scores[reference] = _average(verdicts, protocol)
        categories[reference] = {
            name: _average(_only(verdicts, name), protocol) for name in sorted(set(verdicts.category.tolist()))
        }
    return Report(
        scores=scores,
        categories=categories,
        counts={
            "pairs": len(counted),
            "images": len({image for pair in counted for image in (pair.source, pair.target)}),
            "keypoints": sum(len(error) for error in errors),
        },
        protocol=protocol,
        made_by=predictions.made_by,
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
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    errors: Sequence[Float[np.ndarray, " _"]],
    protocol: EvalProtocol,
    reference: Reference,
) -> _Verdicts:
    counts = [len(error) for error in errors]
    lengths = np.repeat([reference_length(pair, images, reference) for pair in pairs], counts)
    bounds = lengths[:, None] * np.asarray(protocol.alphas)
    error = np.concatenate(errors)[:, None]
    return _Verdicts(
        correct=error <= bounds if protocol.comparison == "<=" else error < bounds,
        pair=np.repeat(np.arange(len(pairs)), counts),
        category=np.repeat([pair.category for pair in pairs], counts),
    )


def _only(verdicts: _Verdicts, category: str) -> _Verdicts:
    chosen = verdicts.category == category
    return _Verdicts(verdicts.correct[chosen], verdicts.pair[chosen], verdicts.category[chosen])


def _average(verdicts: _Verdicts, protocol: EvalProtocol) -> Scores:
    """Percentages {average: {alpha: PCK}}."""
    correct = verdicts.correct.astype(np.float64)
    _, first, row = np.unique(verdicts.pair, return_index=True, return_inverse=True)
    a_pair = _group_means(correct, row)
    category = np.unique(verdicts.category[first], return_inverse=True)[1]
    averages = {
        "keypoint": correct.mean(axis=0),
        "image": a_pair.mean(axis=0),
        "category": _group_means(a_pair, category).mean(axis=0),
    }
    return {
        name: {alpha: round(100 * float(value), 4) for alpha, value in zip(protocol.names, values, strict=True)}
        for name, values in averages.items()
    }


def _group_means(values: Float[np.ndarray, "n a"], group: np.ndarray) -> Float[np.ndarray, "g a"]:
    sums = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return sums / np.bincount(group)[:, None]
