"""The scores of a head between two domains and of what needs no training, taken in a batch of targets at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional

from matchkit.cache.exemplars import Domains
from matchkit.core.conditions import KnowsTruth
from matchkit.core.exemplar_batches import PARTS, PHOTO, Photographs
from matchkit.core.records import ImageRecord
from matchkit.evaluate.translation.appearance import Features, by_depth
from matchkit.evaluate.translation.inception import Inception
from matchkit.evaluate.translation.report import TranslationReport
from matchkit.evaluate.translation.tally import PictureTally, VectorNetwork, Warped, WarpTally
from matchkit.evaluate.translation.warping import copied
from matchkit.extract.backbones.picture_features import DinoFeatures
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.matching import Match, centred
from matchkit.pipelines.exemplar_truth import Frame, PairTruth
from matchkit.pipelines.translating import Translating, from_signed

HEAD, COPY, UNTRAINED, FEATURES, WARP = (
    *("head", "copy of the exemplar", "untrained adapters", "the target's own features", "warp alone"),
)
"""The head, and what it is compared with. The target's own features are what no condition has: nearly a bound."""
Pictures = Mapping[str, Float[torch.Tensor, "b 3 _ _"]]


@dataclass(frozen=True, slots=True)
class Compared:
    """What is compared.

    Attributes:
        head: the fitted head, translating.
        untrained: its cross-domain head as it was before it was fitted, translating.
        matcher: the fitted cross-domain head.
    """

    head: Translating
    untrained: Translating
    matcher: CrossDomain


class ExemplarScores:
    """Scores of methods, each target with one exemplar.

    Args:
        compared: the heads.
        domains: their stores.
        images: the dataset's.
        truth: the dataset, where it knows what is right.
        alphas: of PCK.
        looks: the network of semantic consistency, style and the Frechet distance.
        inception: FID's network; None where its weights are not at hand.

    Attributes:
        targets: how many were taken in.
    """

    def __init__(
        self,
        compared: Compared,
        domains: Domains,
        images: Mapping[str, ImageRecord],
        truth: KnowsTruth | None,
        *,
        alphas: Sequence[float],
        looks: DinoFeatures,
        inception: Inception | None = None,
    ) -> None:
        self._compared, self._domains, self._images, self._truth = compared, domains, images, truth
        spec = domains.maps.store.spec
        self._frame = Frame(spec.input_size, spec.fit)
        self._warps = {name: WarpTally(alphas) for name in (HEAD, COPY, UNTRAINED, FEATURES)}
        settings = by_depth(f"DINOv2 {looks.checksum}", looks.names)
        shown = (HEAD, COPY, UNTRAINED, *((WARP,) if compared.head.paints else ()))
        vectors = None if inception is None else _vectors(inception, device=looks.device)
        self._pictures = {name: PictureTally(_looking(looks), settings, inception=vectors) for name in shown}
        self.targets = 0

    @torch.no_grad()
    def add(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Takes in targets with their exemplars."""
        targets = self._domains.photographs([target for target, _ in pairs])
        exemplars = self._domains.photographs([exemplar for _, exemplar in pairs])
        made, fresh = (of(targets.condition, exemplars) for of in (self._compared.head, self._compared.untrained))
        matches = {HEAD: made.match, UNTRAINED: fresh.match, FEATURES: self._of_features(targets, exemplars)}
        warped = {name: _warped(match, exemplars) for name, match in matches.items()}
        photo = from_signed(exemplars.payloads[PHOTO])
        pictures = {HEAD: made.picture, COPY: photo, UNTRAINED: fresh.warp, WARP: made.warp}
        for row, (target, exemplar) in enumerate(pairs):
            self._add(target, exemplar, {name: of[row] for name, of in warped.items()}, pictures, row=row)
        self.targets += len(pairs)

    def _of_features(self, targets: Photographs, exemplars: Photographs) -> Match:
        matcher = self._compared.matcher
        own, theirs = (centred(matcher.features(of)) for of in (targets, exemplars))
        return Match(own, theirs, matcher.grid, matcher.params.temperature)

    def _add(self, target: str, exemplar: str, found: Mapping[str, "_OnGrid"], pictures: Pictures, *, row: int) -> None:
        grid, theirs = self._compared.matcher.grid, self._images[exemplar]
        truth = PairTruth(self._truth, self._images[target], theirs, frame=self._frame, grid=grid)
        same = copied(grid)
        own_labels = found[HEAD].exemplars_labels
        told = {**found, COPY: _OnGrid(same, same, own_labels, own_labels, float("nan"))}
        for name, warps in self._warps.items():
            of = told[name]
            places = self._frame.to_image(of.forward, theirs, grid)
            backward = None if name == COPY else of.backward
            warps.add(Warped(places, of.forward, backward, of.labels, of.entropy), truth.wanted)
        side = pictures[COPY].shape[2]
        wanted = truth.picture(side)
        if wanted is None:
            return
        photo = _at(pictures[COPY][row], side)
        for name, shown in self._pictures.items():
            shown.add(
                _at(pictures[name][row], side),
                wanted,
                photo,
                figure=truth.labels((side, side)),
                places=truth.places,
                known=truth.known,
                grid=grid,
            )

    def report(self, made_by: Mapping[str, Any]) -> TranslationReport:
        """All scores with what they mean."""
        scores: dict[str, dict[str, float]] = {name: tally.scores() for name, tally in self._warps.items()}
        for name, tally in self._pictures.items():
            scores[name] = scores.get(name, {}) | tally.scores()
        settings = {**self._warps[HEAD].settings(), **self._pictures[HEAD].settings()}
        baselines = {name: values for name, values in scores.items() if name != HEAD}
        counts = {"targets": self.targets, "cells of known truth": self._warps[HEAD].known}
        return TranslationReport(scores[HEAD], counts, settings, dict(made_by), baselines)

    @property
    def alarm(self) -> str:
        """That the matching has collapsed, or ""."""
        return self._warps[HEAD].alarm


@dataclass(frozen=True, slots=True)
class _OnGrid:
    """A matching of one target, grid frame: both ways, the parts it brings, the exemplar's own, the mean entropy."""

    forward: Float[np.ndarray, "gh gw 2"]
    backward: Float[np.ndarray, "gh gw 2"]
    labels: Int[np.ndarray, "gh gw"]
    exemplars_labels: Int[np.ndarray, "gh gw"]
    entropy: float


def _warped(match: Match, exemplars: Photographs) -> list[_OnGrid]:
    """Each target's matching; nothing but background where the exemplars' parts are not known."""
    there = Match(match.keys, match.queries, match.grid, match.temperature)
    forward, backward = (of.places().permute(0, 2, 3, 1).cpu().numpy() for of in (match, there))
    parts = exemplars.payloads.get(PARTS, torch.zeros(len(match.keys), 1, *match.grid)).to(match.keys)
    own = functional.interpolate(parts, size=match.grid, mode="nearest-exact")
    brought, theirs = (values.argmax(1).cpu().numpy() for values in (match.warp(own), own))
    entropy = match.entropy().mean((1, 2)).tolist()
    return [_OnGrid(*row) for row in zip(forward, backward, brought, theirs, entropy, strict=True)]


def _at(picture: Float[torch.Tensor, "3 h w"], side: int) -> Float[np.ndarray, "s s 3"]:
    """A picture at a size: averaged where it is larger."""
    resized = functional.interpolate(picture[None].float(), size=(side, side), mode="area")
    return resized[0].permute(1, 2, 0).clamp(0, 1).cpu().numpy()


def _looking(looks: DinoFeatures) -> Features:
    """The network as scores are given it: arrays in, arrays out."""

    def features(picture: Float[np.ndarray, "h w 3"]) -> dict[str, Float[np.ndarray, "c _ _"]]:
        with torch.no_grad():
            given = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
            return {layer: maps[0].cpu().numpy() for layer, maps in looks(given.to(looks.device)).items()}

    return features


def _vectors(inception: Inception, *, device: torch.device) -> VectorNetwork:
    """FID's network as scores are given it, named with its settings."""

    def vector(picture: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
        with torch.no_grad():
            given = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
            return np.asarray(inception(given.to(device))[0].cpu())

    told = ", ".join(f"{name} {value}" for name, value in asdict(inception.settings).items())
    return VectorNetwork(f"inception: {told}", vector)
