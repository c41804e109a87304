"""The Frechet distance between two sets of pictures, by the Gaussians that fit their feature vectors.

Of Inception vectors it is FID (Heusel et al., 2017), of DINO vectors "FD-DINO" (CoCosNet §6.3). The vectors come in
batches and are never held together. Compare numbers only of the same network, size of set and file format: the same
outputs had 14.3 as jpg and 16.95 as png (CoCosNet §5, thread 19).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import linalg

from matchkit.core.errors import ConfigError, DatasetError


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """What the vectors of a set of pictures are.

    Attributes:
        network: what made them, and from which layer and weights, e.g. `inception pool3 sha256:6726825d0af5f729`.
        stored: the file format that the pictures went through, e.g. `png`, `jpg`; `none` if they never were in a file.
    """

    network: str
    stored: str


@dataclass(frozen=True, slots=True)
class FrechetDistance:
    """The squared distance of two Gaussians, as FID is given.

    Attributes:
        value: 0 or more.
        vectors: how many the two sets have.
        width: of a vector.
        settings: what the vectors of the two sets are.
        warning: why the number cannot be trusted, or "".
    """

    value: float
    vectors: tuple[int, int]
    width: int
    settings: tuple[VectorSettings, VectorSettings]
    warning: str


class GaussianStatistics:
    """Mean and covariance of the vectors of a set, in double precision; memory is of one covariance.

    Batches are taken in by their own mean and scatter (Chan, Golub and LeVeque, 1979), which loses no digits where the
    mean is far from 0.

    Raises:
        ConfigError: a width that is not positive.
    """

    def __init__(self, width: int, settings: VectorSettings) -> None:
        if width < 1:
            raise ConfigError(f"vectors have a width of 1 or more, not {width}")
        self.width = width
        self.settings = settings
        self.count = 0
        self.mean: Float[np.ndarray, " d"] = np.zeros(width)
        self._scatter: Float[np.ndarray, "d d"] = np.zeros((width, width))

    def update(self, vectors: Float[np.ndarray, "n d"]) -> None:
        """Takes in a batch of vectors.

        Raises:
            ConfigError: they are of another width.
            DatasetError: a value is not finite.
        """
        if vectors.shape[1] != self.width:
            raise ConfigError(f"vectors of width {vectors.shape[1]} among others of {self.width}")
        if not np.isfinite(vectors).all():
            raise DatasetError(f"of the vectors {self.count} to {self.count + len(vectors) - 1} some are not finite")
        if len(vectors):
            precise = vectors.astype(np.float64)
            mean = precise.mean(axis=0)
            self._take(len(precise), mean, (precise - mean).T @ (precise - mean))

    def merge(self, other: "GaussianStatistics") -> None:
        """Takes in all vectors of another part of the set.

        Raises:
            ConfigError: they are of another width, or of other settings.
        """
        if (self.width, self.settings) != (other.width, other.settings):
            raise ConfigError(
                f"one set cannot have vectors of two kinds: {self.settings} of width {self.width}, and "
                f"{other.settings} of width {other.width}"
            )
        if other.count:
            self._take(other.count, other.mean, other._scatter)

    def _take(self, count: int, mean: Float[np.ndarray, " d"], scatter: Float[np.ndarray, "d d"]) -> None:
        total, apart = self.count + count, mean - self.mean
        self._scatter += scatter + np.outer(apart, apart) * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The unbiased one, divided by one less than the count, as FID's.

        Raises:
            DatasetError: of less than two vectors.
        """
        if self.count < 2:
            raise DatasetError(f"a covariance needs 2 vectors or more, the set has {self.count}")
        return self._scatter / (self.count - 1)


def frechet_distance(first: GaussianStatistics, second: GaussianStatistics) -> FrechetDistance:
    """`||m1 - m2||^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`.

    The trace of the root is the sum of the singular values of `C1^(1/2) C2^(1/2)`, whose factors are symmetric and
    made by eigenvalues: it is real and exact for singular covariances too, where the root of the product itself needs
    an offset on the diagonal. Equal up to rounding where both are regular.

    Raises:
        ConfigError: the two are of different networks or widths.
        DatasetError: a set has less than two vectors.
    """
    if (first.width, first.settings.network) != (second.width, second.settings.network):
        raise ConfigError(
            f"the vectors of '{first.settings.network}' (width {first.width}) and of '{second.settings.network}' "
            f"(width {second.width}) cannot be compared"
        )
    roots = [_root(statistics.covariance()) for statistics in (first, second)]
    shared = float(linalg.svdvals(roots[0] @ roots[1]).sum())
    spreads = sum(float(np.square(root).sum()) for root in roots)
    value = float(np.square(first.mean - second.mean).sum()) + spreads - 2 * shared
    return FrechetDistance(
        value=max(value, 0.0),
        vectors=(first.count, second.count),
        width=first.width,
        settings=(first.settings, second.settings),
        warning=_warning(first, second),
    )


class SetsApart:
    """The distance of the pictures that were made from those that were wanted, taken in a pair of vectors at a time.

    Args:
        settings: what the vectors are.
    """

    def __init__(self, settings: VectorSettings) -> None:
        self._settings = settings
        self._sets: tuple[GaussianStatistics, GaussianStatistics] | None = None
        self._distance: FrechetDistance | None = None

    def add(self, made: Float[np.ndarray, " d"], wanted: Float[np.ndarray, " d"]) -> None:
        """Takes in a picture and what it should be."""
        if self._sets is None:
            self._sets = GaussianStatistics(len(made), self._settings), GaussianStatistics(len(made), self._settings)
        for statistics, vector in zip(self._sets, (made, wanted), strict=True):
            statistics.update(vector[None].astype(np.float64))
        self._distance = None

    @property
    def distance(self) -> FrechetDistance | None:
        """None of fewer than two pictures; taken once, since it costs the cube of the width."""
        if self._distance is None and self._sets is not None and self._sets[0].count > 1:
            self._distance = frechet_distance(*self._sets)
        return self._distance

    def describe(self) -> dict[str, Any]:
        """What the distance means."""
        told: dict[str, Any] = asdict(self._settings)
        if self.distance is not None:
            found = self.distance
            told |= {"vectors": list(found.vectors), "width": found.width, "warning": found.warning or "none"}
        return told


def _root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The symmetric square root; eigenvalues that are nothing but rounding count as 0."""
    values, vectors = linalg.eigh(covariance)
    rounding = max(float(values[-1]), 0.0) * len(values) * np.finfo(np.float64).eps
    return np.asarray((vectors * np.sqrt(np.where(values > rounding, values, 0))) @ vectors.T)


def _warning(first: GaussianStatistics, second: GaussianStatistics) -> str:
    told = []
    fewest = min(first.count, second.count)
    if fewest <= first.width:
        told.append(f"{fewest} vectors of width {first.width}: the covariance is singular and the distance too great")
    if first.settings.stored != second.settings.stored:
        told.append(f"one set was stored as {first.settings.stored}, the other as {second.settings.stored}")
    return "; ".join(told)
