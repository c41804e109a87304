"""Pairs that a rule draws, the same ones everywhere: by names and a seed, not by any order of files or random numbers.

The key of two names is the SHA-256 of the text `<seed>|<one>|<other>` in UTF-8, the lesser name (by code points) first.
Of more candidates than wanted, those with the smallest keys are drawn; where a key is odd, the greater name is the
source.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.datasets.annotations import Box

SEED = 42
Points = Float[np.ndarray, "n 2"]


@dataclass(frozen=True, slots=True)
class Group:
    """Images of two of which pairs are drawn.

    Attributes:
        category: of the pairs.
        images: their ids, in any order.
        fits: symmetric; which two of them may be a pair. Nothing is one with itself.
        limit: pairs at most; None draws all.
    """

    category: str
    images: Sequence[str]
    fits: Bool[np.ndarray, "n n"]
    limit: int | None = None


def drawn_pairs(group: Group, *, seed: int = SEED) -> list[tuple[str, str]]:
    """(source, target) of the pairs of a group, sorted."""
    rows, columns = np.nonzero(np.triu(group.fits, k=1))
    names = group.images
    keyed = [
        _keyed(names[row], names[column], seed) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    if group.limit is not None and len(keyed) > group.limit:
        keyed = sorted(keyed)[: group.limit]
    return sorted((other, one) if key[-1] % 2 else (one, other) for key, one, other in keyed)


def shared_pair(source: ImageRecord, target: ImageRecord, *, id: str, category: str, boxes: tuple[Box, Box]) -> Pair:
    """The pair of two images, with what both of them show."""
    ids = tuple(name for name in source.keypoints if name in target.keypoints)
    return Pair(
        id=id,
        source=source.id,
        target=target.id,
        category=category,
        source_points=_points(source, ids),
        target_points=_points(target, ids),
        keypoint_ids=ids,
        source_box=boxes[0],
        target_box=boxes[1],
    )


def _keyed(one: str, other: str, seed: int) -> tuple[bytes, str, str]:
    lesser, greater = sorted((one, other))
    return hashlib.sha256(f"{seed}|{lesser}|{greater}".encode()).digest(), lesser, greater


def _points(record: ImageRecord, ids: Sequence[str]) -> Points:
    return np.asarray([record.keypoints[name] for name in ids], np.float32).reshape(-1, 2)
