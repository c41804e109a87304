"""Adaptive pose alignment of pairs: the source's pose is chosen, and its keypoints are looked up in that copy.

Source: Zhang et al., Telling Left from Right, arXiv 2311.17034; GeoAware-SC §4.1.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from tqdm import tqdm

from matchkit.cache.store import FeatureStore
from matchkit.core.device import one_thread
from matchkit.core.errors import DatasetError
from matchkit.core.geometry import Points
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.poses import Pose, pose_of, posed_id, unposed_id
from matchkit.core.records import Pair, PairDataset
from matchkit.evaluate.masks import box_mask, mask_on_grid, posed_mask
from matchkit.evaluate.pose_alignment import PoseAlignmentParams, pose_distances
from matchkit.pipelines.frames import Frames
from matchkit.pipelines.lookup import Descriptor, Finder, Found, Query, Table, in_order, started

Describe = Callable[[str], Descriptor]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Aligned:
    """What was found, and how many pairs took which pose."""

    found: Found
    taken: Mapping[str, int]


def predict_aligned(
    pairs: Sequence[Pair],
    data: PairDataset,
    store: FeatureStore,
    finder: Finder,
    params: PoseAlignmentParams,
    *,
    describe: Describe,
) -> Aligned:
    """Matches every pair from the pose of its source that resembles the target most.

    A pair without keypoints has no points, takes no pose, and nothing is computed for it.

    Raises:
        StoreError: a posed copy of a source is not in the store.
        DatasetError: a category without scheme, a pair without box, or an image without mask, where one is needed.
    """
    counted = [pair for pair in pairs if len(pair.source_points)]
    require_copies(counted, store, params)
    schemes = find_schemes(counted, data, params)
    choice = PoseChoice(data, finder.frames, params, describe)
    found = started(pairs, finder)
    taken: Counter[str] = Counter()
    for pair in tqdm(in_order(counted), desc="match", unit="pair", leave=False, disable=None):
        pose = choice(pair)
        lookup = Lookup(pair, finder, describe)
        table = lookup.plain() if pose == "none" else lookup.posed(pose, schemes[pair.category], params)
        finder.keep(pair, table, found)
        taken[pose] += 1
    return Aligned(found, {pose: taken[pose] for pose in ("none", *params.poses)})


def require_copies(pairs: Sequence[Pair], store: FeatureStore, params: PoseAlignmentParams) -> None:
    """Refuses to go on unless the store holds the sources of the pairs in all poses.

    Raises:
        StoreError: with how many are missing, and how to extract them.
    """
    ids = sorted({posed_id(pair.source, pose) for pair in pairs for pose in params.poses})
    options = [
        option
        for option, wanted in (("--flip", {"hflip"}), ("--rotate", {"rot90", "rot270"}))
        if wanted & {*params.poses}
    ]
    store.require(ids, remedy=f"Run: matchkit extract {' '.join(options)}")


def find_schemes(
    pairs: Sequence[Pair], data: PairDataset, params: PoseAlignmentParams
) -> dict[str, KeypointScheme | None]:
    """What is known of each category's keypoints; None of one without scheme, where there is another way.

    Raises:
        DatasetError: a category has no scheme, and its keypoints would keep their places.
    """
    found: dict[str, KeypointScheme | None] = {}
    for category in sorted({pair.category for pair in pairs}):
        try:
            found[category] = data.scheme(category)
        except DatasetError as error:
            if "hflip" in params.poses and params.partnerless == "keep":
                raise DatasetError(f"{error}. Without it, align with: --set partnerless=self-match") from error
            log.info("partners are sought by the keypoints' own descriptors, as %s", error)
            found[category] = None
    return found


class PoseChoice:
    """In which pose the source of a pair resembles the target most.

    Args:
        data: whose masks are taken.
        frames: of the descriptor maps.
        params: of the alignment.
        describe: gives the descriptor map of an image or of a posed copy.
    """

    def __init__(self, data: PairDataset, frames: Frames, params: PoseAlignmentParams, describe: Describe) -> None:
        self._data = data
        self._frames = frames
        self._params = params
        self._describe = describe
        edge = params.alignment_grid
        self._grid = (edge, edge) if edge else frames.grid
        self._segmentations: dict[str, Bool[np.ndarray, "_ _"]] = {}

    def __call__(self, pair: Pair) -> Pose:
        """The first of the poses with the least distance; a source without a cell to compare stays as it is.

        Raises:
            DatasetError: a mask is wanted that is not there, or is of another size than its image.
        """
        poses: tuple[Pose, ...] = ("none", *self._params.poses)
        copies = [posed_id(pair.source, pose) for pose in poses]
        target = self._describe(pair.target)
        source_masks = np.stack([self._mask(copy, pair, pair.source_box, masked=True) for copy in copies])
        target_mask = self._mask(pair.target, pair, pair.target_box, masked=self._params.mask_target)
        distances = pose_distances(
            torch.stack([self._describe(copy) for copy in copies]),
            target,
            self._params,
            source_masks=torch.from_numpy(source_masks).to(target.device),
            target_mask=torch.from_numpy(target_mask).to(target.device),
        ).tolist()
        return "none" if np.isinf(distances[0]) else poses[int(np.argmin(distances))]

    def _mask(
        self, image_id: str, pair: Pair, box: tuple[float, float, float, float] | None, *, masked: bool
    ) -> Bool[np.ndarray, "gh gw"]:
        """What counts of an image, or of a posed copy, on the grid of the alignment."""
        if not masked or self._params.masks == "none":
            return np.ones(self._grid, dtype=np.bool_)
        if self._params.masks == "segmentation":
            if image_id not in self._segmentations:
                self._segmentations[image_id] = self._on_grid(self._segmentation(unposed_id(image_id)), image_id)
            return self._segmentations[image_id]
        if box is None:
            raise DatasetError(f"pair '{pair.id}' has no box of '{image_id}'. Align with: --set masks=none")
        return self._on_grid(box_mask(box, self._frames.images[unposed_id(image_id)].size), image_id)

    def _segmentation(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        size = self._frames.images[image_id].size
        try:
            mask = self._data.mask(image_id)
        except DatasetError as error:
            raise DatasetError(f"{error}. Align without it: --set masks=box, or masks=none") from error
        if mask.shape != size[::-1]:
            raise DatasetError(
                f"the mask of image '{image_id}' is {mask.shape[1]} x {mask.shape[0]} pixels, "
                f"the image {size[0]} x {size[1]}"
            )
        return mask

    def _on_grid(self, mask: Bool[np.ndarray, "h w"], image_id: str) -> Bool[np.ndarray, "gh gw"]:
        turned = posed_mask(mask, pose_of(image_id))
        placement = self._frames.placement(image_id)
        return mask_on_grid(turned, placement, self._grid, sampling=self._params.mask_sampling)


class Lookup:
    """Looks up the keypoints of a pair in its target: a row of the finder's table for each that is wanted.

    Args:
        pair: with keypoints.
        finder: of places.
        describe: gives the descriptor map of an image or of a posed copy.
    """

    def __init__(self, pair: Pair, finder: Finder, describe: Describe) -> None:
        self._pair = pair
        self._finder = finder
        self._describe = describe
        self._wanted = finder.wanted(pair)
        self._rows = np.arange(len(self._wanted.names))

    def plain(self) -> Table:
        """From the source as it is."""
        pair = self._pair
        return self._sought(pair.source, self._finder.frames.to_grid(pair.source, self._wanted.points), self._rows)

    def posed(self, pose: Pose, scheme: KeypointScheme | None, params: PoseAlignmentParams) -> Table:
        """From the source's copy in a pose.

        In a turned copy a keypoint is looked up at its turned place. In a mirrored one a left paw looks like a right
        one, so it is looked up at the mirrored place of its partner, where both images show that; for what the source
        alone shows, the source is enough.
        """
        pair, frames, points = self._pair, self._finder.frames, self._wanted.points
        copy = posed_id(pair.source, pose)
        places = frames.to_grid(copy, frames.posed(pair.source, points, pose))
        if pose != "hflip":
            return self._sought(copy, places, self._rows)
        partners, own = partner_rows(self._wanted.names, scheme), len(pair.keypoint_ids)
        partners[:own][partners[:own] >= own] = -1
        alone = partners < 0
        places = places[partners]
        if alone.any() and params.partnerless == "self-match":
            clicks = frames.to_grid(pair.source, points[alone])
            with one_thread():
                places[alone] = self._finder.matcher.match(self._describe(pair.source), self._describe(copy), clicks)
        elif alone.any():
            kept = self.plain()
            if not alone.all():
                kept[~alone] = self._sought(copy, places[~alone], self._rows[~alone])
            return kept
        return self._sought(copy, places, self._rows)

    def _sought(self, image: str, places: Points, rows: Int[np.ndarray, " _"]) -> Table:
        """What lies in the target at places of an image's grid."""
        pair, describe = self._pair, self._describe
        return self._finder(Query(pair, image, describe(image), describe(pair.target), places, rows))


def partner_rows(ids: Sequence[str], scheme: KeypointScheme | None) -> np.ndarray:
    """For each keypoint of a pair the row of its partner, -1 where that is unknown or not in the pair."""
    if scheme is None:
        return np.full(len(ids), -1)
    rows = {keypoint: row for row, keypoint in enumerate(ids)}
    return np.asarray([rows.get(scheme.partner(keypoint), -1) for keypoint in ids], dtype=np.int64)
