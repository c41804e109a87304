"""Stage match: a fitted head's descriptors of both images of every pair, matched, into a predictions file."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cachetools import LRUCache
from jaxtyping import Float
from tqdm import tqdm

from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device, one_thread
from matchkit.core.geometry import Points, grid_to_image, image_to_grid, place
from matchkit.core.interfaces import Head, ImageHead, Matcher, PairHead
from matchkit.core.params import build, divide
from matchkit.core.records import ImageRecord, Pair
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.position import same_relative_position
from matchkit.evaluate.predictions import Predictions
from matchkit.extract.datasets import open_dataset
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.settings import features_path, predictions_path, told, weights_path

POSITION = "same-relative-position"
"""The baseline that needs no features, by the name that stands in place of a head's."""

Descriptor = Float[torch.Tensor, "d gh gw"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MatchParams:
    """How keypoints are matched.

    Attributes:
        matcher: name in the table of matchers.
        split: which pairs.
        memory_gb: bound of the descriptors, and of the maps, that are held in memory.
    """

    matcher: str = "nearest"
    split: str = "test"
    memory_gb: float = 2.0


@dataclass(frozen=True, slots=True)
class Matched:
    """What a match wrote: the file, and how many pairs and keypoints are in it."""

    predictions: Path
    pairs: int
    keypoints: int


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
        descriptor = self._head.describe(self._maps.batch([image_id]))[0]
        if descriptor.nbytes <= self._held.maxsize:
            self._held[image_id] = descriptor
        return descriptor


def describer(head: Head, maps: MapCache, *, limit: int) -> Callable[[Pair], tuple[Descriptor, Descriptor]]:
    """What gives the descriptors of a pair's source and target; of single images, as many as `limit` bytes are held."""
    if isinstance(head, PairHead):

        @torch.inference_mode()
        def together(pair: Pair) -> tuple[Descriptor, Descriptor]:
            source, target = head.describe_pair(maps.batch([pair.source, pair.target]))
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
) -> dict[str, Points]:
    """Matches every pair; the points are in the target's image frame, by pair id in the order of `pairs`."""
    spec = maps.store.spec
    describe = describer(head, maps, limit=limit)
    found: dict[str, Points] = {}
    # neighbours share images: a descriptor is then still in memory when it is wanted again
    ordered = sorted(pairs, key=lambda pair: (pair.target, pair.source))
    for pair in tqdm(ordered, desc="match", unit="pair", leave=False, disable=None):
        source_placement = place(images[pair.source].size, spec.input_size, fit=spec.fit)
        target_placement = place(images[pair.target].size, spec.input_size, fit=spec.fit)
        points = image_to_grid(pair.source_points, source_placement, head.grid)
        source, target = describe(pair)
        with one_thread():
            matched = matcher.match(source, target, points)
        found[pair.id] = grid_to_image(matched, target_placement, head.grid)
    return {pair.id: found[pair.id] for pair in pairs}


def match(
    dataset: str,
    name: str,
    *,
    root: Path | None = None,
    store: Path | str | None = None,
    weights: Path | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Matched:
    """Matches the pairs of a split with the fitted head `name`, or with the baseline of the same relative position.

    Raises:
        MatchkitError: the head, the store or an image of the pairs is not there, or their specs differ.
    """
    asked = told("match", settings)
    matcher_name = str(asked.values.get("matcher", MatchParams().matcher))
    own, of_matcher = divide(asked.values, (MatchParams, MATCHERS.load(matcher_name).Params), where=asked.where)
    params = build(MatchParams, own, where=asked.where)
    data = open_dataset(dataset, root)
    pairs = data.pairs(params.split)
    made_by: dict[str, Any] = {"dataset": dataset, "split": params.split, "method": name}
    if name == POSITION:
        points = {pair.id: same_relative_position(pair) for pair in pairs}
    else:
        matcher: Matcher = MATCHERS.build(matcher_name, of_matcher, where=asked.where)
        path = weights or weights_path(dataset, name)
        kept = HeadWeights.load(path)
        opened = FeatureStore.open(store or features_path(dataset, str(kept.fit["features"])), kept.spec)
        head = kept.build(device=choose_device(device))
        limit = round(params.memory_gb * 1e9)
        maps = MapCache(opened, layers=head.layers, timesteps=head.timesteps, limit=limit)
        points = predict(pairs, data.images, head, maps, matcher, limit=limit)
        made_by |= {"head": kept.head, "config": dict(kept.config), "fit": dict(kept.fit)}
        made_by |= {"features": opened.spec.digest(), "matcher": {"name": matcher_name, **of_matcher}}
    out = predictions_path(dataset, name)
    Predictions(points, made_by).save(out)
    return Matched(out, len(pairs), sum(len(found) for found in points.values()))
