"""Stage match: a fitted head's descriptors of both images of every pair, matched, into a predictions file."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from cachetools import LRUCache
from tqdm import tqdm

from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError
from matchkit.core.geometry import KeypointRuleName, Points
from matchkit.core.interfaces import Head, ImageHead, Matcher, PairHead
from matchkit.core.manifest import manifest_digest
from matchkit.core.params import build, divide
from matchkit.core.records import ImageRecord, Pair, PairDataset
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.evidence import Presences
from matchkit.evaluate.pose_alignment import PoseAlignmentParams
from matchkit.evaluate.position import same_relative_position
from matchkit.evaluate.predictions import Predictions
from matchkit.extract.datasets import open_dataset
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.align import predict_aligned
from matchkit.pipelines.frames import Frames
from matchkit.pipelines.lookup import Descriptor, Finder, Found, Query, Witness, in_order, presences_of, started
from matchkit.pipelines.prompted import promptable
from matchkit.pipelines.settings import features_path, predictions_path, told, weights_path

POSITION = "same-relative-position"
"""The baseline that needs no features, by the name that stands in place of a head's."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MatchParams:
    """How keypoints are matched.

    Attributes:
        matcher: name in the table of matchers.
        split: which pairs.
        points: how keypoints change between the image frame and the grid (`KEYPOINT_RULES`); `patch` is GeoAware-SC's,
            `align-corners` SD4Match's.
        limit: only so many pairs, spread over the split; 0 for all. What comes of them is marked as partial.
        memory_gb: bound of the descriptors that are held in memory, or of the maps for a head that describes pairs.
        evidence: whether each match's evidence is kept beside it (`matchkit.evaluate.evidence`), at about twice the
            time.
        presence_alphas: the radii, as shares of the target's box (of its image, where a pair has no box), within which
            the similarity of all keypoints is kept that the source shows; part of the evidence, for datasets that tell
            which keypoints an image shows.

    Raises:
        ConfigError: a radius of nothing, or fewer than no pairs.
    """

    matcher: str = "nearest"
    split: str = "test"
    limit: int = 0
    points: Literal["centre", "patch", "align-corners"] = "centre"
    memory_gb: float = 2.0
    evidence: bool = True
    presence_alphas: tuple[float, ...] = (0.05, 0.1, 0.15)

    def __post_init__(self) -> None:
        if min(self.presence_alphas, default=1.0) <= 0:
            raise ConfigError(f"presence_alphas must be above 0, not {list(self.presence_alphas)}")
        if self.limit < 0:
            raise ConfigError(f"limit must be 0, for all pairs, or more, not {self.limit}")

    def chosen(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """The pairs that are matched."""
        if not self.limit or self.limit >= len(pairs):
            return pairs
        return [pairs[row * len(pairs) // self.limit] for row in range(self.limit)]


@dataclass(frozen=True, slots=True)
class Matched:
    """What a match wrote: the file, how many pairs and keypoints are in it, and how many pairs took which pose."""

    predictions: Path
    pairs: int
    keypoints: int
    poses: Mapping[str, int]


class Describer:
    """A head's descriptor of every image, computed once and held in at most `limit` bytes."""

    def __init__(self, head: ImageHead, maps: MapCache, *, limit: int) -> None:
        self._head = head
        self._maps = maps
        self._held: LRUCache[str, Descriptor] = LRUCache(limit, getsizeof=lambda held: held.nbytes)

    @torch.inference_mode()
    def __call__(self, image_id: str) -> Descriptor:
        """The descriptor map of an image."""
        if image_id in self._held:
            return self._held[image_id]
        descriptor = self._head.describe(self._maps.batch([image_id]), [image_id])[0]
        if descriptor.nbytes <= self._held.maxsize:
            self._held[image_id] = descriptor
        return descriptor


def describer(head: Head, maps: MapCache, *, limit: int) -> Callable[[Pair], tuple[Descriptor, Descriptor]]:
    """What gives the descriptors of a pair's source and target; of single images, as many as `limit` bytes are held."""
    if isinstance(head, PairHead):

        @torch.inference_mode()
        def together(pair: Pair) -> tuple[Descriptor, Descriptor]:
            ids = [pair.source, pair.target]
            source, target = head.describe_pair(maps.batch(ids), ids)
            return source, target

        return together
    describe = Describer(head, maps, limit=limit)
    return lambda pair: (describe(pair.source), describe(pair.target))


def predict(
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    head: Head,
    maps: MapCache,
    matcher: Matcher,
    *,
    limit: int,
    points: KeypointRuleName = "centre",
) -> dict[str, Points]:
    """Matches every pair; the points are in the target's image frame, by pair id in the order of `pairs`.

    A pair without keypoints has no points, and nothing is computed for it.
    """
    finder = Finder(Frames(images, maps.store.spec, head.grid, points), matcher)
    return predict_with(finder, pairs, head, maps, limit=limit).points


def predict_with(finder: Finder, pairs: Sequence[Pair], head: Head, maps: MapCache, *, limit: int) -> Found:
    """As `predict`, with all that a finder tells."""
    describe = describer(head, maps, limit=limit)
    found = started(pairs, finder)
    counted = [pair for pair in pairs if len(pair.source_points)]
    for pair in tqdm(in_order(counted), desc="match", unit="pair", leave=False, disable=None):
        wanted = finder.wanted(pair)
        places = finder.frames.to_grid(pair.source, wanted.points)
        source, target = describe(pair)
        query = Query(pair, pair.source, source, target, places, np.arange(len(places)))
        finder.keep(pair, finder(query), found)
    return found


def match(
    dataset: str,
    name: str,
    *,
    root: Path | None = None,
    store: Path | str | None = None,
    weights: Path | None = None,
    called: str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Matched:
    """Matches the pairs of a split with the fitted head `name`, or with the baseline of the same relative position.

    Args:
        dataset: its name.
        name: of the head.
        root: of the dataset's tree.
        store: of the features.
        weights: of the head.
        called: the predictions' name, by default the head's.
        settings: over `params.yaml`.
        device: on which descriptors are computed.

    Raises:
        MatchkitError: the head, the store or an image of the pairs is not there, or their specs differ.
    """
    out = predictions_path(dataset, _plain_name(name if called is None else called))
    asked = told("match", settings)
    matcher_name = str(asked.values.get("matcher", MatchParams().matcher))
    kinds = (MatchParams, PoseAlignmentParams, MATCHERS.load(matcher_name).Params)
    own, of_alignment, of_matcher = divide(asked.values, kinds, where=asked.where)
    params = build(MatchParams, own, where=asked.where)
    alignment = build(PoseAlignmentParams, of_alignment, where=asked.where)
    data = open_dataset(dataset, root)
    listed = data.pairs(params.split)
    pairs = params.chosen(listed)
    made_by: dict[str, Any] = {"dataset": dataset, "split": params.split, "method": out.stem}
    made_by["manifest"] = manifest_digest(dataset, params.split, listed)
    if len(pairs) < len(listed):
        made_by["limit"] = len(pairs)
    poses: Mapping[str, int] = {}
    presences = presences_of(pairs, data.images, params.presence_alphas) if params.evidence else None
    if name == POSITION:
        found = Found({pair.id: same_relative_position(pair) for pair in pairs})
    else:
        matcher: Matcher = MATCHERS.build(matcher_name, of_matcher, where=asked.where)
        kept = HeadWeights.load(weights or weights_path(dataset, name))
        opened = FeatureStore.open(store or features_path(dataset, str(kept.fit["features"])), kept.spec)
        chosen = choose_device(device)
        head = kept.build(device=chosen, backbones=partial(promptable, device=chosen, where=f"head '{name}'"))
        frames = Frames(data.images, opened.spec, head.grid, params.points)
        finder = Witness(frames, matcher, presences) if params.evidence else Finder(frames, matcher)
        found, poses = _found(pairs, data, head, opened, finder, alignment, limit=round(params.memory_gb * 1e9))
        made_by |= {"head": kept.head, "config": dict(kept.config), "fit": dict(kept.fit), "points": params.points}
        made_by |= {
            "features": opened.spec.digest(),
            "spec": opened.spec.to_json(),
            "matcher": {"name": matcher_name, **of_matcher},
        }
        if alignment.poses:
            made_by["alignment"] = {**asdict(alignment), "pairs_by_pose": dict(poses)}
    kept_presences = replace(presences, of_pair=found.presences) if presences and found.presences else Presences()
    Predictions(found.points, made_by, found.evidence, kept_presences).save(out)
    return Matched(out, len(pairs), sum(len(points) for points in found.points.values()), poses)


def _found(
    pairs: Sequence[Pair],
    data: PairDataset,
    head: Head,
    store: FeatureStore,
    finder: Finder,
    alignment: PoseAlignmentParams,
    *,
    limit: int,
) -> tuple[Found, Mapping[str, int]]:
    """What is found for every pair, and how many pairs took which pose."""
    # of single images the descriptors are held instead, and a map is read once
    held = limit if isinstance(head, PairHead) else 0
    maps = MapCache(store, layers=head.layers, timesteps=head.timesteps, limit=held)
    if not alignment.poses:
        return predict_with(finder, pairs, head, maps, limit=limit), {}
    if not isinstance(head, ImageHead):
        raise ConfigError(
            f"{type(head).__name__} describes pairs, not images, so it has no pose alignment. Match with: --set "
            "'poses=[]'"
        )
    describe = Describer(head, maps, limit=limit)
    aligned = predict_aligned(pairs, data, store, finder, alignment, describe=describe)
    return aligned.found, aligned.taken


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise ConfigError(f"predictions need a plain name, of letters, digits and '_-+.', not '{name}'")
    return name
