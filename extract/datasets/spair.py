"""SPair-71k and every dataset in its layout (the toy dataset and SPair-U among them).

    JPEGImages/<category>/<stem>.jpg              ImageAnnotation/<category>/<stem>.json
    PairAnnotation/<split>/<id>-<source>-<target>:<category>.json
    Layout/large/<split>.txt                      the pairs of a split, one name a line, in order
    Segmentation/<category>/<stem>.png            classes' indices at each pixel; read by `mask` alone

Source: Min et al., SPair-71k, arXiv 1908.10543. Its colons do not survive Windows and some archivers, so a pair file
is found by its letters and digits alone. SPair-U: Mariotti et al., Jamais Vu, arXiv 2506.08220.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.datasets.annotations import Fields, PairFiles
from matchkit.extract.datasets.masks import read_class
from matchkit.extract.datasets.schemes import schemes

SPLITS = ("trn", "val", "test")
VARIATIONS = ("viewpoint_variation", "scale_variation", "truncation", "occlusion", "mirror")
LONGEST = 200
"""Characters of a pair's name: a disk takes no names much longer than this."""
VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""PASCAL VOC's classes; class `VOC[i]` is the value i + 1 of a segmentation."""


def open_spair(root: Path) -> "SPair":
    """Opens an SPair-71k tree."""
    return SPair(root, name="spair", schemes=schemes("spair"), classes=VOC)


def open_toy(root: Path) -> "SPair":
    """Opens the tree that `matchkit datasets make toy` renders; it is an SPair-71k tree."""
    from matchkit.extract.datasets.toy.keypoints import CATEGORIES, SCHEMES

    return SPair(root, name="toy", schemes=SCHEMES, classes=CATEGORIES)


def open_spair_u(root: Path) -> "SPair":
    """Opens an SPair-U tree: SPair-71k's test pairs with keypoints that its training pairs do not have.

    The archive holds ImageAnnotation and PairAnnotation; JPEGImages is SPair-71k's own, or a link to it. The pairs are
    those of PairAnnotation/test, in the order of their names, which is SPair-71k's: its Layout may be linked and lists
    all of its pairs. Nothing tells which of the new keypoints mirror each other.
    """
    return SPair(root, name="spair-u", schemes={}, classes=VOC, splits=("test",), listed=False)


class SPair:
    """A dataset in SPair-71k's layout.

    Args:
        root: the folder that holds JPEGImages, ImageAnnotation, PairAnnotation and Layout.
        name: what the dataset is called in paths.
        schemes: of its keypoints, by category.
        classes: of its segmentations, by their value less 1.
        splits: those that it has pairs of.
        listed: whether Layout lists the pairs of a split; otherwise they are all that PairAnnotation holds.

    Raises:
        DatasetError: one of the folders is missing.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str,
        schemes: Mapping[str, KeypointScheme],
        classes: Sequence[str],
        splits: tuple[str, ...] = SPLITS,
        listed: bool = True,
    ) -> None:
        self.name = name
        self.splits = splits
        self._listed = listed
        self._schemes = schemes
        self._classes = tuple(classes)
        self.root = root
        folders = ("JPEGImages", "ImageAnnotation", "PairAnnotation", *(("Layout",) if listed else ()))
        missing = [folder for folder in folders if not (root / folder).is_dir()]
        if missing:
            remedy = "Run: matchkit datasets make toy" if name == "toy" else "Give its folder with --root DIR"
            raise DatasetError(f"no {name} dataset in {root}: {', '.join(missing)} missing. {remedy}")

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every annotated image by its id `<category>/<stem>`, sorted."""
        files = sorted(self.root.glob("ImageAnnotation/*/*.json"))
        if not files:
            raise DatasetError(f"no image annotations in {self.root / 'ImageAnnotation'}")
        records = [_image_record(self.root, path) for path in files]
        return {record.id: record for record in sorted(records, key=lambda record: record.id)}

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of a split in the order of its layout file, or of their names where no layout lists them.

        Raises:
            DatasetError: an unknown or empty split, or an annotation that is missing or malformed.
        """
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")
        folder = self.root / "PairAnnotation" / split
        if not self._listed:
            paths = sorted(path for path in folder.glob("[!.]*") if path.is_file())
            if not paths:
                raise DatasetError(f"{folder} holds no pairs: split '{split}' of {self.name} is empty")
            return [_pair(_name(path), path, self.images) for path in paths]
        files = PairFiles(folder)
        return [_pair(name, files.find(name), self.images) for name in self._names(split)]

    def _names(self, split: str) -> Sequence[str]:
        layout = self.root / "Layout" / "large" / f"{split}.txt"
        try:
            names = [line.strip() for line in layout.read_text(encoding="utf-8").splitlines() if line.strip()]
        except FileNotFoundError as error:
            raise DatasetError(f"{layout} is missing: it lists the pairs of split '{split}'") from error
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{layout} is not a list in UTF-8: {error}") from error
        if not names:
            raise DatasetError(f"{layout} lists no pairs: split '{split}' of {self.name} is empty")
        for name in names:
            if len(name) > LONGEST or any(character in name for character in "/\\\0"):
                raise DatasetError(f"{layout} names '{name[:LONGEST]}', which is no pair's name")
        return names

    def scheme(self, category: str) -> KeypointScheme:
        """Which of a category's keypoints mirror each other, and which look alike.

        Raises:
            DatasetError: the category has no flip table.
        """
        if category not in self._schemes:
            known = ", ".join(self._schemes) or "none"
            raise DatasetError(f"{self.name}: category '{category}' has no flip table; those that have one: {known}")
        return self._schemes[category]

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """Which pixels of an image show an object of its category; all objects, where the segmentation says no class.

        Raises:
            DatasetError: no such image, or its segmentation is missing or of another size.
        """
        if image_id not in self.images:
            raise DatasetError(f"{self.name} has no image '{image_id}' in {self.root}")
        image = self.images[image_id]
        label = self._classes.index(image.category) + 1 if image.category in self._classes else None
        return read_class(self.root / "Segmentation" / f"{image_id}.png", size=image.size, label=label)


def _name(path: Path) -> str:
    """What a list would call the pair of a file, whatever became of its colon."""
    fields = Fields(path)
    source, target = (Path(fields.text(field)).stem for field in ("src_imname", "trg_imname"))
    return f"{path.name.partition('-')[0]}-{source}-{target}:{fields.text('category')}"


def _image_record(root: Path, path: Path) -> ImageRecord:
    fields = Fields(path)
    category, stem = path.parent.name, path.stem
    size = (fields.integer("image_width"), fields.integer("image_height"))
    file = root / "JPEGImages" / category / fields.text("filename")
    azimuth = fields.data.get("azimuth_id")
    return ImageRecord(
        id=f"{category}/{stem}",
        path=file,
        size=size,
        category=category,
        azimuth=azimuth if isinstance(azimuth, int) else None,
        keypoints=fields.keypoints("kps", within=size),
    )


def _pair(name: str, path: Path, images: Mapping[str, ImageRecord]) -> Pair:
    fields = Fields(path)
    category = fields.text("category")
    source = f"{category}/{Path(fields.text('src_imname')).stem}"
    target = f"{category}/{Path(fields.text('trg_imname')).stem}"
    for image, field in ((source, "src_imname"), (target, "trg_imname")):
        if image not in images:
            raise DatasetError(f"{path}: {field} names image '{image}', which has no ImageAnnotation")
    source_points = fields.points("src_kps", within=images[source].size)
    target_points = fields.points("trg_kps", within=images[target].size)
    ids = fields.data.get("kps_ids", [str(n) for n in range(len(source_points))])
    if not (isinstance(ids, list) and len(ids) == len(source_points) == len(target_points)):
        raise DatasetError(f"{path}: src_kps, trg_kps and kps_ids must be lists of one length")
    return Pair(
        id=name,
        source=source,
        target=target,
        category=category,
        source_points=source_points,
        target_points=target_points,
        keypoint_ids=tuple(str(name) for name in ids),
        source_box=fields.box("src_bndbox"),
        target_box=fields.box("trg_bndbox"),
        variations={name: fields.integer(name) for name in VARIATIONS if name in fields.data},
    )
