"""Deriving stores, and what it costs: fewer bytes against PCK, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from matchkit.cache.derive import Derivation, derive
from matchkit.cache.keypoints import build_table, keypoints_of
from matchkit.cache.measure import LayerLoss, bytes_an_image, layer_losses
from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.interfaces import Head
from matchkit.core.records import Pair, PairDataset
from matchkit.evaluate.intervals import PairedDifference, paired_difference
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.evaluate.pck import hits
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import Reference
from matchkit.extract.datasets import open_dataset
from matchkit.heads.identity import Concatenate, ConcatenateParams
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.match import predict

NOTE = "measured"
ALPHA = 0.1
SEARCH = 8
"""How many times finer than the grid matches are sought."""
COMPARED = 500
"""Pairs, drawn at random, whose maps are compared."""
MEMORY = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Converted:
    """A derived store: where it is, its digest, images, and bytes an image before and after."""

    store: str
    digest: str
    images: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a row of the table of losses says.

    Attributes:
        name: of a layer, all its timesteps concatenated, or `all` for all layers.
        loss: of the maps; None for `all`.
        pck: before and after, with the paired interval of the difference.
    """

    name: str
    loss: LayerLoss | None
    pck: PairedDifference


def derivation(
    *,
    codec: str,
    layers: tuple[str, ...],
    timesteps: tuple[int, ...],
    keep: float | None,
    weights: Path | None,
    pool: Literal["mean"] | None,
    zstd: bool,
) -> Derivation:
    """What a conversion changes, from what a user says.

    Raises:
        ConfigError: `keep` without weights, or beside named layers and timesteps.
    """
    if (keep is None) != (weights is None) or (keep and (layers or timesteps)):
        raise ConfigError("--keep takes --weights, and neither --layers nor --timesteps")
    if keep is not None and weights is not None:
        layers, timesteps = kept_by_share(weights, keep)
    return Derivation(dtype=codec, layers=layers, timesteps=timesteps, pool=pool or "", compressed=zstd)


def convert(store: str, out: str, derivation: Derivation) -> Converted:
    """Derives a store from another, an image at a time; an interrupted conversion is taken up."""
    parent = FeatureStore.open(store)
    with tqdm(total=len(parent.ids), desc="convert", unit="image", disable=None) as progress:
        derived = derive(parent, out, derivation, done=progress.update)
    return _converted(parent, derived)


def keypoint_table(store: str, out: str, *, dataset: str, root: Path | None) -> Converted:
    """Samples a store at all keypoints of all splits of a dataset."""
    parent, data = FeatureStore.open(store), open_dataset(dataset, root)
    pairs = [pair for split in data.splits for pair in data.pairs(split)]
    keypoints = {name: points for name, points in keypoints_of(pairs).items() if points}
    with tqdm(total=len(keypoints), desc="convert", unit="image", disable=None) as progress:
        table = build_table(parent, out, keypoints, data.images, done=progress.update)
    return _converted(parent, table.store)


def _converted(parent: FeatureStore, derived: FeatureStore) -> Converted:
    sizes = (bytes_an_image(store) for store in (parent, derived))
    return Converted(str(derived), derived.spec.digest(), len(derived.ids), *sizes)


def kept_by_share(weights: Path, share: float) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The fewest layers, and the fewest timesteps, that hold `share` of an aggregator's mixing weights.

    Raises:
        ConfigError: the head does not mix layers and timesteps, or the share is none.
    """
    kept = HeadWeights.load(weights)
    if "mixing_weights" not in kept.tensors or not 0 < share <= 1:
        raise ConfigError(f"{weights} mixes no layers and timesteps, or {share} is not in (0, 1]")
    head = kept.build(device=torch.device("cpu"))
    mixed = kept.tensors["mixing_weights"].double().softmax(0).numpy().reshape(len(head.timesteps), len(head.layers))
    return (
        _heaviest(head.layers, mixed.sum(axis=0), share),
        _heaviest(head.timesteps, mixed.sum(axis=1), share),
    )


def _heaviest(names: Sequence[Any], weights: np.ndarray, share: float) -> tuple[Any, ...]:
    order = np.argsort(-weights, kind="stable")
    count = int(np.searchsorted(np.cumsum(weights[order]), share - 1e-9)) + 1
    chosen = set(order[:count].tolist())
    return tuple(name for number, name in enumerate(names) if number in chosen)


def measure(before: str, after: str, *, dataset: str, root: Path | None, split: str, seed: int = 0) -> list[Measured]:
    """Compares a derived store with its parent on a split, and keeps the table in the derived store's notes.

    Raises:
        StoreError: an image of the split is not complete in both.
        ConfigError: the one store was not derived from the other.
        DatasetError: no pair of the split has a keypoint.
    """
    parent, derived = FeatureStore.open(before), FeatureStore.open(after)
    if not derived.spec.serves(parent.spec) or not set(derived.layers) <= set(parent.layers):
        raise ConfigError(f"{after} holds no maps that were derived from {before}")
    data = open_dataset(dataset, root)
    pairs = [pair for pair in data.pairs(split) if len(pair.source_points)]
    if not pairs:
        raise DatasetError(f"none of the pairs of {dataset}'s {split} has a keypoint. Take another --split")
    ids = sorted({image_id for pair in pairs for image_id in (pair.source, pair.target)})
    for store in (parent, derived):
        store.require(ids, remedy="Run: matchkit extract, then matchkit cache convert")
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:COMPARED]
    with tqdm(total=len(chosen), desc="compare maps", unit="pair", disable=None) as progress:
        losses = layer_losses(parent, derived, [pairs[index] for index in chosen], data.images, done=progress.update)
    rows = [
        Measured(loss.layer, loss, _pck(parent, derived, (loss.layer,), pairs, data))
        for loss in tqdm(losses, desc="match", unit="layer", disable=None)
    ]
    rows.append(Measured("all", None, _pck(parent, derived, derived.layers, pairs, data)))
    about = {"dataset": dataset, "split": split, "pairs": len(pairs), "alpha": ALPHA, "parent": parent.content}
    with FeatureStore.create(after, derived.spec, []) as writable:
        writable.note(NOTE, {**about, "rows": [_plain(row) for row in rows]})
    return rows


def _plain(row: Measured) -> Mapping[str, Any]:
    return {key: value for key, value in asdict(row).items() if value is not None}


def _pck(
    parent: FeatureStore, derived: FeatureStore, layers: Sequence[str], pairs: Sequence[Pair], data: PairDataset
) -> PairedDifference:
    boxed = all(pair.target_box is not None for pair in pairs)
    reference: Reference = "box" if boxed else "image"
    params = ConcatenateParams(layers=tuple(layers), timesteps=derived.timesteps)
    verdicts = []
    for store in (parent, derived):
        head: Head = Concatenate(params, spec=store.spec)
        maps = MapCache(store, layers=head.layers, timesteps=head.timesteps, limit=MEMORY)
        matcher = Nearest(NearestParams(upsample=SEARCH))
        found = Predictions(predict(pairs, data.images, head, maps, matcher, limit=MEMORY), {})
        verdicts.append(hits(pairs, data.images, found, alpha=ALPHA, reference=reference))
    return paired_difference(*verdicts)
