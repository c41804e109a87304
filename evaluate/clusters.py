"""How far shares over pairs of images stray, where pairs share images. Numpy alone.

Two pairs that share an image, in whatever roles, stray together. The variance of a sum over pairs is then the sum of
the products of the residuals of all such two pairs: the squared sums of each image's residuals, less those of each two
images, which an image's sum counts once for either image. Source: Aronow, Samii and Assenova, Cluster-robust variance
estimation for dyadic data, Political Analysis 23(4), 2015; Cameron, Gelbach and Miller, Robust inference with multiway
clustering, Journal of Business and Economic Statistics 29(2), 2011.

Residuals are smaller than what they stand for, as the share was fitted to the same pairs. What remains in the mean is
computed for images that stray alike and independently, and divided out, as in Bell and McCaffrey, Bias reduction in
standard errors, Survey Methodology 28(2), 2002. Where every two images of a category make a pair this is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from matchkit.core.records import Pair

THIN = 3.0
"""A category is joined with others where less than a third of its variance remains in its residuals."""
THINNEST = 10.0
"""Nothing is known where not even a tenth does: of a single pair, or of three images that pair with each other."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The images and the category of each pair, as numbers from 0 on."""

    source: Int[np.ndarray, " p"]
    target: Int[np.ndarray, " p"]
    category: Int[np.ndarray, " p"]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Ends":
        """Those of some pairs, in their order."""
        rows = np.unique([(pair.source, pair.target) for pair in pairs], return_inverse=True)[1].reshape(-1, 2)
        return cls(rows[:, 0], rows[:, 1], np.unique([pair.category for pair in pairs], return_inverse=True)[1])

    def take(self, rows: Int[np.ndarray, " q"]) -> "Ends":
        """Some of the pairs, whose images and categories are numbered anew."""
        images = np.unique(np.stack([self.source[rows], self.target[rows]]), return_inverse=True)[1].reshape(2, -1)
        return Ends(images[0], images[1], np.unique(self.category[rows], return_inverse=True)[1])

    @property
    def images(self) -> int:
        """How many images there are."""
        return 1 + int(max(self.source.max(), self.target.max()))

    def joined(self) -> Bool[np.ndarray, " c"]:
        """Which categories share an image with another one."""
        told = np.concatenate([self.source, self.target]), np.tile(self.category, 2)
        image, category = np.unique(np.stack(told), axis=1)
        shared = np.bincount(category, weights=np.bincount(image)[image] > 1)
        return np.asarray(shared > 0)


@dataclass(frozen=True, slots=True)
class Spread:
    """Shares, their standard errors, both in 0..1, and the degrees of freedom that the errors are known with."""

    share: Float[np.ndarray, " k"]
    error: Float[np.ndarray, " k"]
    freedom: Float[np.ndarray, " k"]


@dataclass(frozen=True, slots=True)
class _Strata:
    """What is drawn from by itself, and what of its variance remains in residuals.

    Attributes:
        of_pair, of_image, of_couple: the stratum of each; a couple is two images, whichever is the source.
        remains: the share that remains of a variance that comes from images, in 0..1.
        remains_alone: of one that comes from couples.
        clusters: how many images, or couples where these are fewer, would tell as much if all counted alike.
    """

    of_pair: Int[np.ndarray, " p"]
    of_image: Int[np.ndarray, " i"]
    of_couple: Int[np.ndarray, " d"]
    remains: Float[np.ndarray, " s"]
    remains_alone: Float[np.ndarray, " s"]
    clusters: Float[np.ndarray, " s"]


class Sharing:
    """Which of some pairs share images, and how much each pair counts.

    Categories are fixed, and images are drawn from each. Categories that share images are one, and so are those of too
    few images.

    Attributes:
        known: whether there is enough to know anything of other images.
        clusters: how many images, or couples of images, would tell as much if all counted alike.
    """

    def __init__(self, ends: Ends, counts: Real[np.ndarray, " p"]) -> None:
        self._ends = ends
        self._counts = counts.astype(np.float64)
        self._total = float(self._counts.sum())
        self._apart = ends.source != ends.target
        low, high = np.minimum(ends.source, ends.target), np.maximum(ends.source, ends.target)
        couples, self._couple = np.unique(low * ends.images + high, return_inverse=True)
        self._low, self._high = couples // ends.images, couples % ends.images
        pooled = ends.joined()[ends.category]
        self._strata = self._told(np.where(pooled, 0, 1 + ends.category))
        thin = (self._strata.remains < 1 / THIN)[self._strata.of_pair]
        if thin.any():
            self._strata = self._told(np.where(pooled | thin, 0, 1 + ends.category))
        if self._strata.remains.min() < 1 / THIN:
            self._strata = self._told(np.zeros_like(ends.category))
        self.known = bool(self._strata.remains.min() >= 1 / THINNEST)
        self.clusters = float(self._strata.clusters.sum())

    def spread(self, won: Real[np.ndarray, "p k"]) -> Spread:
        """How far the shares of k sums won by the pairs in the sum counted stray; of nothing `known` this is noise.

        Never less than if only the pairs of the same two images were dependent: an estimate below that is luck.
        """
        ends, strata = self._ends, self._strata
        share = won.sum(axis=0) / self._total
        residuals = won.T - share[:, None] * self._counts
        pairs = np.bincount(strata.of_pair)
        residuals -= (_sums(residuals, strata.of_pair, len(pairs)) / pairs)[:, strata.of_pair]
        others = residuals * self._apart
        of_images = _sums(residuals, ends.source, ends.images) + _sums(others, ends.target, ends.images)
        of_couples = _sums(residuals, self._couple, len(self._low))
        twice = of_couples * (self._low != self._high)
        between = _sums(of_images**2, strata.of_image, len(pairs)) - _sums(twice**2, strata.of_couple, len(pairs))
        between /= np.maximum(strata.remains, 1 / THINNEST)
        alone = _sums(of_couples**2, strata.of_couple, len(pairs)) / strata.remains_alone
        variance = np.maximum(between.sum(axis=1), alone.sum(axis=1))
        larger = np.maximum(between, alone)
        # Satterthwaite's, over strata
        parts = (larger**2 / np.maximum(strata.clusters - 1, 1)).sum(axis=1)
        freedom = np.divide(larger.sum(axis=1) ** 2, parts, out=np.full(len(share), np.inf), where=parts > 0)
        return Spread(share, np.sqrt(variance) / self._total, freedom)

    def _told(self, stratum: Int[np.ndarray, " p"]) -> _Strata:
        """The variance of images that stray alike is S2, the sum of squares of what each counts."""
        of_pair = np.unique(stratum, return_inverse=True)[1]
        ends, size = self._ends, 1 + int(of_pair.max())
        of_image, of_couple = np.zeros(ends.images, np.int64), np.zeros(len(self._low), np.int64)
        of_image[ends.source], of_image[ends.target], of_couple[self._couple] = of_pair, of_pair, of_pair
        counts = self._counts
        counted = np.bincount(ends.source, counts, ends.images)
        counted += np.bincount(ends.target, counts * self._apart, ends.images)
        couples = np.bincount(self._couple, counts)
        twice = couples * (self._low != self._high)
        low, high = counted[self._low], counted[self._high]

        def images(values: Float[np.ndarray, " i"]) -> Float[np.ndarray, " s"]:
            return np.bincount(of_image, values, size)

        def pairs(values: Float[np.ndarray, " d"]) -> Float[np.ndarray, " s"]:
            return np.bincount(of_couple, values, size)

        total, squares = pairs(couples), images(counted**2)
        remains = (
            squares
            - 2 * (images(counted**3) + 2 * pairs(twice * low * high)) / total
            + (squares / total) ** 2
            + 2 * pairs(twice**2 * (low + high)) / total
            - pairs(twice**2) * squares / total**2
        )
        alone = pairs(couples**2)
        return _Strata(
            of_pair,
            of_image,
            of_couple,
            remains=remains / squares,
            remains_alone=np.maximum(1 - 2 * pairs(couples**3) / (alone * total) + alone / total**2, 1 / THINNEST),
            clusters=np.minimum(squares**2 / images(counted**4), alone**2 / pairs(couples**4)),
        )


def _sums(values: Float[np.ndarray, "k n"], group: Int[np.ndarray, " n"], size: int) -> Float[np.ndarray, "k g"]:
    """The sums of each row's values by group."""
    cells = (group + size * np.arange(len(values))[:, None]).ravel()
    return np.bincount(cells, values.ravel(), size * len(values)).reshape(-1, size)
