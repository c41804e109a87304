"""CUB-200-2011: birds of 200 classes with 15 parts, in its official layout.

    images.txt, train_test_split.txt, bounding_boxes.txt       a line an image, its number first
    parts/parts.txt, parts/part_locs.txt                       the parts' names; a line an image and part
    images/<class>/<stem>.jpg
    segmentations/<class>/<stem>.png (may be missing)          bright where people saw the bird; read by `mask` alone

Source: Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001. No list of pairs goes with it, and every
publication draws its own; here they are drawn by a rule that gives everyone the same (`drawn_pairs`). Coordinates are
taken as they stand in the files.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.manifest import PairRule
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.pictures import fitting, read_grey, stored_size
from matchkit.extract.datasets.cub_files import FILES, PARTS, Bird, read_birds
from matchkit.extract.datasets.drawn_pairs import SEED, Group, drawn_pairs, shared_pair
from matchkit.extract.datasets.schemes import schemes

SHARED = 3
"""Parts that both images of a pair show, at least."""
PAIRS = {"trn": 250, "val": 50, "test": 50}
"""Of a class, at most."""
HELD_OUT = 5
"""One in so many of a class's training images, the last ones, is for validation; the publication has none for it."""
ACROSS, CLASS_PAIRS, ACROSS_PAIRS = "test-all", 1000, 10
"""The split of two classes each: how many twos of classes, and pairs of two classes at most."""
SPLITS = (*PAIRS, ACROSS)
log = logging.getLogger(__name__)


def open_cub(root: Path) -> "CUB":
    """Opens a CUB-200-2011 tree."""
    return CUB(root)


class CUB:
    """A CUB-200-2011 tree.

    `trn`, `val` and `test` have pairs of one class each, whose name is their category; `test-all` has pairs of two
    classes, of the category `all`. Only `test` and `test-all` are of the images that the publication tests on.

    Args:
        root: the folder that holds images.txt.

    Raises:
        DatasetError: one of the files, or the folder of images, is missing.
    """

    name = "cub"

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [name for name in FILES if not (root / name).is_file()]
        missing += [] if (root / "images").is_dir() else ["images"]
        if missing:
            raise DatasetError(
                f"no cub dataset in {root}: {', '.join(missing)} missing. Give its folder with --root DIR"
            )

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every image by its id `<class>/<stem>`, sorted; a part outside its image is taken for hidden."""
        records = {bird.name: _record(self.root, bird) for bird in self._birds.values()}
        outside = sum(int(bird.parts[:, 2].sum()) - len(records[name].keypoints) for name, bird in self._birds.items())
        if outside:
            log.warning("%s: %s parts lie outside their images: taken for hidden", self.root, f"{outside:,}")
        return dict(sorted(records.items()))

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Those that hold pairs."""
        return tuple(split for split in SPLITS if any(group.fits.any() for group in self._groups(split)))

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of a split, sorted by their ids; their keypoints are the parts that both images show.

        Raises:
            DatasetError: an unknown split, or a malformed file.
        """
        self._require(split)
        found = [self._pair(*two, group.category) for group in self._groups(split) for two in drawn_pairs(group)]
        return sorted(found, key=lambda pair: pair.id)

    def pair_rule(self, split: str) -> PairRule:
        """How the pairs of a split come about.

        Raises:
            DatasetError: an unknown split.
        """
        self._require(split)
        of = {
            "trn": f"a class's training images by number without the last one in {HELD_OUT}",
            "val": f"the last one in {HELD_OUT} of a class's training images by number",
        }.get(split, "the images that train_test_split.txt has for testing")
        pairs = (
            f"{CLASS_PAIRS} twos of classes are drawn, and of each at most {ACROSS_PAIRS} pairs of two classes"
            if split == ACROSS
            else f"of each class at most {PAIRS.get(split)} pairs"
        )
        return PairRule(
            f"matchkit's rule for CUB-200-2011: of {of} {pairs}, which share {SHARED} visible parts or more; drawn are "
            "the smallest SHA-256 of 'seed|image|image', and an odd one makes the greater image the source",
            seed=SEED,
        )

    def scheme(self, category: str) -> KeypointScheme:
        """Which parts mirror each other, and which look alike: the same ones for every bird.

        Raises:
            DatasetError: no class of the dataset, nor `all`.
        """
        if category not in {record.category for record in self.images.values()} | {"all"}:
            raise DatasetError(f"{self.name}: category '{category}' has no flip table: it is no class in {self.root}")
        return schemes(self.name)["bird"]

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """Which pixels of an image most people saw the bird in: those of more than half of the greatest brightness.

        Raises:
            DatasetError: no such image, or its segmentation is missing or of another size.
        """
        if image_id not in self.images:
            raise DatasetError(f"{self.name} has no image '{image_id}' in {self.root}")
        path = self.root / "segmentations" / f"{image_id}.png"
        if not path.exists():
            raise DatasetError(
                f"{path} is missing: it says which pixels show the bird of '{image_id}'. Segmentations are an archive "
                "of their own: put its folder beside images"
            )
        seen = fitting(read_grey(path), photograph=self.images[image_id].size, path=path)
        return np.asarray(seen > seen.max() / 2)

    @cached_property
    def _birds(self) -> Mapping[str, Bird]:
        return {bird.name: bird for bird in read_birds(self.root)}

    def _classes(self, split: str) -> Mapping[str, Sequence[str]]:
        """The images of a split by their class, sorted."""
        of_class: dict[str, list[str]] = {}
        for name, bird in self._birds.items():
            if bird.for_training == (split in ("trn", "val")):
                of_class.setdefault(self.images[name].category, []).append(name)
        kept = of_class
        if split in ("trn", "val"):
            ends = {category: len(ids) - len(ids) // HELD_OUT for category, ids in of_class.items()}
            kept = {c: ids[: ends[c]] if split == "trn" else ids[ends[c] :] for c, ids in of_class.items()}
        return {category: ids for category, ids in sorted(kept.items()) if ids}

    def _groups(self, split: str) -> Iterator[Group]:
        classes = self._classes(split)
        if split != ACROSS:
            for name, ids in classes.items():
                yield Group(name, ids, self._share(ids), PAIRS[split])
            return
        names = list(classes)
        for one, other in drawn_pairs(Group("", names, np.ones((len(names), len(names)), np.bool_), CLASS_PAIRS)):
            ids = [*classes[one], *classes[other]]
            of_one = np.arange(len(ids)) < len(classes[one])
            yield Group("all", ids, self._share(ids) & (of_one[:, None] != of_one), ACROSS_PAIRS)

    def _share(self, ids: Sequence[str]) -> Bool[np.ndarray, "n n"]:
        shown = np.stack([self._shown[image_id] for image_id in ids])
        return np.asarray(shown @ shown.T >= SHARED)

    @cached_property
    def _shown(self) -> Mapping[str, Int64[np.ndarray, " k"]]:
        """For each image which of the parts it shows, as 0 and 1."""
        parts = [str(number) for number in range(1, len(PARTS) + 1)]
        return {
            name: np.asarray([part in record.keypoints for part in parts], np.int64)
            for name, record in self.images.items()
        }

    def _require(self, split: str) -> None:
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")

    def _pair(self, source: str, target: str, category: str) -> Pair:
        birds = self._birds[source], self._birds[target]
        return shared_pair(
            self.images[source],
            self.images[target],
            id=f"{birds[0].number:05d}-{birds[1].number:05d}",
            category=category,
            boxes=(birds[0].box, birds[1].box),
        )


def _record(root: Path, bird: Bird) -> ImageRecord:
    path = root / "images" / bird.file
    size = stored_size(path)
    seen = (bird.parts[:, 2] > 0) & ((bird.parts[:, :2] >= 0) & (bird.parts[:, :2] <= size)).all(axis=1)
    return ImageRecord(
        id=bird.name,
        path=path,
        size=size,
        category=bird.name.split("/")[0],
        keypoints={str(n + 1): (float(bird.parts[n, 0]), float(bird.parts[n, 1])) for n in np.flatnonzero(seen)},
    )
