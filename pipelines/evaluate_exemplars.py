"""Stage evaluate-exemplars: what a head between two domains is worth on a split, beside what needs no training."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from matchkit.core.conditions import KnowsTruth
from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, PARTS
from matchkit.core.exemplars import Rank, read_exemplars
from matchkit.core.params import build
from matchkit.evaluate.translation.inception import Resize, load_inception
from matchkit.evaluate.translation.report import TranslationReport
from matchkit.evaluate.translation.tally import ALPHAS
from matchkit.extract.backbones.latent_decoder import LatentDecoder
from matchkit.extract.backbones.picture_features import DinoFeatures
from matchkit.extract.datasets import open_dataset
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.translator import Translator
from matchkit.heads.weights import HeadWeights
from matchkit.pipelines.exemplar_scores import Compared, ExemplarScores
from matchkit.pipelines.fit_exemplars import fitted_on, open_stores
from matchkit.pipelines.settings import exemplar_report_path, exemplars_path, told, told_for, weights_path
from matchkit.pipelines.translating import Translating

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EvaluateExemplarsParams:
    """What is looked at.

    Attributes:
        split: whose images are the targets.
        rank: which exemplar: the `easy` one, the nearest; the `hard` one, the last of the list; or the `same` thing's.
        alphas: of PCK, relative to the longer side of the exemplar's object.
        limit: only so many targets, spread over the split; 0 for all.
        batch: targets at a time.
        looks: the network of semantic consistency and style: `tiny`, or a DINOv2's folder or hub id.
        inception: the file of FID's Inception weights; "" for no FID.
        inception_resize: how pictures get to its size.
        memory_gb: bound of what is held in memory, of each store.
    """

    split: str = "test"
    rank: Rank = "easy"
    alphas: tuple[float, ...] = ALPHAS
    limit: int = 0
    batch: int = 8
    looks: str = "tiny"
    inception: str = ""
    inception_resize: Resize = "tensorflow"
    memory_gb: float = 0.5


@dataclass(frozen=True, slots=True)
class EvaluatedExemplars:
    """A report, the file that holds it, and a warning or ""."""

    path: Path
    report: TranslationReport
    alarm: str


def evaluate_exemplars(
    dataset: str,
    name: str,
    *,
    root: Path | None = None,
    weights: Path | None = None,
    called: str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> EvaluatedExemplars:
    """Scores a fitted head on the targets of a split, each with one exemplar.

    Raises:
        MatchkitError: a head that is not one between two domains, stores or lists that are not there, or an exemplar
            of the rank that an image does not have.
    """
    asked = told("evaluate_exemplars", settings)
    params = build(EvaluateExemplarsParams, asked.values, where=asked.where)
    kept = HeadWeights.load(weights or weights_path(dataset, name))
    scores = _scores(dataset, kept, params, root=root, device=choose_device(device))
    pairs = exemplar_pairs(dataset, params.split, rank=params.rank, limit=params.limit)
    for first in tqdm(range(0, len(pairs), params.batch), desc="evaluate", unit="batch", disable=None):
        scores.add(pairs[first : first + params.batch])
    made_by = {"dataset": dataset, "split": params.split, "rank": params.rank, "head": kept.head, "fit": dict(kept.fit)}
    report = scores.report(made_by | {"limit": params.limit})
    path = exemplar_report_path(dataset, called or name)
    report.save(path)
    if scores.alarm:
        log.warning("%s: %s", path, scores.alarm)
    return EvaluatedExemplars(path, report, scores.alarm)


def exemplar_pairs(dataset: str, split: str, *, rank: Rank, limit: int = 0) -> list[tuple[str, str]]:
    """Targets with their exemplar of a rank, all or `limit` of them spread over the split.

    Raises:
        DatasetError: no list of exemplars, or an image that has none of the rank.
    """
    lists = read_exemplars(exemplars_path(dataset, split))
    names = sorted(lists)
    if limit:
        names = names[:: max(1, len(names) // limit)][:limit]
    return [(name, lists[name].of(rank)) for name in names]


def _scores(
    dataset: str, kept: HeadWeights, params: EvaluateExemplarsParams, *, root: Path | None, device: torch.device
) -> ExemplarScores:
    head = kept.build(device=device)
    if not isinstance(head, CrossDomain | Translator):
        raise ConfigError(f"head '{kept.head}' matches pairs of photographs: run matchkit match and matchkit evaluate")
    matcher = head.matcher if isinstance(head, Translator) else head
    untrained = CrossDomain(matcher.params, spec=kept.spec)
    on = fitted_on(kept)
    stores = open_stores(dataset, on, wanted=head.payloads)
    domains = stores.domains(head, payloads=(*head.payloads, PARTS), memory_gb=params.memory_gb, device=device)
    data = open_dataset(dataset, root)
    decoder = decoder_for(dataset, on.latents, device=device) if LATENT in head.payloads else None
    compared = Compared(
        head=Translating(head, latents=decoder, device=device),
        untrained=Translating(untrained, latents=None, device=device),
        matcher=matcher,
    )
    truth = data if isinstance(data, KnowsTruth) else None
    looks = DinoFeatures(params.looks, device=device)
    inception = None
    if params.inception:
        inception = load_inception(Path(params.inception), device=device, resize=params.inception_resize)
    return ExemplarScores(compared, domains, data.images, truth, alphas=params.alphas, looks=looks, inception=inception)


def decoder_for(dataset: str, entry: str, *, device: torch.device) -> LatentDecoder:
    """The VAE of the latents of an entry of `extract`."""
    values: Mapping[str, object] = told_for("extract", dataset, entry, ()).values
    return LatentDecoder(str(values.get("weights") or "tiny"), device=device)
