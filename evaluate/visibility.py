"""Whether a match knows which keypoint it is of, and whether the target shows the keypoint at all.

Source: Mariotti et al., Jamais Vu, arXiv 2506.08220, and its code; GeoAware-SC §5.6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.evaluate.evidence import Presences
from matchkit.evaluate.measured import Measured
from matchkit.evaluate.ranking import auroc, average_precisions

Variant = Literal["paper", "code"]
"""`paper`: a keypoint that the target does not show is no positive sample, and its negative one is the greatest
similarity anywhere. `code`: the released function takes both maxima of every keypoint as they are, and a keypoint that
the target does not show lies in the input's upper left corner."""
VARIANTS: tuple[Variant, ...] = ("paper", "code")


def itself_nearest(keypoints: Measured) -> Bool[np.ndarray, " n"]:
    """Whether no keypoint that both images show is nearer to the found place than the right one.

    What PCK-dagger asks of a correct keypoint besides. Of two that are equally near, the first one of the pair counts.
    """
    nearest = []
    ends = np.cumsum(keypoints.counts)[:-1]
    for found, target in zip(np.split(keypoints.found, ends), np.split(keypoints.target, ends), strict=True):
        apart = np.linalg.norm(found[:, None] - target, axis=2)
        nearest.append(apart.argmin(axis=1) == np.arange(len(target)))
    return np.concatenate(nearest)


@dataclass(frozen=True, slots=True)
class Seen:
    """The greatest similarities of all keypoints that the sources show, one pair after another.

    Attributes:
        near, far: within and outside of each radius, between 0 and 1: of a pair's similarities the least and the
            greatest.
        greatest: anywhere, as it is.
        shown: whether the target shows the keypoint.
        pair: the row of its pair.
        category: the row of its category.
    """

    near: Float[np.ndarray, "m a"]
    far: Float[np.ndarray, "m a"]
    greatest: Float[np.ndarray, " m"]
    shown: Bool[np.ndarray, " m"]
    pair: Int[np.ndarray, " m"]
    category: Int[np.ndarray, " m"]


def seen(keypoints: Measured, presences: Presences) -> Seen:
    """Puts the similarities of some pairs together."""
    held = [presences.of_pair[pair.id] for pair in keypoints.pairs]
    counts = [len(entry.near) for entry in held]
    near, far = (np.concatenate([getattr(entry, side) for entry in held]) for side in ("near", "far"))
    lowest = np.repeat([entry.lowest for entry in held], counts)[:, None]
    extent = np.repeat([entry.highest - entry.lowest for entry in held], counts)[:, None]
    scale = np.where(extent > 0, extent, 1)
    first = np.cumsum(keypoints.counts) - keypoints.counts
    own = [np.arange(count) < shown for count, shown in zip(counts, keypoints.counts, strict=True)]
    return Seen(
        near=(near - lowest) / scale,
        far=(far - lowest) / scale,
        greatest=np.maximum(near, far)[:, 0],
        shown=np.concatenate(own),
        pair=np.repeat(np.arange(len(held)), counts),
        category=np.repeat(keypoints.category[first], counts),
    )


def kap(keypoints: Seen, variant: Variant, *, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The keypoint average precision in percent, by average and radius.

    `image` is the mean over pairs of each pair's average precision; `keypoint` that over categories of the average
    precision of all of a category's samples, weighted by its keypoints.

    Args:
        keypoints: of all pairs.
        variant: which samples there are.
        names: of the radii.
    """
    found: dict[str, dict[str, float]] = {"keypoint": {}, "image": {}}
    kept = keypoints.shown if variant == "paper" else np.ones_like(keypoints.shown)
    for column, name in enumerate(names):
        near, far = keypoints.near[:, column], keypoints.far[:, column]
        away = np.where(kept, far, np.maximum(near, far))
        scores = np.concatenate([near[kept], away])
        positive = np.arange(len(scores)) < kept.sum()
        of_pair, of_category = (
            average_precisions(scores, positive, np.concatenate([group[kept], group]))
            for group in (keypoints.pair, keypoints.category)
        )
        weights = np.unique(keypoints.category, return_counts=True)[1]
        found["image"][name] = round(100 * float(of_pair.mean()), 4)
        found["keypoint"][name] = round(100 * float(np.average(of_category, weights=weights)), 4)
    return found


def visibility(keypoints: Seen) -> float | None:
    """How likely a keypoint that the target shows has a greater similarity somewhere than one that it does not.

    In percent; None where the targets show all keypoints.
    """
    ranked = auroc(keypoints.greatest, keypoints.shown)
    return None if np.isnan(ranked) else round(100 * ranked, 4)
