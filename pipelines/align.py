"""Adaptive pose alignment of pairs: the source's pose is chosen, and its keypoints are looked up in that copy.

Source: Zhang et al., Telling Left from Right, arXiv 2311.17034; GeoAware-SC §4.1.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from tqdm import tqdm

from matchkit.cache.store import FeatureStore
from matchkit.core.device import one_thread
from matchkit.core.errors import DatasetError
from matchkit.core.geometry import KEYPOINT_RULES, KeypointRuleName, Points, place, posed_points
from matchkit.core.interfaces import Matcher
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.poses import Pose, pose_of, posed, posed_id, unposed_id
from matchkit.core.records import ImageRecord, Pair, PairDataset, Placement
from matchkit.core.spec import FeatureSpec
from matchkit.evaluate.masks import box_mask, mask_on_grid, posed_mask
from matchkit.evaluate.pose_alignment import PoseAlignmentParams, pose_distances

Descriptor = Float[torch.Tensor, "d gh gw"]
Describe = Callable[[str], Descriptor]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Frames:
    """Where the images of a dataset, and their posed copies, lie in a network's input and on a grid.

    Attributes:
        images: the dataset's, by id.
        spec: of the features.
        grid: (height, width) of the descriptor map in cells.
        rule: how points change between the image frame and the grid frame.
    """

    images: Mapping[str, ImageRecord]
    spec: FeatureSpec
    grid: tuple[int, int]
    rule: KeypointRuleName = "centre"

    def placement(self, image_id: str) -> Placement:
        """Of an image, or of a posed copy."""
        record = posed(self.images[unposed_id(image_id)], pose_of(image_id))
        return place(record.size, self.spec.input_size, fit=self.spec.fit)

    def to_grid(self, image_id: str, points: Points) -> Points:
        """Takes points of an image from the image frame to the grid frame."""
        return KEYPOINT_RULES[self.rule].to_grid(points, self.placement(image_id), self.grid)

    def to_image(self, image_id: str, points: Points) -> Points:
        """Takes points of an image from the grid frame to the image frame."""
        return KEYPOINT_RULES[self.rule].to_image(points, self.placement(image_id), self.grid)

    def posed(self, image_id: str, points: Points, pose: Pose) -> Points:
        """Where points of an image lie in its copy in a pose; both in their image frames.

        A rule that has pixels' corners at integers mirrors about half the width, as published.
        """
        width, height = self.images[image_id].size
        more = 1 if self.rule in ("corner", "patch") else 0
        return posed_points(points, (width + more, height + more), pose)


@dataclass(frozen=True, slots=True)
class Aligned:
    """The points found by pair id, in the target's image frame, and how many pairs took which pose."""

    points: Mapping[str, Points]
    taken: Mapping[str, int]


def predict_aligned(
    pairs: Sequence[Pair],
    data: PairDataset,
    store: FeatureStore,
    matcher: Matcher,
    params: PoseAlignmentParams,
    *,
    describe: Describe,
    frames: Frames,
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
    choice = PoseChoice(data, frames, params, describe)
    found: dict[str, Points] = {pair.id: np.zeros((0, 2), np.float32) for pair in pairs}
    taken: Counter[str] = Counter()
    for pair in tqdm(in_order(counted), desc="match", unit="pair", leave=False, disable=None):
        pose = choice(pair)
        lookup = Lookup(pair, frames, matcher, describe)
        found[pair.id] = lookup.plain() if pose == "none" else lookup.posed(pose, schemes[pair.category], params)
        taken[pose] += 1
    return Aligned(found, {pose: taken[pose] for pose in ("none", *params.poses)})


def in_order(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs with neighbours that share images: a descriptor is then still in memory when it is wanted again."""
    return sorted(pairs, key=lambda pair: (pair.target, pair.source))


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
    """Finds the keypoints of a pair in its target.

    Args:
        pair: with keypoints.
        frames: of the descriptor maps.
        matcher: in the grid frame.
        describe: gives the descriptor map of an image or of a posed copy.
    """

    def __init__(self, pair: Pair, frames: Frames, matcher: Matcher, describe: Describe) -> None:
        self._pair = pair
        self._frames = frames
        self._matcher = matcher
        self._describe = describe

    def plain(self) -> Points:
        """From the source as it is."""
        pair = self._pair
        return self._sought(pair.source, self._frames.to_grid(pair.source, pair.source_points))

    def posed(self, pose: Pose, scheme: KeypointScheme | None, params: PoseAlignmentParams) -> Points:
        """From the source's copy in a pose.

        In a turned copy a keypoint is looked up at its turned place. In a mirrored one a left paw looks like a right
        one, so it is looked up at the mirrored place of its partner, where both images show that.
        """
        pair = self._pair
        copy = posed_id(pair.source, pose)
        places = self._frames.to_grid(copy, self._frames.posed(pair.source, pair.source_points, pose))
        if pose != "hflip":
            return self._sought(copy, places)
        partners = partner_rows(pair.keypoint_ids, scheme)
        alone = partners < 0
        places = places[partners]
        if alone.any() and params.partnerless == "self-match":
            clicks = self._frames.to_grid(pair.source, pair.source_points[alone])
            places[alone] = self._match(pair.source, copy, clicks)
        elif alone.any():
            kept = self.plain()
            if not alone.all():
                kept[~alone] = self._sought(copy, places[~alone])
            return kept
        return self._sought(copy, places)

    def _sought(self, source: str, places: Points) -> Points:
        """What lies in the target at places of the source's grid, in the target's image frame."""
        return self._frames.to_image(self._pair.target, self._match(source, self._pair.target, places))

    def _match(self, source: str, target: str, places: Points) -> Points:
        with one_thread():
            return self._matcher.match(self._describe(source), self._describe(target), places)


def partner_rows(ids: Sequence[str], scheme: KeypointScheme | None) -> np.ndarray:
    """For each keypoint of a pair the row of its partner, -1 where that is unknown or not in the pair."""
    if scheme is None:
        return np.full(len(ids), -1)
    rows = {keypoint: row for row, keypoint in enumerate(ids)}
    return np.asarray([rows.get(scheme.partner(keypoint), -1) for keypoint in ids], dtype=np.int64)
