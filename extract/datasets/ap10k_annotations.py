"""What both layouts of AP-10K share; and the animals of its own annotations, one an image: who is left out, and why.

An image stays that shows one animal with three keypoints or more. Source: GeoAware-SC §6.2.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord
from matchkit.extract.datasets.annotations import Box, Fields
from matchkit.extract.datasets.coco import Entry, box, entries, keypoint_rows, size
from matchkit.extract.datasets.schemes import schemes

SPLITS = ("trn", "val", "test")
KINDS = ("species", "family", "all")
"""What the two animals of a pair share at least: a pair is of the first that fits."""
ANNOTATIONS, PHOTOS = "annotations", "data"
FILES = tuple(f"{ANNOTATIONS}/ap10k-{part}-split1.json" for part in ("train", "val", "test"))
"""All three divide the same images; the preparation merges them."""
CROWD = "ap-10k_is_crowd.txt"
KEYPOINTS = 17
LEAST = 3
"""Keypoints of an animal that is used."""


@dataclass(frozen=True, slots=True)
class Animal:
    """The animal of an image.

    Attributes:
        record: of the image, with the keypoints that can be seen.
        number: of the image.
        visibility: of all keypoints: 0, 1 or 2.
        box: around it, (xmin, ymin, xmax, ymax), image frame.
    """

    record: ImageRecord
    number: int
    visibility: UInt8[np.ndarray, " k"]
    box: Box

    @property
    def family(self) -> str:
        """The family of its species."""
        return self.record.id.split("/")[0]


@dataclass(frozen=True, slots=True)
class Animals:
    """What is read.

    Attributes:
        used: by the images' numbers, sorted.
        left_out: how many images, by the reason.
        outside: keypoints that lie outside their image, and so are taken for hidden.
        alone: how it is known that an image shows one animal.
    """

    used: Sequence[Animal]
    left_out: Mapping[str, int]
    outside: int
    alone: str


def read_animals(root: Path) -> Animals:
    """Reads the three files of annotations.

    Raises:
        DatasetError: one of them is missing or malformed, or they disagree.
    """
    files = [Fields(root / name) for name in FILES]
    images = _by_id(files, "images")
    categories = _by_id(files, "categories")
    of_image: dict[int, list[Entry]] = {}
    for annotation in (entry for file in files for entry in entries(file, "annotations")):
        for field, known in (("image_id", images), ("category_id", categories)):
            if annotation.integer(field) not in known:
                raise DatasetError(
                    f"{annotation.path}: field '{field}' names {annotation.integer(field)}: there is none"
                )
        of_image.setdefault(annotation.integer("image_id"), []).append(annotation)
    crowded = _crowd(root)
    left_out = Counter({"without an annotation": len(images.keys() - of_image.keys())})
    used, outside = [], 0
    for number, annotations in sorted(of_image.items()):
        # of several, the first by its number, since no order of a file counts
        first = min(annotations, key=lambda annotation: annotation.integer("id"))
        animal, hidden = _animal(root, images[number], categories[first.integer("category_id")], first)
        if number in crowded if crowded is not None else len(annotations) > 1:
            left_out["of several animals"] += 1
        elif len(animal.record.keypoints) < LEAST:
            left_out[f"with fewer than {LEAST} keypoints"] += 1
        else:
            used.append(animal)
            outside += hidden
    if not used:
        raise DatasetError(f"no image in {root / ANNOTATIONS} shows one animal with {LEAST} keypoints or more")
    alone = (
        f"images of {CROWD} ({len(crowded):,}) left out" if crowded is not None else "images annotated twice left out"
    )
    return Animals(used, {reason: count for reason, count in left_out.items() if count}, outside, alone)


def animal_scheme(category: str, images: Iterable[str], *, root: Path) -> KeypointScheme:
    """The scheme of a species or a family of images by their ids, or of `all`.

    Raises:
        DatasetError: there is none of that name.
    """
    if category != "all" and not any(category in image_id.split("/")[:2] for image_id in images):
        raise DatasetError(f"ap10k: category '{category}' has no flip table: it is no animal in {root}")
    return schemes("ap10k")["animal"]


def no_masks(image_id: str) -> DatasetError:
    """The error of whoever asks for a mask."""
    return DatasetError(f"ap10k has no segmentations, so none of image '{image_id}'")


def _by_id(files: Sequence[Fields], field: str) -> dict[int, Entry]:
    """The entries of all files by their ids; the files may repeat one."""
    found: dict[int, Entry] = {}
    for entry in (entry for file in files for entry in entries(file, field)):
        known = found.setdefault(entry.integer("id"), entry)
        if known.data != entry.data:
            raise DatasetError(f"{entry.path} has the id of another entry, which says otherwise: {known.path}")
    return found


def _animal(root: Path, image: Entry, category: Entry, annotation: Entry) -> tuple[Animal, int]:
    """The animal, and how many of its keypoints lie outside the image."""
    species, family, within = category.text("name"), category.text("supercategory"), size(image)
    rows = keypoint_rows(annotation)
    visibility = rows[:, 2]
    if len(rows) != KEYPOINTS or not np.isin(visibility, (0, 1, 2)).all():
        raise DatasetError(
            f"{annotation.path}: field 'keypoints' must hold {KEYPOINTS} times x, y and a visibility of 0, 1 or 2"
        )
    inside = ((rows[:, :2] >= 0) & (rows[:, :2] <= np.asarray(within))).all(axis=1)
    number = image.integer("id")
    record = ImageRecord(
        id=f"{family}/{species}/{number:012d}",
        path=root / PHOTOS / image.text("file_name"),
        size=within,
        category=species,
        keypoints={str(n): (float(rows[n, 0]), float(rows[n, 1])) for n in np.flatnonzero(inside & (visibility > 0))},
    )
    shown = np.where(inside, visibility, 0).astype(np.uint8)
    return Animal(record, number, shown, box(annotation)), int(np.sum(~inside & (visibility > 0)))


def _crowd(root: Path) -> frozenset[int] | None:
    """The images of the published list; None where it is not there."""
    path = root / CROWD
    if not path.exists():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a readable list of images: {error}") from error
    for line, text in enumerate(lines, start=1):
        if text.strip() and not (text.strip().isascii() and text.strip().isdecimal()):
            raise DatasetError(f"{path}: line {line} must be an image's number, not {text.strip()!r}")
    return frozenset(int(text) for text in lines if text.strip())
