"""AP-10K in its official layout, prepared as GeoAware-SC prepares it, but so that everyone has the same pairs.

    annotations/ap10k-{train,val,test}-split1.json     COCO: images, annotations, categories (species, with a family)
    data/<12 digits>.jpg
    ap-10k_is_crowd.txt (may be missing)               GeoAware-SC's list of images of several animals, a number a line

Source: GeoAware-SC §6 (Zhang et al., arXiv 2311.17034); the photographs and keypoints: Yu et al., AP-10K, arXiv
2108.12617. Where the preparation takes files in a disk's order, here stand images by their numbers; where it draws by
chance, `drawn_pairs` draws. Without the list, an image that was annotated more than once is one of several animals.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations, groupby
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.manifest import PairRule
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.datasets.ap10k_annotations import (
    FILES,
    KINDS,
    PHOTOS,
    SPLITS,
    Animal,
    Animals,
    animal_scheme,
    no_masks,
    read_animals,
)
from matchkit.extract.datasets.drawn_pairs import SEED, Group, drawn_pairs, shared_pair

TEST, VAL = 30, 20
"""Images of a species that are for testing, the last ones, and for validation, those before."""
SHARED = 12
"""Least sum over a pair's keypoints of the product of both visibilities (0, 1 or 2): three that both show well."""
LIMITS = {
    "species": {"trn": 50},
    "family": {"val": 400, "test": 900},
    "all": {"val": 20, "test": 30},
}
"""Pairs that are drawn: an image of a species, a family, two families; of one species in val and test all are taken."""
PARTS = {"trn": "those before", "val": f"the {VAL} before those", "test": f"the last {TEST}"}
RULES = {
    ("species", "trn"): "of one species, 50 times its images at most",
    ("species", "val"): "all of one species",
    ("species", "test"): "all of one species",
    ("family", "val"): "of two species of a family, 400 a family at most",
    ("family", "test"): "of two species of a family, 900 a family at most",
    ("all", "val"): "of two families, 20 for any two at most",
    ("all", "test"): "of two families, 30 for any two at most",
}
log = logging.getLogger(__name__)


class OfficialAP10K:
    """An AP-10K tree in its official layout, with the splits of a prepared one (`AP10K`).

    Args:
        root: the folder that holds annotations and data.

    Raises:
        DatasetError: the files of annotations or the photographs are missing.
    """

    name = "ap10k"

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [name for name in FILES if not (root / name).is_file()]
        missing += [PHOTOS] if not (root / PHOTOS).is_dir() else []
        if missing:
            raise DatasetError(
                f"no ap10k dataset in {root}: {', '.join(missing)} missing. Give its folder with --root DIR"
            )

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every image of one animal with three keypoints or more by its id `<family>/<species>/<12 digits>`, sorted."""
        return dict(sorted((animal.record.id, animal.record) for animal in self._animals.used))

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many images are left out, by the reason."""
        return self._animals.left_out

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Those that hold pairs."""
        return tuple(name for name in _names() if any(group.fits.any() for group in self._groups(name)))

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of a split, sorted by their ids; their keypoints are those that both images show.

        Raises:
            DatasetError: an unknown split, or malformed annotations.
        """
        self._require(split)
        kind, _ = _names()[split]
        animals = {animal.record.id: animal for animal in self._animals.used}
        found = [
            _pair(animals[source], animals[target], group.category, kind)
            for group in self._groups(split)
            for source, target in drawn_pairs(group)
        ]
        return sorted(found, key=lambda pair: pair.id)

    def pair_rule(self, split: str) -> PairRule:
        """How the pairs of a split come about.

        Raises:
            DatasetError: an unknown split.
        """
        self._require(split)
        kind, part = _names()[split]
        return PairRule(
            f"GeoAware-SC's preparation of AP-10K, sorted and seeded: {self._animals.alone}, as are those of "
            f"fewer than 3 keypoints; of a species' images by number {PARTS[part]} (the last {TEST} are test); "
            f"pairs {RULES[kind, part]}; of both visibilities the products sum to {SHARED} or more; drawn are the "
            "smallest SHA-256 of 'seed|image|image', and an odd one makes the greater image the source",
            seed=SEED,
        )

    def scheme(self, category: str) -> KeypointScheme:
        """Which keypoints mirror each other, and which look alike: the same ones for every animal.

        Raises:
            DatasetError: no species or family of the dataset, nor `all`.
        """
        return animal_scheme(category, self.images, root=self.root)

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """AP-10K has no segmentations.

        Raises:
            DatasetError: always.
        """
        raise no_masks(image_id)

    @cached_property
    def _animals(self) -> Animals:
        animals = read_animals(self.root)
        of = len(animals.used) + sum(animals.left_out.values())
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in animals.left_out.items()) or "none"
        log.info("%s: %s of %s images are used; left out: %s", self.root, f"{len(animals.used):,}", f"{of:,}", reasons)
        if animals.outside:
            log.warning(
                "%s: %s keypoints lie outside their images: taken for hidden", self.root, f"{animals.outside:,}"
            )
        return animals

    @cached_property
    def _parts(self) -> Mapping[str, Mapping[str, Mapping[str, Sequence[Animal]]]]:
        """The animals by split, family and species."""
        ordered = sorted(self._animals.used, key=lambda animal: animal.record.id)
        parts: dict[str, dict[str, dict[str, Sequence[Animal]]]] = {split: {} for split in SPLITS}
        for (family, species), group in groupby(ordered, key=lambda animal: tuple(animal.record.id.split("/")[:2])):
            animals = list(group)
            test = max(0, len(animals) - TEST)
            val = max(0, test - VAL)
            for split, part in zip(SPLITS, (animals[:val], animals[val:test], animals[test:]), strict=True):
                if part:
                    parts[split].setdefault(family, {})[species] = part
        return parts

    def _groups(self, split: str) -> Iterator[Group]:
        kind, part = _names()[split]
        families = self._parts[part]
        limit = LIMITS[kind].get(part)
        if kind == "species":
            for species, animals in (item for family in families.values() for item in family.items()):
                each = [[animal] for animal in animals]
                yield _group(species, each, limit and limit * len(animals))
        elif kind == "family":
            for family, by_species in families.items():
                yield _group(family, list(by_species.values()), limit)
        else:
            of_family = [[animal for animals in family.values() for animal in animals] for family in families.values()]
            for two in combinations(of_family, 2):
                yield _group("all", two, limit)

    def _require(self, split: str) -> None:
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")


def _names() -> dict[str, tuple[str, str]]:
    """The kind and the part of every split, in the order of a prepared tree's."""
    kinds = [(part, kind) for part in SPLITS for kind in KINDS if kind == "species" or part in LIMITS[kind]]
    return {part if kind == "species" else f"{part}-{kind}": (kind, part) for part, kind in kinds}


def _group(category: str, kinds: Sequence[Sequence[Animal]], limit: int | None) -> Group:
    """Animals in kinds; a pair is of two of them."""
    animals = [animal for kind in kinds for animal in kind]
    numbers = np.repeat(np.arange(len(kinds)), [len(kind) for kind in kinds])
    shown = np.stack([animal.visibility for animal in animals]).astype(np.int64)
    fits = (shown @ shown.T >= SHARED) & (numbers[:, None] != numbers)
    return Group(category, [animal.record.id for animal in animals], fits, limit)


def _pair(source: Animal, target: Animal, category: str, kind: str) -> Pair:
    name = f"{source.number:012d}-{target.number:012d}:{kind}"
    return shared_pair(source.record, target.record, id=name, category=category, boxes=(source.box, target.box))
