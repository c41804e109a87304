"""Stage pairs: which photographs may be exemplars for which image, by their features, in a list that fits read.

Source: CoCosNet §4.2, where the features are VGG's; here those that are cached.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from matchkit.cache.pooled import pooled
from matchkit.cache.store import FeatureStore
from matchkit.core.conditions import ConditionedDataset
from matchkit.core.errors import ConfigError
from matchkit.core.exemplars import Exemplars, write_exemplars
from matchkit.core.params import build, check_names, parse_overrides, read_params, section
from matchkit.extract.datasets import DATASETS
from matchkit.pipelines.conditions import open_conditioned
from matchkit.pipelines.settings import PARAMS_FILE, Told, exemplars_path, features_path

log = logging.getLogger(__name__)
SEMANTIC = "dino"
"""The layer that is taken where the store has it."""
STEPS = 1_000_000
"""Steps of a similarity that count: the last bits of a product of matrices depend on how it was cut into blocks."""
NO_EXEMPLAR = np.iinfo(np.int64).min
BLOCK = 1 << 22
"""Similarities that are in memory at a time."""
NO_LENGTH = 1e-6
"""Below this distance from the mean of all, an image has no direction and is like nothing."""


@dataclass(frozen=True, slots=True)
class PairsParams:
    """How exemplars are found.

    Attributes:
        features: the feature store of the dataset, by the name of its entry in `extract`.
        layer: whose cells are compared; "" takes `dino`, or the last layer of a store without it.
        count: exemplars an image, at most.
        within_category: whether an exemplar must be of the image's category; without categories all are of one.
        floor: similarity, -1..1, below which an exemplar is said to be unlike its image.
    """

    features: str = "geoaware"
    layer: str = ""
    count: int = 5
    within_category: bool = True
    floor: float = 0.2

    def __post_init__(self) -> None:
        if self.count < 1 or not -1 <= self.floor <= 1:
            raise ConfigError(f"count must be at least 1 and floor in -1..1, not {self.count} and {self.floor}")


@dataclass(frozen=True, slots=True)
class Paired:
    """What a search for exemplars left.

    Attributes:
        path: of the list.
        images: that have an entry in it.
        layer: by which the exemplars were found; "" for the dataset's own list.
        unlike: images without an exemplar, or without one as similar as the floor; of the own list those without one.
    """

    path: Path
    images: int
    layer: str
    unlike: int


def pairs(
    dataset: str,
    split: str,
    *,
    root: Path | None = None,
    store: Path | str | None = None,
    layer: str | None = None,
    count: int | None = None,
    own: bool = False,
    out: Path | None = None,
    settings: Sequence[str] = (),
) -> Paired:
    """Lists for each image of a split the photographs of other things that are most like it, or the dataset's own ones.

    Args:
        dataset: name in the table of datasets, of one with conditions.
        split: `trn`, `val` or `test`, whose images are exemplars of each other.
        root: the dataset's tree.
        store: the feature store's path or URL.
        layer: whose cells are compared.
        count: exemplars an image, at most.
        own: whether to write the dataset's own list instead, for which no features are needed.
        out: the list's path.
        settings: `key=value`, over the dataset's section of `pairs` in `params.yaml`.

    Raises:
        ConfigError: an unknown parameter, or one that the own list has no use for.
        DatasetError: a dataset without conditions, no such split, or no list of its own.
        StoreError: features that are not there.
    """
    asked = _told(dataset, settings)
    given = {name: value for name, value in (("layer", layer), ("count", count)) if value is not None}
    params = build(PairsParams, {**asked.values, **given}, where=asked.where)
    if own and (given or store):
        raise ConfigError("--own takes the dataset's list as it is: no --store, --layer or --count")
    data = open_conditioned(dataset, root)
    images = sorted(data.of_split(split))  # ties go to the first id
    where = out or exemplars_path(dataset, split)
    if own:
        return _write_own(where, images, data, data.exemplars(split))
    with FeatureStore.open(store or features_path(dataset, params.features)) as opened:
        remedy = f"Run: matchkit extract --dataset {dataset} --backbone {params.features}"
        opened.require(images, remedy=remedy)
        chosen = params.layer or (SEMANTIC if SEMANTIC in opened.layers else opened.layers[-1])
        with tqdm(total=len(images), desc="pairs", unit="image", disable=None) as progress:
            vectors = pooled(opened, images, chosen, done=progress.update)
    lists = _found(data, images, directions(vectors), params)
    write_exemplars(where, lists)
    unlike = [entry.image for entry in lists if not entry.nearest or entry.similarities[0] < params.floor]
    if unlike:
        log.warning(
            "%s: %s of %s images have no exemplar of similarity %g or more, '%s' for one: they will translate badly. "
            "More photographs help, or --set within_category=false",
            *(where, f"{len(unlike):,}", f"{len(lists):,}", params.floor, unlike[0]),
        )
    return Paired(where, len(lists), chosen, len(unlike))


def _told(dataset: str, settings: Sequence[str]) -> Told:
    """The parameters under `pairs.<dataset>` of `params.yaml` with `key=value` settings over them."""
    data, where = read_params(PARAMS_FILE), str(PARAMS_FILE)
    check_names(section(data, "pairs", where=where), list(DATASETS.table()), where=f"{where} pairs")
    return Told(section(data, "pairs", dataset, where=where) | parse_overrides(settings), f"{where} pairs.{dataset}")


def _write_own(
    where: Path, images: Sequence[str], data: ConditionedDataset, held: Mapping[str, tuple[str, ...]]
) -> Paired:
    same = _of_one_group(images, data)
    lists = [Exemplars(image, held[image], same=same[image]) for image in images if held.get(image)]
    write_exemplars(where, lists)
    without = len(images) - len(lists)
    if without:
        log.warning("%s: the dataset's list has no exemplar of %s of %s images", where, without, len(images))
    return Paired(where, len(lists), "", without)


def _of_one_group(images: Sequence[str], data: ConditionedDataset) -> dict[str, tuple[str, ...]]:
    """For each image the other ones of its group, in their order."""
    members: dict[str, list[str]] = defaultdict(list)
    for image in images:
        members[data.group(image)].append(image)
    return {image: tuple(x for x in group if x != image) for group in members.values() for image in group}


def _found(
    data: ConditionedDataset, images: Sequence[str], units: Float[np.ndarray, "n d"], params: PairsParams
) -> list[Exemplars]:
    same = _of_one_group(images, data)
    groups = _numbers([data.group(image) for image in images])
    categories = _numbers([data.images[image].category if params.within_category else "" for image in images])
    lists: list[Exemplars | None] = [None] * len(images)
    for category in range(categories.max(initial=-1) + 1):
        members = np.flatnonzero(categories == category)
        places, similarities = nearest(units[members], groups[members], count=params.count)
        for row, (found, values) in enumerate(zip(places, similarities, strict=True)):
            image, there = images[members[row]], found >= 0
            names = tuple(images[place] for place in members[found[there]])
            lists[members[row]] = Exemplars(image, names, tuple(values[there].tolist()), same[image])
    return [entry for entry in lists if entry is not None]


def _numbers(names: Sequence[str]) -> Int[np.ndarray, " n"]:
    return np.unique(names, return_inverse=True)[1]


def directions(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Vectors seen from the mean of all of them, at length one; what lies at the mean is zero.

    Pooled features point much the same way: from zero every image is like every other one.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(lengths > NO_LENGTH, centred / np.maximum(lengths, NO_LENGTH), 0).astype(np.float32)


def nearest(
    units: Float[np.ndarray, "n d"], groups: Int[np.ndarray, " n"], *, count: int
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The rows of other groups with the greatest cosines, and these, in falling order; -1 and NaN where there is none.

    Cosines count in steps of a millionth, and of equal ones the first row comes first. A block of rows of the
    similarity matrix is in memory at a time.
    """
    n = len(units)
    k = min(count, n)
    places, similarities = np.full((n, k), -1, np.int64), np.full((n, k), np.nan)
    rows = max(1, BLOCK // n)
    for start in range(0, n, rows):
        block = slice(start, start + rows)
        keys = np.rint((units[block] @ units.T) * STEPS).astype(np.int64)
        keys *= n  # room for the place below the similarity: no two keys are equal
        keys += np.arange(n - 1, -1, -1)
        keys[groups[block, None] == groups] = NO_EXEMPLAR
        best = np.argpartition(keys, n - k, axis=1)[:, n - k :]
        falling = np.argsort(np.take_along_axis(keys, best, axis=1), axis=1)[:, ::-1]
        best = np.take_along_axis(best, falling, axis=1)
        chosen = np.take_along_axis(keys, best, axis=1)
        there = chosen != NO_EXEMPLAR
        places[block][there], similarities[block][there] = best[there], chosen[there] // n / STEPS
    return places, similarities
