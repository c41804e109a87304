"""ADE20K as a scene parsing benchmark, with its photographs and masks side by side.

    training/ADE_train_<number>.jpg               training/ADE_train_<number>.png
    validation/ADE_val_<number>.jpg               validation/ADE_val_<number>.png
    ade20k_ref.txt, ade20k_ref_test.txt           exemplars of the training and of the validation images, if you like

A list has lines `ADE_val_00000001.jpg,<exemplar>.jpg,...`, the nearest first; the exemplars of validation images are
training images. Source: CoCosNet §4.1 and §4.2; Zhou et al., ADE20K, arXiv 1608.05442.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float

from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.answers import facing, no_pairs, no_scheme, photograph, require_kind
from matchkit.extract.conditions.lists import read_exemplar_list
from matchkit.extract.conditions.masks import mask_spec, render_mask
from matchkit.extract.conditions.pictures import fitting, read_indices, stored_size

FOLDERS = {"trn": "training", "val": "validation"}
UNKNOWN, VOID, LAST = "unknown", 255, 150
CLASSES = (
    *(UNKNOWN, "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass"),
    *("cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car"),
    *("water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence"),
    *("desk", "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column", "signboard"),
    *("chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path"),
    *("stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway", "river", "bridge", "bookcase"),
    *("blind", "coffee table", "toilet", "flower", "book", "hill", "bench", "countertop", "stove", "palm"),
    *("kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel", "bus", "towel", "light"),
    *("truck", "tower", "chandelier", "awning", "streetlight", "booth", "television receiver", "airplane"),
    *("dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet", "poster"),
    *("stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool"),
    *("barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank"),
    *("trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture"),
    *("hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor"),
    *("bulletin board", "shower", "radiator", "glass", "clock", "flag"),
)
"""What nothing is known of, and the benchmark's 150 classes. A void pixel (255) counts as the last of them, as
published: CoCosNet §1.1."""
SPEC = mask_spec(CLASSES)


def open_ade20k(root: Path) -> "ADE20K":
    """Opens an ADE20K tree."""
    return ADE20K(root)


class ADE20K:
    """Scenes and their parts; an image's id is its file's name without the ending.

    Args:
        root: the folder that holds training and validation.

    Raises:
        DatasetError: neither of the two is there.
    """

    name = "ade20k"
    splits: tuple[str, ...] = ()
    kinds: tuple[ConditionKind, ...] = ("mask",)

    def __init__(self, root: Path) -> None:
        self.root = root
        if not any((root / folder).is_dir() for folder in FOLDERS.values()):
            raise DatasetError(
                f"no ade20k dataset in {root}: {' and '.join(FOLDERS.values())} missing. Give its folder with "
                "--root DIR"
            )

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every photograph, sorted by id."""
        records: dict[str, ImageRecord] = {}
        for folder in FOLDERS.values():
            for path in sorted((self.root / folder).rglob("*.jpg")):
                if path.stem in records:
                    raise DatasetError(f"{path} and {records[path.stem].path} have one name; rename one of them")
                records[path.stem] = ImageRecord(id=path.stem, path=path, size=stored_size(path))
        if not records:
            raise DatasetError(f"no photograph (*.jpg) in {' and '.join(FOLDERS.values())} of {self.root}")
        return dict(sorted(records.items()))

    def pairs(self, split: str) -> Sequence[Pair]:
        """None: there are no keypoints.

        Raises:
            DatasetError: always.
        """
        raise no_pairs(self.name, split)

    def scheme(self, category: str) -> KeypointScheme:
        """None: there are no keypoints.

        Raises:
            DatasetError: always.
        """
        raise no_scheme(self.name, category)

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """None: a scene is no object.

        Raises:
            DatasetError: always.
        """
        record = photograph(self.images, image_id, name=self.name)
        raise DatasetError(f"{self.name}: image '{record.id}' is a scene: no object of it is told from the rest")

    def condition_spec(self, kind: ConditionKind) -> ConditionSpec:
        """What a mask is made of: labels of 151 classes.

        Raises:
            DatasetError: another kind.
        """
        require_kind(kind, self.kinds, name=self.name)
        return SPEC

    def condition(self, image_id: str, kind: ConditionKind) -> Float[np.ndarray, "c h w"]:
        """The mask of an image, or of its mirrored copy `<image>@flip`.

        Raises:
            DatasetError: no such image or kind, or its mask is missing, malformed or of another size.
        """
        require_kind(kind, self.kinds, name=self.name)
        record = photograph(self.images, image_id, name=self.name)
        path = record.path.with_suffix(".png")
        labels = fitting(read_indices(path), photograph=record.size, path=path)
        labels[labels == VOID] = LAST
        return facing(render_mask(labels, SPEC, where=path), SPEC, image_id)

    def group(self, image_id: str) -> str:
        """The image's own id.

        Raises:
            DatasetError: no such image.
        """
        return photograph(self.images, image_id, name=self.name).id

    def of_split(self, split: str) -> tuple[str, ...]:
        """The images of `training` (trn) or `validation` (val), sorted.

        Raises:
            DatasetError: another split, or an empty one.
        """
        if split not in FOLDERS:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(FOLDERS)}")
        folder = self.root / FOLDERS[split]
        found = tuple(image_id for image_id, record in self.images.items() if record.path.is_relative_to(folder))
        if not found:
            raise DatasetError(f"no photograph (*.jpg) in {folder}: split '{split}' of {self.name} is empty")
        return found

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """The exemplars of a split's images by the list beside its folders, the nearest first.

        Raises:
            DatasetError: no such split, or its list is missing or malformed.
        """
        return read_exemplar_list(self.root, self.name, split=split, images=self.of_split(split), find=self._find)

    def _find(self, name: str) -> str | None:
        image_id = PurePosixPath(name).name.removesuffix(".jpg")
        return image_id if image_id in self.images else None
