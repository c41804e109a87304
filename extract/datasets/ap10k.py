"""AP-10K: animals of 54 species, in pairs of one species, of one family, or of two; as GeoAware-SC prepares it.

    JPEGImages/<family>/<species>/<id>.jpg        ImageAnnotation/<family>/<species>/<id>.json
    PairAnnotation/<split>/<source id>-<target id>:{species|family|all}.json

Source: GeoAware-SC §6 (Zhang et al., arXiv 2311.17034); the photographs and keypoints: Yu et al., AP-10K, arXiv
2108.12617. The preparation draws its pairs in the order of a disk's folders, so that two trees hold different pairs;
from AP-10K's own layout everyone gets the same ones (`matchkit.extract.datasets.ap10k_official`).
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.manifest import PairRule
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.datasets.annotations import Box, Fields, letters
from matchkit.extract.datasets.ap10k_annotations import KINDS, SPLITS, animal_scheme, no_masks
from matchkit.extract.datasets.ap10k_official import OfficialAP10K
from matchkit.extract.datasets.coco import box, keypoint_rows

PREPARED = ("JPEGImages", "ImageAnnotation", "PairAnnotation")
KIND = re.compile(f"({'|'.join(KINDS)})$")


def open_ap10k(root: Path) -> "AP10K | OfficialAP10K":
    """Opens an AP-10K tree: a prepared one, or one in the official layout.

    Raises:
        DatasetError: it is neither.
    """
    prepared = any((root / folder).is_dir() for folder in PREPARED)
    # the preparation leaves the annotations where they were
    return OfficialAP10K(root) if not prepared and (root / "annotations").is_dir() else AP10K(root)


class AP10K:
    """A prepared AP-10K tree.

    A split `trn`, `val` or `test` has the pairs of one species each; `val-family`, `test-family` those of two species
    of a family, and `val-all`, `test-all` those of two families: the three published benchmarks, one by one. A pair's
    category is the species, the family, or `all`.

    Args:
        root: the folder that holds JPEGImages, ImageAnnotation and PairAnnotation.

    Raises:
        DatasetError: one of the three folders is missing.
    """

    name = "ap10k"

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [folder for folder in PREPARED if not (root / folder).is_dir()]
        if missing:
            raise DatasetError(
                f"no prepared ap10k dataset in {root}: {', '.join(missing)} missing. Give its folder with --root DIR"
            )

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every annotated image by its id `<family>/<species>/<stem>`, sorted."""
        files = self.root.glob("ImageAnnotation/*/*/*.json")
        records = {record.id: record for record in (_image_record(self.root, path) for path in files)}
        if not records:
            raise DatasetError(f"no image annotations in {self.root / 'ImageAnnotation'}")
        return dict(sorted(records.items()))

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that hold pairs."""
        return tuple(self._files)

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of a split in the order of their files' names; their keypoints are those that both images show.

        Raises:
            DatasetError: an unknown split, or an annotation that is missing or malformed.
        """
        if split not in self._files:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")
        boxes: dict[str, Box] = {}
        return [self._pair(path, boxes) for path in self._files[split]]

    def pair_rule(self, split: str) -> PairRule:
        """What is known of how the pairs of a split came about."""
        return PairRule(
            f"the pairs '{split}' of a tree that GeoAware-SC's preparation made: it draws in the order in which a disk "
            "lists its folders, so that another tree holds other pairs"
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
    def _files(self) -> Mapping[str, Sequence[Path]]:
        """The pair files of every split; where a name has lost its end, the file says what it is of."""
        found: dict[str, list[Path]] = {}
        for split in SPLITS:
            names = {f"{split}-{kind}" if kind != "species" else split: kind for kind in KINDS}
            by_kind: dict[str, list[Path]] = {kind: [] for kind in KINDS}
            files = (path for path in (self.root / "PairAnnotation" / split).glob("[!.]*") if path.is_file())
            for path in sorted(files, key=_key):
                told = KIND.search(_key(path))
                by_kind[told[0] if told else _kind(*_ends(Fields(path)))].append(path)
            found |= {name: by_kind[kind] for name, kind in names.items() if by_kind[kind]}
        return found

    def _pair(self, path: Path, boxes: dict[str, Box]) -> Pair:
        fields = Fields(path)
        source, target = _ends(fields)
        for image, field in ((source, "src_json_path"), (target, "trg_json_path")):
            if image not in self.images:
                raise DatasetError(f"{path}: {field} names image '{image}', which has no ImageAnnotation")
            if image not in boxes:
                boxes[image] = box(Fields(self.root / "ImageAnnotation" / f"{image}.json"))
        kind = _kind(source, target)
        seen, sought = self.images[source].keypoints, self.images[target].keypoints
        ids = tuple(name for name in seen if name in sought)
        return Pair(
            id=f"{PurePosixPath(source).name}-{PurePosixPath(target).name}:{kind}",
            source=source,
            target=target,
            category={"species": source.split("/")[1], "family": source.split("/")[0], "all": "all"}[kind],
            source_points=np.asarray([seen[name] for name in ids], np.float32).reshape(-1, 2),
            target_points=np.asarray([sought[name] for name in ids], np.float32).reshape(-1, 2),
            keypoint_ids=ids,
            source_box=boxes[source],
            target_box=boxes[target],
        )


def _key(path: Path) -> str:
    return letters(path.name.removesuffix(".json"))


def _kind(source: str, target: str) -> str:
    """What two images' animals share, by their ids."""
    family, species, _ = source.split("/")
    if target.split("/")[:2] == [family, species]:
        return "species"
    return "family" if target.split("/")[0] == family else "all"


def _ends(fields: Fields) -> tuple[str, str]:
    """The ids of a pair's images: the two annotations' paths begin wherever the tree was prepared."""
    source, target = (_image_id(fields, field) for field in ("src_json_path", "trg_json_path"))
    return source, target


def _image_id(fields: Fields, field: str) -> str:
    value = fields.value(field)
    parts = PurePosixPath(value.replace("\\", "/")).parts if isinstance(value, str) else ()
    if len(parts) < 4 or parts[-4] != "ImageAnnotation":
        raise DatasetError(
            f"{fields.path}: field '{field}' must end in ImageAnnotation/<family>/<species>/<id>.json, not {value!r}"
        )
    return "/".join(parts[-3:]).removesuffix(".json")


def _image_record(root: Path, path: Path) -> ImageRecord:
    fields = Fields(path)
    image_id = path.relative_to(root / "ImageAnnotation").with_suffix("").as_posix()
    size = (fields.integer("width"), fields.integer("height"))
    return ImageRecord(
        id=image_id,
        path=root / "JPEGImages" / f"{image_id}.jpg",
        size=size,
        category=path.parent.name,
        keypoints=_visible(fields, within=size),
    )


def _visible(fields: Fields, *, within: tuple[int, int]) -> dict[str, tuple[float, float]]:
    rows = keypoint_rows(fields)
    ids = [str(number) for number in np.flatnonzero(rows[:, 2] > 0)]
    points = rows[rows[:, 2] > 0, :2]
    fields.require_inside("keypoints", points, ids, within=within)
    return {name: (float(x), float(y)) for name, (x, y) in zip(ids, points, strict=True)}
