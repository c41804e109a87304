"""What a browser needs to compare any point of a source with all of its target: the data of the page's explorer."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int8

from matchkit.core.geometry import Points
from matchkit.core.records import Pair
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.pipelines.frames import Frames
from matchkit.pipelines.lookup import Descriptor
from matchkit.pipelines.page.cards import Card
from matchkit.pipelines.page.choose import Judged
from matchkit.pipelines.page.photos import Photo
from matchkit.pipelines.page.reduce import Reduced, reduce

FINEST = 512
"""Cells of the finest grid that the page searches, along its longer side."""
UPSAMPLE = 8
"""How many times finer than the target's grid the page searches at most: as many as `nearest` does by itself."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What reduced descriptors change, as shares in 0..1 over all pairs of the page.

    Attributes:
        dimensions: the fewest that were kept.
        kept: of the descriptors' squared lengths.
        same: source cells whose most similar target cell stayed the same.
        near: source cells whose most similar target cell moved by at most one cell.
        keypoints: keypoints for which `nearest` finds a point at most one cell from where it did.
    """

    dimensions: int
    kept: float
    same: float
    near: float
    keypoints: float


@dataclass(frozen=True, slots=True)
class Explorer:
    """The pairs as the page's script reads them, and what the reduction changed."""

    pairs: tuple[Mapping[str, Any], ...]
    agreement: Agreement


def explorer(
    chosen: Sequence[Judged],
    drawn: Sequence[Card],
    describe: Callable[[Pair], tuple[Descriptor, Descriptor]],
    frames: Frames,
) -> Explorer:
    """Describes and reduces the chosen pairs; `drawn` has their cards.

    Raises:
        StoreError: an image of a pair is not in the store.
    """
    pairs, reduced, close = [], [], []
    for row, card in zip(chosen, drawn, strict=True):
        source, target = describe(row.pair)
        small = reduce(source, target)
        factor = upsample(small.target.shape[:2])
        close.append(_keypoints_agree((source, target), small, frames.to_grid(row.pair.source, row.pair.source_points)))
        pairs.append(_plain(row, card, small, frames) | {"upsample": factor, "same": small.same})
        reduced.append(small)
    shares = {name: float(np.mean([getattr(small, name) for small in reduced])) for name in ("kept", "same", "near")}
    dimensions = min(len(small.scales) for small in reduced)
    return Explorer(tuple(pairs), Agreement(dimensions, **shares, keypoints=float(np.concatenate(close).mean())))


def upsample(grid: tuple[int, ...]) -> int:
    """How many times finer than a grid the page searches."""
    return max(1, min(UPSAMPLE, FINEST // max(grid)))


def _keypoints_agree(full: tuple[Descriptor, Descriptor], small: Reduced, places: Points) -> np.ndarray:
    """For each keypoint, whether both descriptors find it within a cell of each other."""
    matcher = Nearest(NearestParams(upsample(small.target.shape[:2])))
    source, target = (values.cpu().float() for values in full)
    before, after = matcher.match(source, target, places), matcher.match(*small.descriptors(), places)
    return np.asarray(np.abs(before - after).max(axis=1) <= 1)


def _plain(row: Judged, card: Card, small: Reduced, frames: Frames) -> dict[str, Any]:
    pair = row.pair
    return {
        "scales": small.scales.tolist(),
        "keypoints": list(pair.keypoint_ids),
        "found": _rounded(row.found),
        "errors": [round(float(error), 4) for error in row.errors],
        "right": row.right.tolist(),
        "length": round(row.length, 2),
        "source": _side(card.photos[0].photo, pair.source_points, small.source)
        | {"toGrid": _affine(frames.to_grid, pair.source, frames.images[pair.source].size)},
        "target": _side(card.photos[1].photo, pair.target_points, small.target)
        | {"toImage": _affine(frames.to_image, pair.target, (small.target.shape[1], small.target.shape[0]))},
    }


def _side(photo: Photo, points: Points, values: Int8[np.ndarray, "gh gw k"]) -> dict[str, Any]:
    return {
        "photo": photo.number,
        "width": photo.width,
        "height": photo.height,
        "points": _rounded(points),
        "grid": list(values.shape[:2]),
        "cells": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode(),
    }


def _affine(move: Callable[[str, Points], Points], image_id: str, size: tuple[int, int]) -> list[float]:
    """A change of frame as (factor of x, shift of x, factor of y, shift of y), from two points of the inside."""
    near, far = np.asarray(size, np.float32) * 0.25, np.asarray(size, np.float32) * 0.75
    first, second = move(image_id, np.stack([near, far])).astype(np.float64)
    factor = (second - first) / (far - near)
    shift = first - factor * near
    return [float(factor[0]), float(shift[0]), float(factor[1]), float(shift[1])]


def _rounded(points: Points) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in points]
