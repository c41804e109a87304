"""Stage fit-head: a head fitted on the training pairs from the store alone, chosen on the validation pairs."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matchkit.cache.pairs import CachedPairs, MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.geometry import image_to_grid, image_to_grid_corner
from matchkit.core.interfaces import Head, TrainableHead
from matchkit.core.params import build, divide
from matchkit.core.records import Pair, PairDataset
from matchkit.evaluate.matchers import Nearest, NearestParams
from matchkit.evaluate.pck import score
from matchkit.evaluate.predictions import Predictions
from matchkit.evaluate.protocol import EvalProtocol
from matchkit.extract.datasets import open_dataset
from matchkit.heads import HEADS
from matchkit.heads.fit import Fit, FitFiles, FitParams, choose_layer
from matchkit.heads.identity import RawLayer
from matchkit.heads.weights import keep
from matchkit.pipelines.match import predict
from matchkit.pipelines.settings import features_path, told_for, weights_path

TO_GRID = {"centre": image_to_grid, "corner": image_to_grid_corner}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitHeadParams:
    """What a head is fitted on.

    Attributes:
        head: name in the table of heads; "" where the entry itself has that name.
        features: the feature store of the dataset, by the name of its entry in `extract`.
        train: the split that is trained on.
        validation: the split that chooses.
        alpha: the threshold of the validation's PCK.
        memory_gb: bound of the maps that are held in memory.
    """

    head: str = ""
    features: str = "sd-inversion"
    train: str = "trn"
    validation: str = "val"
    alpha: float = 0.1
    memory_gb: float = 4.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a fit left: the weights, and the best PCK on the validation pairs in percent."""

    weights: Path
    validation: float


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
        self._protocol = EvalProtocol(alphas=(params.alpha,), references=("box",) if boxed else ("image",))

    def __call__(self, head: Head) -> float:
        """The head's PCK in percent."""
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
    kinds = (FitHeadParams, HEADS.load(name).Params, FitParams)
    own, of_head, of_fit = divide(asked.values, kinds, where=asked.where)
    params, fit_params = build(FitHeadParams, own, where=asked.where), build(FitParams, of_fit, where=asked.where)
    data = open_dataset(dataset, root)
    features = FeatureStore.open(store or features_path(dataset, params.features))
    head: Head = HEADS.build(name, of_head, where=asked.where, spec=features.spec)
    validation = Validation(features, data, params)
    files = FitFiles(out or weights_path(dataset, entry))
    about: dict[str, Any] = {
        "dataset": dataset,
        "features": params.features,
        "train": params.train,
        "validation_split": params.validation,
    }
    if isinstance(head, TrainableHead):
        pairs = data.pairs(params.train)
        about |= {"data": _digest(features, [*pairs, *validation.pairs]), "alpha": params.alpha}
        head.to(choose_device(device))
        maps = MapCache(
            features,
            layers=head.layers,
            timesteps=head.timesteps,
            limit=round(params.memory_gb * 1e9),
            device=choose_device(device),
        )
        cached = CachedPairs(maps, pairs, data.images, grid=head.grid, to_grid=TO_GRID[fit_params.points])
        if not cached.holds_all:  # the order of the pairs then depends on how many images are at hand together
            about["at_once"] = maps.images
        fit = Fit(head, name, spec=features.spec, params=fit_params, files=files, about=about)
        return Fitted(files.best, _train(fit, cached, fit_params, validation))
    if isinstance(head, RawLayer):
        head, best = choose_layer(head, validation)
    else:
        best = validation(head)
    keep(head, name, spec=features.spec, fit={**about, "validation": round(best, 4)}).save(files.best)
    return Fitted(files.best, best)


def _digest(store: FeatureStore, pairs: Sequence[Pair]) -> str:
    """Names what a fit learns from: the store's content and the pairs with their keypoints.

    A fit that is complete, or was interrupted, on other data is then not taken for this one.
    """
    digest = hashlib.sha256(store.content.encode())
    for pair in pairs:
        digest.update(f"{pair.id} {pair.source_points.tolist()} {pair.target_points.tolist()}".encode())
    return digest.hexdigest()[:12]


def _train(fit: Fit, pairs: CachedPairs, params: FitParams, validation: Validation) -> float:
    done = fit.completed()
    if done is not None:
        log.info("this fit is complete already")
        return done
    return fit.run(lambda start: pairs.batches(size=params.pairs, seed=params.order_seed, start=start), validation)
