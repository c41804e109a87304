"""Which part of the object a match is of: the right one, its mirror image, another one, or none.

Source: the errors that GeoAware-SC §3.4 and §5.3 group keypoints for, and Hartwig et al., GECO, arXiv 2508.00746,
splits PCK by.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate.measured import Measured, verdicts
from matchkit.evaluate.protocol import EvalProtocol, Reference

KINDS = ("right part", "wrong side", "other part", "elsewhere")
"""Within alpha of the true place; else of a keypoint that mirrors it or is of its group; else of another; of none."""


def kinds(
    keypoints: Measured,
    images: Mapping[str, ImageRecord],
    schemes: Mapping[str, KeypointScheme],
    *,
    protocol: EvalProtocol,
    reference: Reference,
) -> Int[np.ndarray, "n a"]:
    """The place in `KINDS` of every keypoint at every alpha.

    The others are all that the target shows, or those of the pair where the dataset does not tell.

    Raises:
        DatasetError: a category without scheme, or a pair without what the reference is the length of.
    """
    places, alike = _others(keypoints, images, schemes)
    of_alike = np.zeros((len(keypoints.found), len(protocol.alphas)), dtype=bool)
    of_other = of_alike.copy()
    for slot in range(places.shape[1]):
        # as far from the true place as the found one is from the other keypoint: lengths and frames stay the pair's
        moved = keypoints.target + (keypoints.found - places[:, slot])
        near = verdicts(replace(keypoints, found=moved), protocol, reference)
        of_alike |= near & alike[:, slot, None]
        of_other |= near & ~alike[:, slot, None]
    right = verdicts(keypoints, protocol, reference)
    return np.select([right, of_alike, of_other], [0, 1, 2], 3)


def shares(kind: Int[np.ndarray, " n"]) -> dict[str, float]:
    """How many are of each kind, in percent."""
    counts = np.bincount(kind, minlength=len(KINDS))
    return {name: round(100 * int(count) / len(kind), 4) for name, count in zip(KINDS, counts, strict=True)}


def _others(
    keypoints: Measured, images: Mapping[str, ImageRecord], schemes: Mapping[str, KeypointScheme]
) -> tuple[Float[np.ndarray, "n k 2"], Bool[np.ndarray, "n k"]]:
    """Where the target's keypoints are, NaN for the keypoint itself and where there are fewer, and which are alike."""
    rows = []
    for pair in keypoints.pairs:
        shown = _shown(pair, images)
        places = np.asarray(list(shown.values()), dtype=np.float64).reshape(-1, 2)
        scheme = _scheme(pair, schemes)
        for name in pair.keypoint_ids:
            mates = alike(name, scheme)
            rows.append((places, [other == name for other in shown], [other in mates for other in shown]))
    most = max(len(places) for places, _, _ in rows)
    at, mirrored = np.full((len(rows), most, 2), np.nan), np.zeros((len(rows), most), dtype=bool)
    for row, (places, itself, mates_of_row) in enumerate(rows):
        at[row, : len(places)] = places
        at[row, : len(places)][itself] = np.nan
        mirrored[row, : len(places)] = mates_of_row
    return at, mirrored


def alike(name: str, scheme: KeypointScheme) -> set[str]:
    """The keypoints that mirror a keypoint, or are of one group with it; not itself."""
    groups = [set(group) for group in scheme.groups if name in group]
    return {scheme.partner(name), *(member for group in groups for member in group)} - {name}


def _shown(pair: Pair, images: Mapping[str, ImageRecord]) -> Mapping[str, tuple[float, float]]:
    told = images[pair.target].keypoints
    own = {
        name: (float(x), float(y)) for name, (x, y) in zip(pair.keypoint_ids, pair.target_points.tolist(), strict=True)
    }
    return {**told, **own}


def _scheme(pair: Pair, schemes: Mapping[str, KeypointScheme]) -> KeypointScheme:
    if pair.category not in schemes:
        raise DatasetError(
            f"errors are split by the symmetry of keypoints, and nothing tells that of category '{pair.category}'"
        )
    return schemes[pair.category]
