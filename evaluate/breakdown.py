"""Scores on a part of the keypoints: those that only geometry tells apart, and those of one change between images.

A part is a mask over the keypoints of all scored pairs, one pair after another.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Int

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.poses import AZIMUTHS
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.protocol import Breakdown

LAST_OF_ONE_SIDE = 3
"""Azimuths 0..3 are the front and the object's left, 4..7 the back and its right. Source: GeoAware-SC §5.4."""
WITHOUT_GEOMETRY = "Leave it out: --set 'breakdowns=[azimuth]', or [] for none"
VARIATIONS: Mapping[Breakdown, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "viewpoint": ("viewpoint_variation", ("easy", "medium", "hard")),
        "scale": ("scale_variation", ("easy", "medium", "hard")),
        "truncation": ("truncation", ("none", "source", "target", "both")),
        "occlusion": ("occlusion", ("none", "source", "target", "both")),
        "mirror": ("mirror", ("no", "yes")),
    }
)
"""What SPair-71k tells of a pair: the field of its annotation, and the names of its numbers from 0 on.

Source: Min et al., SPair-71k, arXiv 1908.10543.
"""
ORDER = ("easy", "medium", "hard", "none", "source", "target", "both", "no", "yes")
"""Of parts in a table; those that are not here follow in alphabetical order."""
Parts = dict[str, Bool[np.ndarray, " n"]]


def parts(
    breakdown: Breakdown,
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    schemes: Mapping[str, KeypointScheme],
) -> Parts:
    """The masks of a breakdown by their names; those without a keypoint are left out.

    Raises:
        DatasetError: the dataset does not tell what the breakdown needs.
    """
    if breakdown == "geometry":
        found = _geometry(pairs, images, schemes)
    elif breakdown == "azimuth":
        found = _azimuth(pairs, images)
    else:
        found = _variation(breakdown, pairs)
    return {name: mask for name, mask in found.items() if mask.any()}


def occurrence(
    chosen: Bool[np.ndarray, " n"], pair: Int[np.ndarray, " n"], category: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """How much of the whole a part is, in percent, by the rows of each keypoint's pair and category.

    `pairs`: the share of pairs with at least one chosen keypoint, a mean over categories. `keypoints`: the share of
    keypoints. Source: GeoAware-SC §5.3.
    """
    first = np.unique(pair, return_index=True)[1]
    touched = np.bincount(pair, weights=chosen)[pair[first]] > 0
    of_category = category[first]
    present = np.unique(of_category)
    shares = np.bincount(of_category, weights=touched)[present] / np.bincount(of_category)[present]
    return {"pairs": round(100 * float(shares.mean()), 4), "keypoints": round(100 * float(chosen.mean()), 4)}


def _geometry(pairs: Sequence[Pair], images: Mapping[str, ImageRecord], schemes: Mapping[str, KeypointScheme]) -> Parts:
    """`aware`: at least two keypoints of its group can be seen in the target image. Source: GeoAware-SC §5.3.

    By raw ids, and by all that the target shows, not by what both images show.
    """
    ambiguous: dict[tuple[str, str], set[str]] = {}
    for pair in pairs:
        key = pair.target, pair.category
        if key not in ambiguous:
            ambiguous[key] = _ambiguous(_visible(pair, images), _scheme(pair, schemes))
    of_pairs = [(pair.keypoint_ids, ambiguous[pair.target, pair.category]) for pair in pairs]
    aware = np.asarray([name in chosen for names, chosen in of_pairs for name in names], dtype=bool)
    return {"aware": aware, "other": ~aware}


def _ambiguous(visible: Mapping[str, object], scheme: KeypointScheme) -> set[str]:
    """The keypoints of those groups of which an image shows two or more."""
    return {name for group in scheme.groups if sum(member in visible for member in group) > 1 for name in group}


def _visible(pair: Pair, images: Mapping[str, ImageRecord]) -> Mapping[str, object]:
    visible = images[pair.target].keypoints
    if pair.keypoint_ids and not visible:
        raise DatasetError(
            f"the breakdown geometry needs to know which keypoints image '{pair.target}' shows, and the dataset does "
            f"not tell. {WITHOUT_GEOMETRY}"
        )
    return visible


def _scheme(pair: Pair, schemes: Mapping[str, KeypointScheme]) -> KeypointScheme:
    if pair.category not in schemes:
        raise DatasetError(
            f"the breakdown geometry needs the groups of keypoints of category '{pair.category}', and nothing tells "
            f"them. {WITHOUT_GEOMETRY}"
        )
    return schemes[pair.category]


def _azimuth(pairs: Sequence[Pair], images: Mapping[str, ImageRecord]) -> Parts:
    """`0`..`4`: by how many eighths of a turn the viewpoints differ; `mirror`: one of 0..3, the other of 4..7.

    Source: GeoAware-SC §5.4.
    """
    ends = [(images[pair.source].azimuth, images[pair.target].azimuth) for pair in pairs]
    source, target = np.asarray(ends, dtype=np.float64).T  # None is nan
    apart = np.abs(source - target)
    known = ~np.isnan(apart)
    if not known.any():
        raise DatasetError(
            "the breakdown azimuth needs a viewpoint of both images, which no pair has. Leave it out: "
            "--set 'breakdowns=[geometry]', or [] for none"
        )
    difference = np.minimum(apart, AZIMUTHS - apart)
    of_pairs = {str(steps): difference == steps for steps in range(AZIMUTHS // 2 + 1)}
    of_pairs["mirror"] = known & ((source <= LAST_OF_ONE_SIDE) != (target <= LAST_OF_ONE_SIDE))
    counts = [len(pair.keypoint_ids) for pair in pairs]
    return {name: np.repeat(mask, counts) for name, mask in of_pairs.items()}


def _variation(breakdown: Breakdown, pairs: Sequence[Pair]) -> Parts:
    """What the dataset says of each pair; a pair of which it says nothing is in no part."""
    name, values = VARIATIONS[breakdown]
    told = np.asarray([pair.variations.get(name, -1) for pair in pairs])
    if (told < 0).all():
        raise DatasetError(
            f"the breakdown {breakdown} needs what SPair-71k calls {name}, which no pair has. Leave it out: "
            "--set 'breakdowns=[geometry]', or [] for none"
        )
    if told.max() >= len(values):
        pair = pairs[int(told.argmax())]
        raise DatasetError(f"pair '{pair.id}' has {name} {told.max()}; there are 0 to {len(values) - 1}")
    counts = [len(pair.keypoint_ids) for pair in pairs]
    return {part: np.repeat(told == value, counts) for value, part in enumerate(values)}


def in_order(names: Iterable[str]) -> list[str]:
    """Names of parts as they stand in tables."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
