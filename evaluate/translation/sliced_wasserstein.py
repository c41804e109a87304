"""SWD: the sliced Wasserstein distance between the patches of two sets of pictures, level by level of a pyramid.

It needs no weights. The recipe is that of the progressive GAN (Karras et al., 2018), as far as it is known here: a
Laplacian pyramid, 7 x 7 patches, 128 a picture, normalised a channel, random projections, x 1e3 (CoCosNet §5, which
recalls it from memory). Another recipe gives other numbers, in one case 112 where the paper has 10.5 (CoCosNet §7.1,
thread 25): compare numbers only where `SwdSettings` are the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from matchkit.core.errors import ConfigError, DatasetError

BINOMIAL = np.asarray([1, 4, 6, 4, 1], dtype=np.float32) / 16
"""Along each axis, before every second pixel is left out."""
PATCHES, DIRECTIONS = 0, 1
"""What random numbers are for: part of their seed."""
SMALLEST = 1e-4
"""Where a channel deviates less, a fortieth of an 8-bit step, it is not divided by it: rounding is no texture."""


@dataclass(frozen=True, slots=True)
class SwdSettings:
    """What a number of SWD depends on besides the pictures, their size and their file format.

    Attributes:
        patches: drawn from each picture and level.
        patch: their side in pixels.
        coarsest: the pyramid ends with the last level whose shorter side has this many pixels.
        repeats: how often projections are drawn.
        directions: random projections each time.
        scale: what the mean distance is multiplied by.
        normalise: by whose mean and deviation a channel is normalised: of each set `apart`, as published, so that a
            shift or gain of all pictures' colours alike is not seen, or of both sets `together`.
        kept: patches of a set and level that are compared at most, a fair sample of all that were drawn; bounds memory
            (about 600 bytes each). Published: all.
        seed: of places and projections. Both sets' n-th pictures are looked at in the same places: a set is at exactly
            0 from itself, and an output is compared with its own truth under less noise than if places were drawn anew.

    Raises:
        ConfigError: a number that is not positive, an even patch, or levels smaller than a patch.
    """

    patches: int = 128
    patch: int = 7
    coarsest: int = 16
    repeats: int = 4
    directions: int = 128
    scale: float = 1e3
    normalise: Literal["apart", "together"] = "apart"
    kept: int = 2**16
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.patches, self.patch, self.repeats, self.directions, self.scale, self.kept) <= 0:
            raise ConfigError(f"all counts of SWD must be positive: {self}")
        if self.patch % 2 == 0 or self.coarsest < self.patch:
            raise ConfigError(f"SWD needs patches of an odd side that fit into its coarsest level: {self}")


@dataclass(frozen=True, slots=True)
class SlicedWasserstein:
    """The distance of two sets of pictures.

    Attributes:
        levels: by the shorter side of the level in pixels, e.g. `levels["64"]`, from fine to coarse.
        pictures: how many the two sets have.
        patches: of a set that were compared, on every level.
        settings: what the numbers mean.
    """

    levels: Mapping[str, float]
    pictures: tuple[int, int]
    patches: int
    settings: SwdSettings

    @property
    def mean(self) -> float:
        """The mean over the levels, which is what tables show."""
        return float(np.mean(list(self.levels.values())))


class _Sample:
    """A fair sample of patches in bounded memory: those whose random keys are the smallest."""

    def __init__(self, kept: int, shape: tuple[int, ...]) -> None:
        self.keys = np.full(kept, np.inf)
        self.patches = np.empty((kept, *shape), dtype=np.float32)

    def take(self, keys: Float[np.ndarray, " n"], patches: Float[np.ndarray, "n c p p"]) -> None:
        """Puts those that belong among the smallest into empty places and in the stead of greater keys."""
        kept = len(self.keys)
        stays = np.zeros(kept + len(keys), dtype=np.bool_)
        stays[np.argpartition(np.concatenate([self.keys, keys]), kept - 1)[:kept]] = True
        leaving, entering = np.flatnonzero(~stays[:kept]), np.flatnonzero(stays[kept:])
        self.keys[leaving], self.patches[leaving] = keys[entering], patches[entering]

    def __len__(self) -> int:
        return int(np.isfinite(self.keys).sum())

    def smallest(self, count: int) -> Float[np.ndarray, "n c p p"]:
        """The patches of the `count` smallest keys, by these."""
        return self.patches[np.argsort(self.keys, kind="stable")[:count]]


class PatchSet:
    """The patches of a set of pictures, taken a picture at a time; no picture is kept."""

    def __init__(self, settings: SwdSettings) -> None:
        self.settings = settings
        self.pictures = 0
        self.size: tuple[int, int] | None = None
        self.levels: dict[str, _Sample] = {}

    def add(self, picture: Float[np.ndarray, "h w c"]) -> None:
        """Draws patches of the picture at every level of its pyramid.

        Raises:
            ConfigError: the picture is smaller than the coarsest level.
            DatasetError: it has another size than those before it.
        """
        size = (picture.shape[0], picture.shape[1])
        if self.size not in (None, size):
            raise DatasetError(f"SWD compares pictures of one size: number {self.pictures} has {size}, not {self.size}")
        self.size = size
        for level in laplacian_pyramid(picture.astype(np.float32), coarsest=self.settings.coarsest):
            name = str(min(level.shape[:2]))
            keys, patches = self._draw(level)
            if name not in self.levels:
                self.levels[name] = _Sample(self.settings.kept, patches.shape[1:])
            self.levels[name].take(keys, patches)
        self.pictures += 1

    def _draw(self, level: Float[np.ndarray, "h w c"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n c p p"]]:
        side, count = self.settings.patch, self.settings.patches
        draw = np.random.default_rng([self.settings.seed, PATCHES, min(level.shape[:2]), self.pictures])
        tops, lefts = (draw.integers(0, edge - side + 1, count) for edge in level.shape[:2])
        windows = np.lib.stride_tricks.sliding_window_view(level, (side, side), axis=(0, 1))
        return draw.random(count), windows[tops, lefts]


def sliced_wasserstein(first: PatchSet, second: PatchSet) -> SlicedWasserstein:
    """The distance of two sets; both ways the same, and 0 of a set from itself.

    Of the greater set a fair sample as large as the smaller one is compared.

    Raises:
        ConfigError: the sets were taken under different settings.
        DatasetError: a set is empty, or they are of different sizes.
    """
    if first.settings != second.settings:
        raise ConfigError(f"two sets of patches under different settings: {first.settings} and {second.settings}")
    if first.size is None or first.size != second.size:
        raise DatasetError(
            f"SWD compares sets of pictures of one size (height, width), not {first.size} with {second.size}"
        )
    count = min(len(sample) for taken in (first, second) for sample in taken.levels.values())
    levels = {
        name: _distance(sample.smallest(count), second.levels[name].smallest(count), first.settings, name)
        for name, sample in first.levels.items()
    }
    return SlicedWasserstein(levels, (first.pictures, second.pictures), count, first.settings)


def swd(
    first: Iterable[Float[np.ndarray, "_ _ c"]],
    second: Iterable[Float[np.ndarray, "_ _ c"]],
    *,
    settings: SwdSettings | None = None,
) -> SlicedWasserstein:
    """The distance of two sets of pictures, read one after another.

    Raises:
        ConfigError: a picture is smaller than the coarsest level.
        DatasetError: a set is empty, or not all pictures are of one size.
    """
    taken = PatchSet(settings or SwdSettings()), PatchSet(settings or SwdSettings())
    for patches, pictures in zip(taken, (first, second), strict=True):
        for picture in pictures:
            patches.add(picture)
    return sliced_wasserstein(*taken)


def laplacian_pyramid(picture: Float[np.ndarray, "h w c"], *, coarsest: int) -> list[Float[np.ndarray, "_ _ c"]]:
    """What each halving of a picture loses, from fine to coarse, and last what is left.

    It is halved, an odd side rounded up, as long as the shorter side keeps `coarsest` pixels.

    Raises:
        ConfigError: the picture is smaller than that.
    """
    if min(picture.shape[:2]) < coarsest:
        raise ConfigError(
            f"a picture of {picture.shape[1]} x {picture.shape[0]} pixels is smaller than the coarsest level of SWD, "
            f"{coarsest}. Make the pictures greater or the level smaller"
        )
    levels, rest = [], picture
    while min(rest.shape[:2]) > 1 and (min(rest.shape[:2]) + 1) // 2 >= coarsest:
        half = _blurred(rest, BINOMIAL)[::2, ::2]
        spread = np.zeros_like(rest)
        spread[::2, ::2] = half
        # three of four pixels are zeros: twice the weight along each axis makes up for them
        levels.append(rest - _blurred(spread, 2 * BINOMIAL))
        rest = half
    return [*levels, rest]


def _blurred(picture: Float[np.ndarray, "h w c"], kernel: Float[np.ndarray, " k"]) -> Float[np.ndarray, "h w c"]:
    along_columns = ndimage.convolve1d(picture, kernel, axis=0, mode="mirror")
    return np.asarray(ndimage.convolve1d(along_columns, kernel, axis=1, mode="mirror"))


def _distance(
    first: Float[np.ndarray, "n c p p"], second: Float[np.ndarray, "n c p p"], settings: SwdSettings, level: str
) -> float:
    pair = [patches.reshape(len(patches), -1) for patches in _normalised(first, second, settings)]
    found = []
    for repeat in range(settings.repeats):
        draw = np.random.default_rng([settings.seed, DIRECTIONS, int(level), repeat])
        directions = draw.standard_normal((settings.directions, pair[0].shape[1]), dtype=np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        one, other = (np.sort(directions @ patches.T, axis=1) for patches in pair)
        found.append(np.abs(one - other).mean(dtype=np.float64))
    return settings.scale * float(np.mean(found))


def _normalised(
    first: Float[np.ndarray, "n c p p"], second: Float[np.ndarray, "n c p p"], settings: SwdSettings
) -> list[Float[np.ndarray, "n c p p"]]:
    """Both sets with mean 0 and deviation 1 in each channel, each by itself or both by the same measure."""
    sets, axes = (first, second), (0, 2, 3)
    means = np.stack([patches.mean(axes, dtype=np.float64) for patches in sets])
    variances = np.stack([patches.var(axes, dtype=np.float64) for patches in sets])
    if settings.normalise == "together":
        common = means.mean(axis=0)
        variances = np.broadcast_to((variances + (means - common) ** 2).mean(axis=0), means.shape)
        means = np.broadcast_to(common, means.shape)
    deviations = np.where(variances < SMALLEST**2, 1, np.sqrt(variances))
    return [
        (patches - mean[:, None, None].astype(np.float32)) / deviation[:, None, None].astype(np.float32)
        for patches, mean, deviation in zip(sets, means, deviations, strict=True)
    ]
