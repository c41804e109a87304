"""Scores of warped and translated pictures, taken in one at a time: means over pictures, PCK over all cells.

Memory does not grow with the number of pictures, but for the sample of patches that SWD keeps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.evaluate.translation import pictures, warping
from matchkit.evaluate.translation.appearance import AppearanceSettings, Features, semantic_consistency, style_relevance
from matchkit.evaluate.translation.frechet import SetsApart, VectorSettings
from matchkit.evaluate.translation.sliced_wasserstein import PatchSet, SwdSettings, sliced_wasserstein

Picture = Float[np.ndarray, "h w 3"]
Flow = Float[np.ndarray, "gh gw 2"]
ALPHAS = (0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Warped:
    """A matching of one target's cells with its exemplar's, and what it brings.

    Attributes:
        places: where each cell's match lies, (x, y) in the exemplar's image frame.
        forward: the same in the exemplar's grid frame.
        backward: for each of the exemplar's cells its match, in the target's grid frame; None of a matching without.
        labels: the part that is brought to each cell.
        entropy: mean of its rows, in nats; NaN of a matching that has no probabilities.
    """

    places: Flow
    forward: Flow
    backward: Flow | None
    labels: Int[np.ndarray, "gh gw"]
    entropy: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is known of the target.

    Attributes:
        places: where the exemplar shows what each cell sees, its image frame; NaN where it is not known.
        labels: the part of each cell, 0 for the background.
        reference: the longer side of the exemplar's object, its image frame.
    """

    places: Flow
    labels: Int[np.ndarray, "gh gw"]
    reference: float


@dataclass(frozen=True, slots=True)
class VectorNetwork:
    """A network that makes a vector of a picture in [0, 1], and its name with all that the vector depends on."""

    name: str
    vector: Callable[[Picture], Float[np.ndarray, " d"]]


class WarpTally:
    """Scores of matchings.

    Args:
        alphas: of PCK, relative to the longer side of the exemplar's object.
    """

    def __init__(self, alphas: Sequence[float] = ALPHAS) -> None:
        self._alphas = tuple(alphas)
        self._pck: list[warping.DensePck] = []
        self._means: dict[str, list[float]] = {}
        self.cells = 0

    def add(self, found: Warped, wanted: Wanted) -> None:
        """Takes in a matching; one whose target shows nothing on the grid is left out."""
        figure = wanted.labels > 0
        if not figure.any():
            return
        self._pck.append(
            warping.dense_pck(found.places, wanted.places, reference=wanted.reference, alphas=self._alphas)
        )
        self._note("part_agreement", warping.part_agreement(found.labels, wanted.labels, foreground=figure))
        self._note("copy_score", warping.copy_score(found.forward, foreground=figure))
        self._note("entropy", found.entropy)
        if found.backward is not None:
            self._note("cycle_error", warping.cycle_error(found.forward, found.backward, where=figure))
            rate = warping.forward_backward_rate(found.forward, found.backward, where=figure)
            self._note("forward_backward", rate)
        self.cells = found.forward.shape[0] * found.forward.shape[1]

    def _note(self, name: str, value: float) -> None:
        if not math.isnan(value):
            self._means.setdefault(name, []).append(value)

    @property
    def known(self) -> int:
        """Cells whose truth is known."""
        return sum(part.cells for part in self._pck)

    def scores(self) -> dict[str, float]:
        """By name; PCK in percent."""
        found = {name: float(np.mean(values)) for name, values in self._means.items()}
        if self.known:
            found |= {f"pck@{alpha}": value for alpha, value in warping.pooled(self._pck).scores.items()}
        return found

    def settings(self) -> dict[str, dict[str, Any]]:
        """What the scores mean."""
        figure = {"cells": "on the target's figure", "averaged over": "pictures"}
        return {
            "pck": {
                "cells": "all whose point the exemplar shows",
                "reference": "longer side of the exemplar's object",
                "comparison": "<=",
                "frame": "the exemplar's original pixels",
            },
            "part_agreement": figure,
            "copy_score": figure | {"within": f"{warping.COPIED:g} cell"},
            "cycle_error": figure | {"unit": "cells"},
            "forward_backward": figure | {"within": f"{warping.ROUND_TRIP:g} cells"},
            "entropy": {"unit": "nats", "at most": f"{math.log(self.cells):.2f}"} if self.cells else {"unit": "nats"},
        }

    @property
    def alarm(self) -> str:
        """That the matching has collapsed, or ""."""
        entropy = self._means.get("entropy")
        return warping.entropy_alarm(float(np.mean(entropy)), self.cells) if entropy else ""


class PictureTally:
    """Scores of pictures.

    Args:
        features: the network of semantic consistency, style relevance and the Frechet distance.
        settings: which of its layers.
        inception: FID's network, where its weights are at hand.
        stored: the file format that the pictures went through.
    """

    def __init__(
        self,
        features: Features,
        settings: AppearanceSettings,
        *,
        inception: VectorNetwork | None = None,
        stored: str = "none",
    ) -> None:
        self._features, self._appearance, self._inception = features, settings, inception
        self._apart = {"fd_dino": SetsApart(VectorSettings(f"{settings.network}, mean of the last layer", stored))}
        if inception is not None:
            self._apart["fid"] = SetsApart(VectorSettings(inception.name, stored))
        self._swd = SwdSettings()
        self._patches = PatchSet(self._swd), PatchSet(self._swd)
        self._means: dict[str, list[float]] = {}
        self.count = 0

    def add(
        self,
        picture: Picture,
        truth: Picture,
        exemplar: Picture,
        *,
        figure: Int[np.ndarray, "h w"],
        places: Flow,
        known: Bool[np.ndarray, "gh gw"],
        grid: tuple[int, int],
    ) -> None:
        """Takes in a picture.

        Args:
            picture: what came out, in [0, 1].
            truth: what it should be.
            exemplar: whose style it should have.
            figure: the part of each pixel, 0 for the background.
            places: the corresponding (x, y) of each cell in the exemplar's grid frame.
            known: where that is known.
            grid: the exemplar's, (height, width).
        """
        self.count += 1
        if (figure > 0).any():
            self._note("psnr", pictures.psnr(picture, truth, where=figure > 0))
            self._note("ssim", pictures.ssim(picture, truth, where=figure > 0))
            errors = pictures.part_colour_error(picture, truth, figure)
            self._note("part_colour_error", float(np.mean(list(errors.values()))))
        of_picture, of_truth, of_exemplar = (self._features(values) for values in (picture, truth, exemplar))
        names = self._appearance.semantic
        consistent = semantic_consistency({n: of_picture[n] for n in names}, {n: of_truth[n] for n in names})
        self._note("semantic", float(np.mean(list(consistent.values()))))
        if known.any():
            for name, layer in (("colour", self._appearance.colour), ("texture", self._appearance.texture)):
                style = style_relevance(of_picture[layer], of_exemplar[layer], flow=places, grid=grid, where=known)
                self._note(name, style)
        for patches, values in zip(self._patches, (picture, truth), strict=True):
            patches.add(values)
        self._apart["fd_dino"].add(*(of[names[-1]].mean((1, 2)) for of in (of_picture, of_truth)))
        if self._inception is not None:
            self._apart["fid"].add(*(self._inception.vector(values) for values in (picture, truth)))

    def _note(self, name: str, value: float) -> None:
        self._means.setdefault(name, []).append(value)

    def scores(self) -> dict[str, float]:
        """By name; none where no picture was taken in."""
        if not self.count:
            return {}
        found = {name: float(np.mean(values)) for name, values in self._means.items()}
        found["swd"] = sliced_wasserstein(*self._patches).mean
        distances = {name: apart.distance for name, apart in self._apart.items()}
        return found | {name: told.value for name, told in distances.items() if told is not None}

    def settings(self) -> dict[str, Mapping[str, Any]]:
        """What the scores mean."""
        figure = {"pixels": "on the figure", "averaged over": "pictures", "range": "1"}
        looked = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self._appearance).items()
        }
        distances = {name: apart.describe() for name, apart in self._apart.items()}
        return {
            "psnr": figure | {"unit": "dB"},
            "ssim": figure | {"window": "Gaussian, sigma 1.5, 11 x 11"},
            "part_colour_error": {"norm": "length in RGB", "averaged over": "parts, then pictures"},
            "semantic": looked,
            "colour": looked,
            "texture": looked,
            "swd": asdict(self._swd),
            **distances,
        }
