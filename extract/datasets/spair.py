"""SPair-71k and every dataset in its layout (the toy dataset among them).

    JPEGImages/<category>/<stem>.jpg              ImageAnnotation/<category>/<stem>.json
    PairAnnotation/<split>/<id>-<source>-<target>:<category>.json
    Layout/large/<split>.txt                      the pairs of a split, one name a line, in order

Source: Min et al., SPair-71k, arXiv 1908.10543. Its colons do not survive Windows and some archivers, so a pair file
is found by its letters and digits alone.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord, Pair

SPLITS = ("trn", "val", "test")
VARIATIONS = ("viewpoint_variation", "scale_variation", "truncation", "occlusion", "mirror")
Size = tuple[int, int]


def open_spair(root: Path) -> "SPair":
    """Opens an SPair-71k tree."""
    return SPair(root, name="spair")


def open_toy(root: Path) -> "SPair":
    """Opens the tree that `matchkit datasets make toy` renders; it is an SPair-71k tree."""
    return SPair(root, name="toy")


class SPair:
    """A dataset in SPair-71k's layout.

    Args:
        root: the folder that holds JPEGImages, ImageAnnotation, PairAnnotation and Layout.
        name: what the dataset is called in paths.

    Raises:
        DatasetError: one of the four folders is missing.
    """

    splits = SPLITS

    def __init__(self, root: Path, *, name: str = "spair") -> None:
        self.name = name
        self.root = root
        missing = [x for x in ("JPEGImages", "ImageAnnotation", "PairAnnotation", "Layout") if not (root / x).is_dir()]
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
        """The pairs of `trn`, `val` or `test` in the order of the split's layout file.

        Raises:
            DatasetError: an unknown or empty split, or an annotation that is missing or malformed.
        """
        if split not in self.splits:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")
        layout = self.root / "Layout" / "large" / f"{split}.txt"
        if not layout.exists():
            raise DatasetError(f"{layout} is missing: it lists the pairs of split '{split}'")
        names = [line.strip() for line in layout.read_text().splitlines() if line.strip()]
        if not names:
            raise DatasetError(f"{layout} lists no pairs: split '{split}' of {self.name} is empty")
        files = _PairFiles(self.root / "PairAnnotation" / split)
        return [_pair(name, files.find(name), self.images) for name in names]


class _PairFiles:
    """The pair annotations of one folder, found by name whatever became of the colon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path:
        path = self.folder / f"{name}.json"
        if path.exists():
            return path
        # NTFS cuts a name off at the colon, so the part before it is looked up too
        for key in (_letters(name), _letters(name.partition(":")[0])):
            if key in self._by_letters:
                return self._by_letters[key]
        raise DatasetError(f"{path} is missing: no annotation for pair '{name}'")

    @cached_property
    def _by_letters(self) -> dict[str, Path]:
        if not self.folder.is_dir():
            return {}
        return {_letters(path.name.removesuffix(".json")): path for path in sorted(self.folder.iterdir())}


def _letters(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _image_record(root: Path, path: Path) -> ImageRecord:
    fields = _Fields(path)
    category, stem = path.parent.name, path.stem
    file = root / "JPEGImages" / category / fields.text("filename")
    azimuth = fields.data.get("azimuth_id")
    return ImageRecord(
        id=f"{category}/{stem}",
        path=file,
        size=(fields.integer("image_width"), fields.integer("image_height")),
        category=category,
        azimuth=azimuth if isinstance(azimuth, int) else None,
    )


def _pair(name: str, path: Path, images: Mapping[str, ImageRecord]) -> Pair:
    fields = _Fields(path)
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


class _Fields:
    """An annotation file whose every complaint names the file and the field."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} is not a readable JSON annotation: {error}") from error
        if not isinstance(self.data, dict):
            raise DatasetError(f"{path} must hold a JSON object, not {type(self.data).__name__}")

    def _value(self, field: str) -> object:
        if field not in self.data:
            raise DatasetError(f"{self.path}: field '{field}' is missing")
        return self.data[field]

    def text(self, field: str) -> str:
        value = self._value(field)
        if not isinstance(value, str) or not value or "/" in value or "\\" in value:
            raise DatasetError(f"{self.path}: field '{field}' must be a plain name, not {value!r}")
        return value

    def integer(self, field: str) -> int:
        value = self._value(field)
        if not isinstance(value, int) or isinstance(value, bool):
            raise DatasetError(f"{self.path}: field '{field}' must be an integer, not {value!r}")
        return value

    def _numbers(self, field: str, value: object, *, width: int) -> Float[np.ndarray, "n w"]:
        try:
            array = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{self.path}: field '{field}' must hold numbers, not {value!r}") from error
        if array.ndim != 2 or array.shape[1] != width or not np.isfinite(array).all():
            raise DatasetError(f"{self.path}: field '{field}' must hold rows of {width} numbers, not {value!r}")
        return array

    def points(self, field: str, *, within: Size) -> Float[np.ndarray, "n 2"]:
        """Keypoints (x, y) in an image of (width, height) pixels; VOC counts from 1, so the size itself passes."""
        value = self._value(field)
        points = np.zeros((0, 2), np.float32) if value == [] else self._numbers(field, value, width=2)
        outside = (points < 0).any(axis=1) | (points > np.asarray(within)).any(axis=1)
        if outside.any():
            n = int(np.flatnonzero(outside)[0])
            x, y = points[n]
            raise DatasetError(
                f"{self.path}: field '{field}': keypoint {n} at ({x:g}, {y:g}) lies outside "
                f"the image of {within[0]} x {within[1]} pixels"
            )
        return points

    def box(self, field: str) -> tuple[float, float, float, float]:
        xmin, ymin, xmax, ymax = (float(x) for x in self._numbers(field, [self._value(field)], width=4)[0])
        if xmax <= xmin or ymax <= ymin:
            raise DatasetError(f"{self.path}: field '{field}' is an empty box: {self.data[field]}")
        return xmin, ymin, xmax, ymax
