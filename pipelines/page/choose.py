"""Which pairs the page shows: drawn from the best, the middle and the worst ones, so that none is hand-picked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.core.geometry import Points
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.measured import Measured, measure
from matchkit.evaluate.pck import hits, with_keypoints
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol, Reference
from matchkit.evaluate.subsets import chosen

Band = Literal["best", "median", "worst"]
BAND = 0.05
"""The share of all pairs from which those of a band are drawn."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with what was found for it.

    Attributes:
        pair: its keypoints are the truth.
        found: of its keypoints, in the target's image frame.
        length: the reference length in original pixels of the target.
        errors: distance of each keypoint from the truth in original pixels, a share of the reference length.
        right: whether each keypoint is correct under the protocol of the report.
    """

    pair: Pair
    found: Points
    length: float
    errors: Float[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]

    @property
    def error(self) -> float:
        """The mean of the errors."""
        return float(self.errors.mean())


def judged(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    predictions: Predictions,
    protocol: EvalProtocol,
    *,
    reference: Reference,
    alpha: float,
) -> list[Judged]:
    """The pairs that the protocol scores, with their errors and their verdicts at one alpha.

    Raises:
        MatchkitError: a pair has no prediction, or one of another number of keypoints.
        DatasetError: a pair has not what the reference is the length of.
    """
    scored = chosen(with_keypoints(pairs), protocol)
    right = hits(scored, images, predictions, alpha=alpha, reference=reference, protocol=protocol)
    keypoints = measure(scored, images, predictions)
    lengths = _lengths(keypoints, reference)
    errors = np.linalg.norm(keypoints.found - keypoints.target, axis=1) / lengths[keypoints.pair]
    of_pairs = np.split(errors, np.cumsum(keypoints.counts)[:-1])
    return [
        Judged(pair, predictions.points[pair.id], float(length), error, verdict)
        for pair, length, error, verdict in zip(keypoints.pairs, lengths, of_pairs, right, strict=True)
    ]


def _lengths(keypoints: Measured, reference: Reference) -> Float[np.ndarray, " p"]:
    """The reference length of every pair in original pixels."""
    if reference != "keypoints":
        return np.asarray((keypoints.boxes if reference == "box" else keypoints.sizes).max(axis=1))
    first = np.cumsum(keypoints.counts) - keypoints.counts
    extents = np.maximum.reduceat(keypoints.target, first) - np.minimum.reduceat(keypoints.target, first)
    return np.asarray(extents.max(axis=1))


@dataclass(frozen=True, slots=True)
class Share:
    """Some pairs of a band: the drawn ones, and of how many they were drawn."""

    band: Band
    of: int
    rows: tuple[Judged, ...]


def draw(rows: Sequence[Judged], count: int, *, seed: int) -> list[Share]:
    """Draws `count` pairs: a third from those with the least mean error, a third from those with the greatest.

    The others are drawn from around the median. A band is a twentieth of all pairs, or as many as are drawn from it.
    The same pairs, predictions and seed give the same choice. Fewer pairs than `count` are all taken.
    """
    order = sorted(range(len(rows)), key=lambda row: (rows[row].error, rows[row].pair.id))
    count = min(count, len(order))
    ends = count // 3
    between = count - 2 * ends
    # the three bands may not share a pair
    wide = min(max(ends, round(BAND * len(order))), (len(order) - between) // 2)
    middle = min(max(between, round(BAND * len(order))), len(order) - 2 * wide)
    bands: list[tuple[Band, int, int, int]] = [
        ("best", 0, wide, ends),
        ("median", (len(order) - middle) // 2, middle, between),
        ("worst", len(order) - wide, wide, ends),
    ]
    lots = np.random.default_rng(seed)
    shares = []
    for band, start, size, wanted in bands:
        places: Int[np.ndarray, " m"] = np.sort(lots.choice(size, wanted, replace=False)) + start
        shares.append(Share(band, size, tuple(rows[order[place]] for place in places)))
    return shares
