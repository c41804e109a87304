"""How often 95 % intervals hold the truth, and how often tests find what is not there, on simulated datasets.

PYTHONSAFEPATH=1 python benchmarks/coverage.py [KIND ...]

A dataset has categories of images, and pairs of the images of a category. Each image strays as a source and as a
target, each of its keypoints by itself, and each pair; what is correct is drawn. The truth is the score over endless
images of the same categories, by 40,000 pairs a category that share nothing. Another dataset has other images, but the
same categories and kinds of keypoints.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import permutation_test

from matchkit.core.records import Pair
from matchkit.evaluate.clusters import Ends, Sharing
from matchkit.evaluate.comparison import swap_test
from matchkit.evaluate.resampling import Group, group_intervals

KEYPOINTS = 8
ENDLESS = 40_000
TAILS = (0.025, 0.975)
Interval = tuple[float, float]
Name = Literal["keypoint", "image"]


@dataclass(frozen=True)
class Kind:
    """How datasets of a kind are drawn; effects are standard deviations, where a keypoint's own noise has 1.

    Attributes:
        images: of each category.
        pairs: of each category: `all` ordered ones; `half` of the images are sources and the others targets; `few`,
            two an image; `uneven`, more of the first images; `apart`, no image twice.
        source, target: of an image in its roles.
        same: the correlation of an image's two effects.
        own: of each keypoint in each image.
        pair: of a pair.
        level, spread: of the categories' scores, on the scale of the noise.
        shown: how much more of the keypoints an easy source shows.
        gain: of a second method with effects of its own; the interval is of the difference. None for one method.
    """

    images: tuple[int, ...] = (12, 12, 12, 12)
    pairs: Literal["all", "half", "few", "uneven", "apart"] = "all"
    source: float = 0.6
    target: float = 0.6
    same: float = 0.3
    own: float = 0.5
    pair: float = 0.3
    level: float = 0.0
    spread: float = 0.4
    shown: float = 0.0
    gain: float | None = None


NOTHING = {"source": 0.0, "target": 0.0, "own": 0.0, "pair": 0.0}
WEAK = {"source": 0.15, "target": 0.15, "own": 0.2, "pair": 0.1}
KINDS: Mapping[str, Kind] = {
    "strong": Kind(),
    "weak": Kind(**WEAK),
    "none": Kind(**NOTHING),
    "8 images": Kind(images=(8,)),
    "8 images, weak": Kind(images=(8,), **WEAK),
    "26 images": Kind(images=(26,)),
    "as SPair": Kind(images=(26,) * 4, source=0.3, target=0.5),
    "targets alone": Kind(source=0.0, target=1.0),
    "roles agree": Kind(source=0.9, target=0.9, same=0.95),
    "roles oppose": Kind(source=0.9, target=0.9, same=-0.95),
    "no image in both roles": Kind(images=(16,) * 4, pairs="half"),
    "few pairs an image": Kind(images=(16,) * 4, pairs="few"),
    "uneven": Kind(images=(20,) * 4, pairs="uneven"),
    "no image twice": Kind(images=(20,) * 4, pairs="apart"),
    "categories of all sizes": Kind(images=(4, 6, 12, 24)),
    "high scores": Kind(level=2.2),
    "low scores": Kind(level=-2.5),
    "categories far apart": Kind(spread=1.2),
    "easy images show more": Kind(shown=0.2),
    "a gain": Kind(gain=0.3),
    "a gain, 8 images": Kind(images=(8,), gain=0.3),
    "no gain": Kind(gain=0.0),
    "no gain, 8 images": Kind(images=(8,), gain=0.0),
    "no gain, uneven": Kind(images=(20,) * 4, pairs="uneven", gain=0.0),
}


@dataclass(frozen=True)
class Design:
    """The pairs of a kind, which are the same in all of its datasets, and its truth by average, in percent."""

    kind: Kind
    source: np.ndarray
    target: np.ndarray
    category: np.ndarray
    pairs: list[Pair]
    truth: Mapping[Name, float]


def design(kind: Kind) -> Design:
    generator = np.random.default_rng(5)
    ends, category, first = [], [], 0
    for row, images in enumerate(kind.images):
        chosen = _chosen(kind, images, generator)
        ends.append(chosen + first)
        category += [row] * len(chosen)
        first += images
    source, target = np.concatenate(ends).T
    nothing = np.zeros((0, 2), np.float32)
    pairs = [
        Pair(str(n), f"{s:04}", f"{t:04}", str(c), nothing, nothing, ())
        for n, (s, t, c) in enumerate(zip(source, target, category, strict=True))
    ]
    return Design(kind, source, target, np.array(category), pairs, _truth(kind, np.bincount(category)))


def _chosen(kind: Kind, images: int, generator: np.random.Generator) -> np.ndarray:
    every = np.array([(s, t) for s in range(images) for t in range(images) if s != t])
    if kind.pairs == "half":
        return every[(every[:, 0] < images // 2) & (every[:, 1] >= images // 2)]
    if kind.pairs == "few":
        return every[generator.choice(len(every), 2 * images, replace=False)]
    if kind.pairs == "uneven":
        chance = 1 / np.prod(1 + every, axis=1)
        return every[generator.choice(len(every), 4 * images, replace=False, p=chance / chance.sum())]
    return np.arange(images).reshape(-1, 2) if kind.pairs == "apart" else every


def _truth(kind: Kind, pairs: np.ndarray) -> dict[Name, float]:
    sums: dict[Name, np.ndarray] = {"keypoint": np.zeros(2), "image": np.zeros(2)}
    generator, ends = np.random.default_rng(1), np.arange(2 * ENDLESS).reshape(-1, 2)
    for row, count in enumerate(pairs):
        won, seen = drawn(kind, ends[:, 0], ends[:, 1], np.full(ENDLESS, row), generator)
        sums["keypoint"] += count * np.array([won.mean(), seen.mean()])
        sums["image"] += count * np.array([(won / np.maximum(seen, 1)).mean(), (seen > 0).mean()])
    return {name: float(100 * told[0] / told[1]) for name, told in sums.items()}


def drawn(
    kind: Kind, source: np.ndarray, target: np.ndarray, category: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What each pair of a dataset wins and counts."""
    fixed = np.random.default_rng(99)
    level = kind.level + kind.spread * fixed.standard_normal(8)[category, None]
    level = level + 0.5 * fixed.standard_normal((8, KEYPOINTS))[category]
    images = 1 + int(max(source.max(), target.max()))
    easy = generator.standard_normal(images)
    shows = generator.random((images, KEYPOINTS)) < np.clip(0.6 + kind.shown * easy[:, None], 0.15, 1)
    seen = shows[source] & shows[target]

    def won(first: np.ndarray, gain: float) -> np.ndarray:
        second = kind.same * first + np.sqrt(1 - kind.same**2) * generator.standard_normal(images)
        own = kind.own * generator.standard_normal((2, images, KEYPOINTS))
        pair = kind.source * first[source] + kind.target * second[target]
        pair = pair + kind.pair * generator.standard_normal(len(source))
        noise = generator.standard_normal((len(source), KEYPOINTS))
        told = level + gain + pair[:, None] + own[0][source] + own[1][target] + noise > 0
        return np.asarray((told & seen).sum(axis=1))

    before = won(easy, 0.0)
    if kind.gain is None:
        return before, seen.sum(axis=1)
    return won(generator.standard_normal(images), kind.gain) - before, seen.sum(axis=1)


def ours(groups: Mapping[Name, Group], told: Design, *, resamples: int) -> dict[Name, Interval]:
    lowest = 0.0 if told.kind.gain is None else -100.0
    found = group_intervals(groups, told.pairs, lowest=lowest, resamples=resamples)
    return {name: (float(ends[0, 0]), float(ends[0, 1])) for name, ends in found.items()}


def of_keypoints(group: Group) -> Interval:
    """As if all keypoints were independent."""
    share = group.won.sum() / group.counts.sum()
    error = np.sqrt(share * (1 - share) / group.counts.sum())
    return float(100 * (share - 1.96 * error)), float(100 * (share + 1.96 * error))


def of_drawn(group: Group, times: np.ndarray) -> Interval:
    """The percentiles over pairs that count so many times."""
    total = times @ group.counts
    shares = (times @ group.won[:, 0])[total > 0] / total[total > 0]
    low, high = 100 * np.quantile(shares, TAILS)
    return float(low), float(high)


def others(group: Group, told: Design, generator: np.random.Generator, *, resamples: int) -> dict[str, Interval]:
    """Intervals as they are made elsewhere."""
    pairs, images = len(group.rows), 1 + int(max(told.source.max(), told.target.max()))
    of_pairs = generator.multinomial(pairs, np.full(pairs, 1 / pairs), resamples)
    of_images = generator.multinomial(images, np.full(images, 1 / images), resamples)
    product = of_images[:, told.source[group.rows]] * of_images[:, told.target[group.rows]]
    found = {"pairs drawn": of_drawn(group, of_pairs), "images drawn, not scaled": of_drawn(group, product)}
    binomial = told.kind.gain is None and group.counts.max() > 1
    return {"binomial": of_keypoints(group)} | found if binomial else found


def groups(won: np.ndarray, seen: np.ndarray) -> dict[Name, Group]:
    rows = np.flatnonzero(seen)
    group = Group(rows, won[rows, None], seen[rows])
    return {"keypoint": group, "image": group.a_pair()}


def swapped_pairs(change: np.ndarray) -> float:
    """A test as it is made elsewhere: the methods are swapped a pair at a time."""
    told = permutation_test(
        (change,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", vectorized=True, n_resamples=499
    )
    return float(told.pvalue)


def coverage(told: Design, *, datasets: int, resamples: int, compared: bool) -> dict[Name, dict[str, float]]:
    """In percent of the datasets, the intervals that hold the truth; with those made elsewhere, where `compared`."""
    generator = np.random.default_rng(7)
    held: dict[Name, dict[str, float]] = {"keypoint": {}, "image": {}}
    for _ in range(datasets):
        made = groups(*drawn(told.kind, told.source, told.target, told.category, generator))
        found = ours(made, told, resamples=resamples)
        for name, group in made.items():
            intervals = others(group, told, generator, resamples=resamples) if compared else {}
            for method, (low, high) in ({"matchkit": found[name]} | intervals).items():
                inside = low <= told.truth[name] <= high
                held[name][method] = held[name].get(method, 0) + 100 * inside / datasets
    return held


def found_at(told: Design, *, datasets: int) -> dict[str, float]:
    """In percent of the datasets, the tests at 5 % that find a difference."""
    generator = np.random.default_rng(8)
    rates = {"matchkit": 0.0, "pairs swapped": 0.0}
    for _ in range(datasets):
        group = groups(*drawn(told.kind, told.source, told.target, told.category, generator))["keypoint"]
        ends, change = Ends.of(told.pairs).take(group.rows), group.won[:, 0].astype(float)
        p = {"matchkit": swap_test(change, ends, Sharing(ends, group.counts)), "pairs swapped": swapped_pairs(change)}
        rates = {name: rate + 100 * (p[name] <= 0.05) / datasets for name, rate in rates.items()}
    return rates


def main() -> None:
    for name in sys.argv[1:] or KINDS:
        start, told = time.perf_counter(), design(KINDS[name])
        for average, held in coverage(told, datasets=500, resamples=300, compared=True).items():
            cells = ", ".join(f"{method} {share:.1f}" for method, share in held.items())
            print(f"{name:24} {average:8} ({len(told.pairs)} pairs, {told.truth[average]:.1f} %): {cells}", flush=True)
        if told.kind.gain is not None:
            rates = ", ".join(f"{method} {rate:.1f}" for method, rate in found_at(told, datasets=300).items())
            print(f"{name:24} tests below 0.05: {rates}", flush=True)
        print(f"{name:24} {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
