"""Image pairs of the toy dataset, annotated as in SPair-71k (arXiv 1908.10543)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from matchkit.core.errors import DatasetError
from matchkit.extract.datasets.toy.keypoints import CATEGORIES
from matchkit.extract.datasets.toy.trees import shares

POSES: tuple[str, ...] = ("Frontal", "Left", "Left", "Left", "Rear", "Right", "Right", "Right")
"""PASCAL VOC's word for each azimuth bin."""
COMMON: int = 3
"""Fewest keypoints that both images of a pair must show."""


@dataclass(frozen=True)
class Annotated:
    """What the annotation of one image says; image frame, whole pixels.

    Attributes:
        stem: File name without its ending.
        category: One of `CATEGORIES`.
        points: Keypoints (x, y), the hidden ones too.
        visible: Which of them are seen.
        box: xmin, ymin, xmax, ymax.
        azimuth_id: 0 to 7, see `Rendering`.
        truncated: Whether the object reaches the edge of the image.
        size: Edge of the image.
    """

    stem: str
    category: str
    points: Int[np.ndarray, "k 2"]
    visible: Bool[np.ndarray, " k"]
    box: tuple[int, int, int, int]
    azimuth_id: int
    truncated: bool
    size: int


def draw_pairs(
    images: Sequence[Annotated], *, count: int, split: str, rng: np.random.Generator
) -> list[tuple[Annotated, Annotated]]:
    """Draws ordered pairs (source, target) within categories, none twice, the categories in turn.

    Args:
        images: All images of a split.
        count: How many pairs.
        split: Its name, for the error.
        rng: Decides which.

    Raises:
        DatasetError: If the images do not hold as many pairs with `COMMON` keypoints seen in both.
    """
    drawn: list[list[tuple[Annotated, Annotated]]] = []
    for category, wanted in zip(CATEGORIES, shares(count, len(CATEGORIES)), strict=True):
        own = [image for image in images if image.category == category]
        candidates = _candidates(own)
        if len(candidates) < wanted:
            raise DatasetError(
                f"the {len(own)} {split} images of category {category} make {len(candidates)} pairs that share "
                f"{COMMON} keypoints, and {wanted} are asked for: ask for more images or fewer pairs in ToySizes"
            )
        chosen = rng.choice(candidates, size=wanted, replace=False) if wanted else candidates[:0]
        drawn.append([(own[int(i) // len(own)], own[int(i) % len(own)]) for i in chosen])
    return [pairs[turn] for turn in range(max(map(len, drawn))) for pairs in drawn if turn < len(pairs)]


def _candidates(images: Sequence[Annotated]) -> Int[np.ndarray, " n"]:
    """Every source x len + target with enough keypoints in common."""
    if not images:
        return np.zeros(0, np.int64)
    seen = np.stack([image.visible for image in images]).astype(np.float32)
    common = seen @ seen.T
    np.fill_diagonal(common, 0)
    return np.flatnonzero(common >= COMMON)


def pair_name(source: Annotated, target: Annotated, *, number: int) -> str:
    """SPair-71k's name of a pair: `NNNNNN-<source>-<target>:<category>`."""
    return f"{number:06d}-{source.stem}-{target.stem}:{source.category}"


def annotate_pair(source: Annotated, target: Annotated, *, number: int) -> dict[str, Any]:
    """The fields of a pair's JSON file, in SPair-71k's order."""
    ids = np.flatnonzero(source.visible & target.visible)
    return {
        "pair_id": number,
        "filename": pair_name(source, target, number=number),
        "src_imname": f"{source.stem}.jpg",
        "trg_imname": f"{target.stem}.jpg",
        "src_imsize": [source.size, source.size, 3],
        "trg_imsize": [target.size, target.size, 3],
        "src_bndbox": list(source.box),
        "trg_bndbox": list(target.box),
        "category": source.category,
        "src_pose": POSES[source.azimuth_id],
        "trg_pose": POSES[target.azimuth_id],
        "src_kps": source.points[ids].tolist(),
        "trg_kps": target.points[ids].tolist(),
        "kps_ids": [str(i) for i in ids],
        "mirror": 0,  # 0 in every SPair-71k pair at hand, whatever the poses
        "viewpoint_variation": _viewpoint_variation(source, target),
        "scale_variation": _scale_variation(source, target),
        "truncation": source.truncated + 2 * target.truncated,
        "occlusion": 0,
    }


def _viewpoint_variation(source: Annotated, target: Annotated) -> int:
    """0 for azimuth bins at most one apart, 1 for two or three, 2 for opposite ones.

    Read off the SPair-71k pairs at hand, which hold distances 0 to 3; that opposite views are 2 is inferred.
    """
    apart = abs(source.azimuth_id - target.azimuth_id)
    return (0, 0, 1, 1, 2)[min(apart, 8 - apart)]


def _scale_variation(source: Annotated, target: Annotated) -> int:
    """0, 1, 2 by the ratio of the boxes' longer edges: up to 1.2, up to 1.5, beyond.

    The bounds are this dataset's own.
    """
    edges = [max(x1 - x0, y1 - y0, 1) for x0, y0, x1, y1 in (source.box, target.box)]
    ratio = max(edges) / min(edges)
    return int(ratio > 1.2) + int(ratio > 1.5)
