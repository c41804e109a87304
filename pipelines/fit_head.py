"""Stage fit-head: a head fitted on the training pairs from the store alone, chosen on the validation pairs."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from matchkit.cache.pairs import CachedPairs, MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.errors import WeightsError
from matchkit.core.flips import Flips, FlipWeights
from matchkit.core.geometry import KEYPOINT_RULES, KeypointRuleName
from matchkit.core.interfaces import Head, ImageHead, PairBatch, PairHead, PromptedHead, ReadsMaps, TrainableHead
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.params import build, divide
from matchkit.core.records import Pair, PairDataset
from matchkit.core.spec import FeatureSpec
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.extract.datasets import open_dataset
from matchkit.heads import HEADS
from matchkit.heads.fit import Fit, FitFiles, FitParams, choose_layer
from matchkit.heads.identity import RawLayer
from matchkit.heads.weights import HeadWeights, keep
from matchkit.pipelines.fit_exemplars import EXEMPLAR_HEADS, fit_exemplars, refuse_store
from matchkit.pipelines.match import predict
from matchkit.pipelines.prompted import promptable
from matchkit.pipelines.settings import features_path, told_for, weights_path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitHeadParams:
    """What a head is fitted on.

    Attributes:
        head: name in the table of heads; "" where the entry itself has that name.
        features: the feature store of the dataset, by the name of its entry in `extract`.
        train: the split that is trained on.
        validation: the split that chooses.
        start: a fitted head's file whose weights this fit begins with, say after training on another dataset; "" draws
            them.
        alpha: the threshold of the validation's PCK.
        memory_gb: bound of the maps that are held in memory.
    """

    head: str = ""
    features: str = "sd-inversion"
    train: str = "trn"
    validation: str = "val"
    start: str = ""
    alpha: float = 0.1
    memory_gb: float = 4.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit left: the weights, and the best score on the validation pairs with its unit."""

    weights: Path
    validation: float
    unit: str = "%"


class Validation:
    """Scores a head on the validation pairs: PCK a keypoint, nearest neighbours, box where there is one."""

    def __init__(self, store: FeatureStore, dataset: PairDataset, params: FitHeadParams) -> None:
        self._store = store
        self._images = dataset.images
        self.pairs = [pair for pair in dataset.pairs(params.validation) if len(pair.source_points)]
        ids = sorted({image_id for pair in self.pairs for image_id in (pair.source, pair.target)})
        store.require(ids, remedy="Run: matchkit extract")
        self._limit = round(params.memory_gb * 1e9)
        self._caches: dict[tuple[Any, ...], MapCache] = {}
        boxed = all(pair.target_box is not None for pair in self.pairs)
        self._protocol = EvalProtocol(alphas=(params.alpha,), references=("box",) if boxed else ("image",), resamples=0)

    def __call__(self, head: ReadsMaps) -> float:
        """The head's PCK in percent."""
        assert isinstance(head, ImageHead | PairHead)
        key = (head.layers, head.timesteps)
        if key not in self._caches:
            # one at a time: a search over layers would otherwise hold every layer
            self._caches = {key: MapCache(self._store, layers=key[0], timesteps=key[1], limit=self._limit)}
        found = predict(self.pairs, self._images, head, self._caches[key], Nearest(NearestParams()), limit=self._limit)
        report = score(self.pairs, self._images, Predictions(found, {}), self._protocol)
        return next(iter(report.scores[self._protocol.references[0]]["keypoint"].values()))


def fit_head(
    dataset: str,
    entry: str,
    *,
    root: Path | None = None,
    store: Path | str | None = None,
    out: Path | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Fitted:
    """Fits the head that `fit_head.<dataset>.<entry>` of `params.yaml` describes; a fit that is complete is kept.

    Raises:
        MatchkitError: an unknown head or parameter, features that are not there, or an empty split.
    """
    asked = told_for("fit_head", dataset, entry, settings)
    name = str(asked.values.get("head") or entry)
    if name in EXEMPLAR_HEADS:
        refuse_store(store)
        return Fitted(*fit_exemplars(dataset, entry, asked, root=root, out=out, device=device))
    kinds = (FitHeadParams, HEADS.load(name).Params, FitParams, FlipWeights)
    own, of_head, of_fit, of_flips = divide(asked.values, kinds, where=asked.where)
    params, fit_params = build(FitHeadParams, own, where=asked.where), build(FitParams, of_fit, where=asked.where)
    flips = build(FlipWeights, of_flips, where=asked.where)
    data = open_dataset(dataset, root)
    features = FeatureStore.open(store or features_path(dataset, params.features))
    chosen = choose_device(device)
    head = _head(name, of_head, data, params, features.spec, where=asked.where, device=chosen)
    validation = Validation(features, data, params)
    files = FitFiles(out or weights_path(dataset, entry))
    about: dict[str, Any] = {
        "dataset": dataset,
        "features": params.features,
        "train": params.train,
        "validation_split": params.validation,
    }
    if isinstance(head, TrainableHead) and list(head.parameter_groups()):
        if params.start:
            about["start"] = _begin(head, name, Path(params.start))
        head.to(chosen)
        pairs = _cached(features, data, head, params, points=fit_params.points, flips=flips, device=chosen)
        about |= {"data": _digest(features, [*data.pairs(params.train), *validation.pairs]), "alpha": params.alpha}
        about |= pairs.shapes_order
        if flips.any:
            about |= asdict(flips) | {"symmetry": _symmetry(data, params.train)}
        fit = Fit(head, name, spec=features.spec, params=fit_params, files=files, about=about, device=chosen)
        return Fitted(files.best, _train(fit, pairs, fit_params, validation))
    if isinstance(head, RawLayer):
        head, best = choose_layer(head, validation)
    else:
        best = validation(head)
    keep(head, name, spec=features.spec, fit={**about, "validation": round(best, 4)}).save(files.best)
    return Fitted(files.best, best)


def _head(
    name: str,
    values: Mapping[str, Any],
    data: PairDataset,
    params: FitHeadParams,
    spec: FeatureSpec,
    *,
    where: str,
    device: torch.device,
) -> Head:
    """The head before it is fitted, with its backbone where it asks for one."""
    told = dict(values)
    if told.get("kind") == "class" and "categories" not in told:
        told["categories"] = sorted({pair.category for pair in data.pairs(params.train)})
    head: Head = HEADS.build(name, told, where=where, spec=spec)
    if isinstance(head, PromptedHead):
        head.take(promptable(head.network, device=device, where=f"{where} network"))
    return head


def _begin(head: TrainableHead, name: str, path: Path) -> str:
    """Gives a head the weights of another fit, and returns which one that was.

    Raises:
        WeightsError: no such file, or the weights of another head or other widths.
    """
    kept = HeadWeights.load(path)
    if kept.head != name:
        raise WeightsError(f"{path} holds the head '{kept.head}', not '{name}'")
    kept.give(head)
    return str(kept.fit.get("identity", path))


def _cached(
    features: FeatureStore,
    data: PairDataset,
    head: TrainableHead,
    params: FitHeadParams,
    *,
    points: KeypointRuleName,
    flips: FlipWeights,
    device: torch.device,
) -> CachedPairs:
    """The training pairs from the store."""
    pairs = data.pairs(params.train)
    limit = round(params.memory_gb * 1e9)
    maps = MapCache(features, layers=head.layers, timesteps=head.timesteps, limit=limit, device=device)
    variants = Flips(flips, data.images, _schemes(data, pairs)) if flips.any else None
    return CachedPairs(maps, pairs, data.images, grid=head.grid, rule=KEYPOINT_RULES[points], flips=variants)


def _schemes(data: PairDataset, pairs: Sequence[Pair]) -> dict[str, KeypointScheme]:
    return {category: data.scheme(category) for category in sorted({pair.category for pair in pairs})}


def _symmetry(data: PairDataset, split: str) -> str:
    """Names what mirrored variants are made from beside the pairs: what the images show, and what mirrors what."""
    pairs = data.pairs(split)
    shown = [dict(data.images[image_id].keypoints) for pair in pairs for image_id in (pair.source, pair.target)]
    return hashlib.sha256(f"{_schemes(data, pairs)} {shown}".encode()).hexdigest()[:12]


def _digest(store: FeatureStore, pairs: Sequence[Pair]) -> str:
    """Names what a fit learns from: the store's content and the pairs with their keypoints.

    A fit that is complete, or was interrupted, on other data is then not taken for this one.
    """
    digest = hashlib.sha256(store.content.encode())
    for pair in pairs:
        digest.update(f"{pair.id} {pair.source_points.tolist()} {pair.target_points.tolist()}".encode())
    return digest.hexdigest()[:12]


def _train(fit: Fit[PairBatch], pairs: CachedPairs, params: FitParams, validation: Validation) -> float:
    done = fit.completed()
    if done is not None:
        log.info("this fit is complete already")
        return done
    share = fit.processes.share
    return fit.run(
        lambda start: pairs.batches(size=params.pairs, seed=params.order_seed, start=start, share=share), validation
    )
