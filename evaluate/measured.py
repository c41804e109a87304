"""The keypoints of many pairs at once, and their verdicts in the frame of a protocol. Numpy alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.core.errors import DatasetError, MatchkitError
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference


@dataclass(frozen=True, slots=True)
class Measured:
    """The keypoints of some pairs, one pair after another, and what their errors are held against.

    Points and lengths are in original pixels of the target.

    Attributes:
        pairs: every one has a keypoint.
        target: (x, y) where the keypoints are.
        found: (x, y) where they were predicted.
        counts: keypoints of each pair.
        sizes: (width, height) of each pair's target image.
        boxes: (width, height) of each pair's target box; NaN where it has none.
        pair: the row of each keypoint's pair.
        category: the row of each keypoint's category in `categories`.
        categories: the names, sorted.
    """

    pairs: Sequence[Pair]
    target: Float[np.ndarray, "n 2"]
    found: Float[np.ndarray, "n 2"]
    counts: Int[np.ndarray, " p"]
    sizes: Float[np.ndarray, "p 2"]
    boxes: Float[np.ndarray, "p 2"]
    pair: Int[np.ndarray, " n"]
    category: Int[np.ndarray, " n"]
    categories: tuple[str, ...]


def measure(pairs: Sequence[Pair], images: Mapping[str, ImageRecord], predictions: Predictions) -> Measured:
    """Puts pairs and their predictions together.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: no pair has a keypoint.
    """
    pairs = [pair for pair in pairs if len(pair.source_points)]
    if not pairs:
        raise DatasetError("none of the pairs to be scored has a keypoint")
    found = [_prediction(pair, predictions) for pair in pairs]
    counts = np.array([len(points) for points in found])
    boxes = np.array([pair.target_box or (np.nan,) * 4 for pair in pairs], dtype=np.float64)
    categories, rows = np.unique([pair.category for pair in pairs], return_inverse=True)
    return Measured(
        pairs=pairs,
        target=np.concatenate([pair.target_points for pair in pairs]).astype(np.float64),
        found=np.concatenate(found).astype(np.float64),
        counts=counts,
        sizes=np.array([images[pair.target].size for pair in pairs], dtype=np.float64),
        boxes=boxes[:, 2:] - boxes[:, :2],
        pair=np.repeat(np.arange(len(pairs)), counts),
        category=np.repeat(rows, counts),
        categories=tuple(categories.tolist()),
    )


def _prediction(pair: Pair, predictions: Predictions) -> Float[np.ndarray, "n 2"]:
    points = predictions.points.get(pair.id)
    if points is None:
        raise MatchkitError(f"the predictions lack pair '{pair.id}'. Run: matchkit match")
    if points.shape != pair.target_points.shape:
        raise MatchkitError(
            f"the predictions of pair '{pair.id}' have {len(points)} keypoints, the dataset has "
            f"{len(pair.target_points)}. Run: matchkit match"
        )
    return points


def verdicts(keypoints: Measured, protocol: EvalProtocol, reference: Reference) -> Bool[np.ndarray, "n a"]:
    """Whether each keypoint is correct at each alpha of the protocol.

    Errors and lengths are in the frame's pixels but for a factor common to both axes, which changes no verdict: where
    coordinates are whole numbers, an error of exactly alpha times the reference stays exactly that.

    Raises:
        DatasetError: a pair has not what the reference is the length of.
    """
    target = _target(keypoints, protocol)
    factors = _factors(keypoints, protocol)
    error = np.linalg.norm((keypoints.found - target) * factors[keypoints.pair], axis=1)[:, None]
    lengths = _lengths(keypoints, reference, target, factors)
    bounds = lengths[keypoints.pair, None] * np.asarray(protocol.alphas)
    return np.asarray(error <= bounds if protocol.comparison == "<=" else error < bounds)


def _factors(keypoints: Measured, protocol: EvalProtocol) -> Float[np.ndarray, "p 2"]:
    """What a pixel's width and height become, times what makes whole numbers of them."""
    # a square of side s makes s / width and s / height of them, which is s / (width * height) times height and width
    return np.asarray(keypoints.sizes[:, ::-1] if protocol.frame == "squash" else np.ones_like(keypoints.sizes))


def _target(keypoints: Measured, protocol: EvalProtocol) -> Float[np.ndarray, "n 2"]:
    """The target's keypoints in original pixels, without the fractions that the protocol floors."""
    if protocol.floored == "nothing":
        return keypoints.target
    if protocol.floored == "original" or protocol.frame == "original":
        return np.asarray(np.floor(keypoints.target))
    sizes = keypoints.sizes if protocol.frame == "squash" else keypoints.sizes.max(axis=1, keepdims=True)
    filled = sizes[keypoints.pair]
    # multiplied first: a keypoint that is a whole number of the frame's pixels must not fall below it
    return np.asarray(np.floor(keypoints.target * protocol.side / filled) * filled / protocol.side)


def _lengths(
    keypoints: Measured, reference: Reference, target: Float[np.ndarray, "n 2"], factors: Float[np.ndarray, "p 2"]
) -> Float[np.ndarray, " p"]:
    """The reference length of every pair, in the unit of its errors."""
    if reference == "image":
        extents = keypoints.sizes
    elif reference == "box":
        extents = keypoints.boxes
        _require(keypoints, ~np.isnan(extents[:, 0]), "has no target box. Score it with: --set 'references=[image]'")
    else:
        first = np.cumsum(keypoints.counts) - keypoints.counts
        extents = np.maximum.reduceat(target, first) - np.minimum.reduceat(target, first)
        remedy = "Score it with: --set 'references=[box]'"
        _require(keypoints, extents.max(axis=1) > 0, f"has one place for all its keypoints, and no extent. {remedy}")
    return np.asarray((extents * factors).max(axis=1))


def _require(keypoints: Measured, there: Bool[np.ndarray, " p"], problem: str) -> None:
    if not there.all():
        raise DatasetError(f"pair '{keypoints.pairs[int(there.argmin())].id}' {problem}")
