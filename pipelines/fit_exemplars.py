"""Stage fit-head for heads between two domains: fitted on conditions and exemplars from the stores of both."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from matchkit.cache.exemplars import CachedExemplars, Domains, Shares
from matchkit.cache.pairs import MapCache
from matchkit.cache.store import FeatureStore
from matchkit.core.conditions import ConditionSpec, condition_spec_of
from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError, StoreError, WeightsError
from matchkit.core.exemplar_batches import LATENT, PARTS, PHOTO, ExemplarBatch, ExemplarHead
from matchkit.core.exemplars import Exemplars, read_exemplars
from matchkit.core.params import build, divide
from matchkit.core.records import ImageRecord
from matchkit.extract.datasets import open_dataset
from matchkit.heads import HEADS
from matchkit.heads.cross_domain.translator import Translator
from matchkit.heads.fit import Fit, FitFiles, FitParams
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.settings import Told, exemplars_path, features_path, weights_path

EXEMPLAR_HEADS = ("cross-domain", "translator")
"""The heads of the table that are fitted here."""
READ = ("features", "conditions", "photos", "latents", "masks")
"""The parameters that name stores; a fitted head keeps them."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitExemplarsParams:
    """What a head between two domains is fitted on.

    Attributes:
        head: name in the table of heads; "" where the entry itself has that name.
        features: the store of the photographs' maps, by the name of its entry in `extract`.
        conditions: the store of the conditions, by its name, mostly that of their kind.
        photos: the store of the photographs' pixels.
        latents: the store of their latents.
        masks: the store of their parts; "" where none are known. A head of masks has its own.
        train: the split that is trained on, with its list of exemplars.
        validation: the split that chooses.
        start: a fitted head's file whose weights this fit begins with; a translator takes a cross-domain head's.
        validated: how many images of the validation split are looked at.
        memory_gb: bound of what is held in memory, of each store.
    """

    head: str = ""
    features: str = "geoaware"
    conditions: str = "mask"
    photos: str = "pixels"
    latents: str = "sd-latents"
    masks: str = ""
    train: str = "trn"
    validation: str = "val"
    start: str = ""
    validated: int = 64
    memory_gb: float = 2.0


@dataclass(frozen=True, slots=True)
class Stores:
    """The opened stores of a dataset's domains, by what they hold."""

    maps: FeatureStore
    condition: FeatureStore
    payloads: Mapping[str, FeatureStore]

    @property
    def condition_spec(self) -> ConditionSpec:
        """What the conditions are."""
        return condition_spec_of(self.condition.spec)

    @property
    def parts_spec(self) -> ConditionSpec | None:
        """What the parts are, where they are known."""
        return condition_spec_of(self.payloads[PARTS].spec) if PARTS in self.payloads else None

    def domains(
        self, head: ExemplarHead, *, payloads: Sequence[str], memory_gb: float, device: torch.device
    ) -> Domains:
        """The stores with memory in front of each, as a head reads them."""
        limit = round(memory_gb * 1e9)

        def held(store: FeatureStore, layers: Sequence[str], timesteps: Sequence[int]) -> MapCache:
            return MapCache(store, layers=layers, timesteps=timesteps, limit=limit, device=device)

        def only(store: FeatureStore) -> MapCache:
            return held(store, store.layers[:1], store.timesteps[:1])

        return Domains(
            maps=held(self.maps, head.layers, head.timesteps),
            condition=only(self.condition),
            condition_spec=self.condition_spec,
            payloads={name: only(self.payloads[name]) for name in payloads if name in self.payloads},
            parts_spec=self.parts_spec if PARTS in payloads else None,
        )


def fitted_on(kept: HeadWeights) -> FitExemplarsParams:
    """The stores that a fitted head was fitted on."""
    told: dict[str, Any] = {name: str(kept.fit[name]) for name in READ if name in kept.fit}
    return FitExemplarsParams(**told)


def open_stores(dataset: str, params: FitExemplarsParams, *, wanted: Sequence[str]) -> Stores:
    """Opens what a head needs of a dataset.

    Raises:
        StoreError: one is not there.
    """
    told = {PHOTO: params.photos, LATENT: params.latents}
    payloads = {name: FeatureStore.open(features_path(dataset, told[name])) for name in wanted if name in told}
    condition = FeatureStore.open(features_path(dataset, params.conditions))
    if condition_spec_of(condition.spec).kind == "mask" or params.masks:
        payloads[PARTS] = FeatureStore.open(features_path(dataset, params.masks or params.conditions))
    return Stores(FeatureStore.open(features_path(dataset, params.features)), condition, payloads)


def _require_one_place(stores: Stores, images: Mapping[str, ImageRecord]) -> None:
    """Refuses stores that put an image into their inputs in different ways, but where both ways are the same.

    Raises:
        StoreError: naming one of the stores and an image.
    """
    maps = stores.maps
    for store in (stores.condition, *stores.payloads.values()):
        width, height = store.spec.input_size
        for record in images.values():
            if store.spec.fit != maps.spec.fit and record.size[0] * height != record.size[1] * width:
                raise StoreError(
                    f"{store} was made with fit {store.spec.fit}, but {maps} with {maps.spec.fit}: they show different "
                    f"places of {record.path}. Make one of them anew with --set fit=..."
                )


def refuse_store(store: Path | str | None) -> None:
    """Refuses one store where several are read.

    Raises:
        ConfigError: one is told.
    """
    if store is not None:
        raise ConfigError(
            "a head between two domains reads several stores: name them with --set features=..., --set conditions=... "
            "and --set photos=..., not with --store"
        )


def fit_exemplars(
    dataset: str,
    entry: str,
    asked: Told,
    *,
    root: Path | None = None,
    out: Path | None = None,
    device: str = "auto",
) -> tuple[Path, float, str]:
    """Fits the head that an entry of `params.yaml` describes; a fit that is complete is kept.

    Returns:
        Its file, the best quality on the validation images, and the unit of that.

    Raises:
        MatchkitError: an unknown parameter, stores or lists that are not there, or a head that does not fit them.
    """
    name = str(asked.values.get("head") or entry)
    kinds = (FitExemplarsParams, HEADS.load(name).Params, FitParams, Shares)
    own, of_head, of_fit, of_shares = divide(asked.values, kinds, where=asked.where)
    params, fit_params = build(FitExemplarsParams, own, where=asked.where), build(FitParams, of_fit, where=asked.where)
    shares = build(Shares, of_shares, where=asked.where)
    chosen = choose_device(device)
    began = HeadWeights.load(Path(params.start)) if params.start else None
    wanted = (PHOTO, LATENT) if of_head.get("paints") == LATENT else (PHOTO,)
    stores = open_stores(dataset, params, wanted=wanted)
    _require_one_place(stores, open_dataset(dataset, root).images)
    told = _told(name, of_head, stores, began)
    head = HEADS.build(name, told, where=asked.where, spec=stores.maps.spec)
    assert isinstance(head, ExemplarHead)
    if not list(head.parameter_groups()):
        raise ConfigError(f"{asked.where}: no loss has a weight, so that there is nothing to fit")
    if isinstance(head, Translator) and head.params.sees:
        from matchkit.pipelines.looking import features_for  # transformers takes seconds to import

        head.see_with(features_for(head.params.vgg, device=chosen))
    about: dict[str, Any] = {"dataset": dataset, "train": params.train, "validation_split": params.validation}
    about |= {name: getattr(params, name) for name in READ} | {"start": _begin(head, name, began)}
    head.to(chosen)
    payloads = (*wanted, PARTS)
    domains = stores.domains(head, payloads=payloads, memory_gb=params.memory_gb, device=chosen)
    lists = {split: read_exemplars(exemplars_path(dataset, split)) for split in (params.train, params.validation)}
    about |= asdict(shares) | {"data": _digest(domains, lists)}
    training = CachedExemplars(domains, lists[params.train], shares=shares)
    validation = _Validation(domains, lists[params.validation], head, count=params.validated, size=fit_params.pairs)
    files = FitFiles(out or weights_path(dataset, entry))
    fit = Fit(head, name, spec=stores.maps.spec, params=fit_params, files=files, about=about, device=chosen)
    unit = "dB" if isinstance(head, Translator) else "%"
    return files.best, _train(fit, training, fit_params, validation), unit


def _train(fit: Fit[ExemplarBatch], training: CachedExemplars, params: FitParams, validation: "_Validation") -> float:
    done = fit.completed()
    if done is not None:
        log.info("this fit is complete already")
        return done
    size, seed, steps, share = params.pairs, params.order_seed, params.steps, fit.processes.share
    return fit.run(
        lambda start: training.batches(size=size, seed=seed, steps=steps, start=start, share=share), validation
    )


def _told(name: str, of_head: Mapping[str, Any], stores: Stores, began: HeadWeights | None) -> dict[str, Any]:
    """The head's parameters, with what the stores say of the conditions and, of a translator, its matcher's."""
    spec = stores.condition_spec
    seen: dict[str, Any] = {"kind": spec.kind, "channels": spec.width, "side": stores.condition.spec.input_size[0]}
    if not spec.classes and any(spec.outside):
        seen["neutral"] = list(spec.outside)
    if name != "translator":
        return seen | dict(of_head)
    matcher = dict(began.config) if began and began.head == "cross-domain" else {}
    if began and began.head == name:
        matcher = dict(began.config["matcher"])
    told = dict(of_head) | {"matcher": seen | matcher | dict(of_head.get("matcher", {}))}
    if of_head.get("paints") == LATENT:
        told.setdefault("channels", stores.payloads[LATENT].spec.layers[0].channels)
    return told


def _begin(head: ExemplarHead, name: str, began: HeadWeights | None) -> str:
    """Gives a head the weights that it begins with, and returns whose they are.

    Raises:
        WeightsError: of another head, or of other widths.
    """
    if began is None:
        return ""
    identity = str(began.fit.get("identity", ""))
    if isinstance(head, Translator) and began.head == "cross-domain":
        began.give(head.matcher)
    elif began.head == name:
        began.give(head)
    else:
        raise WeightsError(f"start names weights of the head '{began.head}', with which a {name} cannot begin")
    return identity


class _Validation:
    """The mean quality of a head on some of the validation images, with exemplars whose truth it can tell."""

    def __init__(
        self, domains: Domains, lists: Mapping[str, Exemplars], head: ExemplarHead, *, count: int, size: int
    ) -> None:
        names = sorted(lists)[:: max(1, len(lists) // count)][:count]
        same = isinstance(head, Translator) and not head.params.detour
        chosen = [_judged(lists[name], same=same) for name in names]
        self._batches = CachedExemplars(domains, lists, shares=Shares())
        self._groups = [chosen[first : first + size] for first in range(0, len(chosen), size)]

    def __call__(self, head: object) -> float:
        """In percent for a cross-domain head, in decibels for a translator."""
        assert isinstance(head, ExemplarHead)
        with torch.no_grad():
            found = [(head.quality(self._batches.collate(group)), len(group)) for group in self._groups]
        return sum(value * count for value, count in found) / sum(count for _, count in found)


def _judged(entry: Exemplars, *, same: bool) -> tuple[str, str, bool]:
    if same:
        return entry.image, (entry.same or (entry.image,))[0], True
    return entry.image, entry.of("easy"), False


def _digest(domains: Domains, lists: Mapping[str, Mapping[str, Exemplars]]) -> str:
    """Names what a fit learns from: the stores' content and the lists of exemplars."""
    digest = hashlib.sha256(domains.content.encode())
    for split in sorted(lists):
        digest.update(f"{split} {[asdict(entry) for entry in lists[split].values()]}".encode())
    return digest.hexdigest()[:12]
