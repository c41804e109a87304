"""PF-PASCAL: pairs of photographs of 20 classes, with the keypoints of PASCAL's annotators.

    PF-dataset-PASCAL/JPEGImages/<stem>.jpg
    PF-dataset-PASCAL/Annotations/<class>/<stem>.mat          `kps` (n x 2, NaN where not seen), `bbox` (xyxy)
    {trn,val,test}_pairs_pf_pascal.csv                        the pairs of a split, in order

A list has the columns `source_image,target_image,class` (1 to 20), for training `flip`, and sometimes points that the
annotations hold as well. It lies in the root or in PF-dataset-PASCAL, and may be called `train_pairs_...` or, as
several loaders have it, `trn_pairs.csv` or `train_pairs.csv`. The root may be PF-dataset-PASCAL itself.

Source: Ham et al., Proposal Flow, arXiv 1703.07144; the split: Han et al., SCNet, arXiv 1705.04043; SD4Match §4.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.lists import read_rows
from matchkit.extract.conditions.pictures import stored_size
from matchkit.extract.datasets.annotations import Box
from matchkit.extract.datasets.matlab import read_matrices
from matchkit.extract.datasets.proposal_flow import find_list, named_parts, require_near, unpacked
from matchkit.extract.datasets.spair import VOC

FOLDER = "PF-dataset-PASCAL"
SPLITS = {"trn": ("trn", "train"), "val": ("val",), "test": ("test",)}
"""By what names the lists of a split go."""
COLUMNS = ("source_image", "target_image", "class")
FLIP = "flip"


def open_pf_pascal(root: Path) -> "PFPascal":
    """Opens a PF-PASCAL tree."""
    return PFPascal(root)


@dataclass(frozen=True, slots=True)
class _Annotation:
    """An image with its keypoints, NaN where they are not seen, and its box."""

    record: ImageRecord
    points: Float[np.ndarray, "n 2"]
    box: Box


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a list: two images of a category, and whether both are mirrored."""

    source: str
    target: str
    category: str
    flipped: bool


class PFPascal:
    """A PF-PASCAL tree; its benchmark scores by the image's longer edge, and there are boxes too.

    Args:
        root: the folder that holds PF-dataset-PASCAL and the lists of pairs.

    Raises:
        DatasetError: the photographs, the annotations, or all lists are missing.
    """

    name = "pf-pascal"

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = unpacked(root, FOLDER)
        missing = [folder for folder in ("JPEGImages", "Annotations") if not (self._folder / folder).is_dir()]
        if missing:
            raise DatasetError(
                f"no pf-pascal dataset in {root}: {', '.join(missing)} missing. Give the folder that holds {FOLDER} "
                "with --root DIR"
            )
        if not self._lists:
            raise DatasetError(
                f"{root} holds no list of pairs: put {', '.join(f'{split}_pairs_pf_pascal.csv' for split in SPLITS)} "
                "beside the photographs' folder"
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that have a list."""
        return tuple(self._lists)

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every annotated image by its id `<class>/<stem>`, sorted; one of two classes is two.

        Sizes are read from the photographs' headers.
        """
        return {image_id: annotation.record for image_id, annotation in self._annotations.items()}

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of a split in the order of its list; their keypoints are those that both images show.

        A row of `flip` 1 is a pair with both images mirrored. Where the pair itself stands in the list too, such a row
        is left out (a fit that wants it mirrors by itself); where it does not, the row is taken as it is unmirrored.

        Raises:
            DatasetError: an unknown split, or a list or an annotation that is missing or malformed.
        """
        if split not in self._lists:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(self.splits)}")
        rows = self._rows(self._lists[split])
        plain = {(row.source, row.target) for row in rows if not row.flipped}
        kept = [row for row in rows if not (row.flipped and (row.source, row.target) in plain)]
        return [self._pair(number, row) for number, row in enumerate(kept, start=1)]

    def scheme(self, category: str) -> KeypointScheme:
        """None: the annotations number keypoints and do not name them.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(
            f"{self.name}: category '{category}' has no flip table: its annotations do not say which keypoint is what"
        )

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """PF-PASCAL has no segmentations.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self.name} has no segmentations, so none of image '{image_id}'")

    @cached_property
    def _lists(self) -> Mapping[str, Path]:
        endings = ("_pairs_pf_pascal.csv", "_pairs.csv")
        folders = tuple(dict.fromkeys((self.root, self._folder)))
        found = {
            split: find_list(folders, [f"{name}{ending}" for ending in endings for name in names])
            for split, names in SPLITS.items()
        }
        return {split: path for split, path in found.items() if path}

    @cached_property
    def _annotations(self) -> Mapping[str, _Annotation]:
        files = sorted((self._folder / "Annotations").glob("[!.]*/[!.]*.mat"))
        if not files:
            raise DatasetError(f"no annotations (<class>/*.mat) in {self._folder / 'Annotations'}")
        read = (_annotation(self._folder, path) for path in files)
        return dict(sorted((annotation.record.id, annotation) for annotation in read))

    def _rows(self, path: Path) -> Sequence[_Row]:
        header, *lines = read_rows(path, what="it lists the pairs of a split")
        columns = header[1]
        absent = [column for column in COLUMNS if column not in columns]
        if absent:
            raise DatasetError(f"{path}: line {header[0]} must name the columns {', '.join(COLUMNS)}")
        if not lines:
            raise DatasetError(f"{path} lists no pairs")
        return [self._row(dict(zip(columns, line, strict=False)), f"{path}: line {number}") for number, line in lines]

    def _row(self, fields: Mapping[str, str], where: str) -> _Row:
        label, flip = fields.get("class", ""), fields.get(FLIP, "0")
        if not (label.isascii() and label.isdecimal() and len(label) < 3 and 1 <= int(label) <= len(VOC)):
            raise DatasetError(f"{where}: class must be a number from 1 to {len(VOC)}, not '{label[:40]}'")
        if flip not in ("0", "1"):
            raise DatasetError(f"{where}: {FLIP} must be 0 or 1, not '{flip[:40]}'")
        category = VOC[int(label) - 1]
        source, target = ("/".join((category, *named_parts(fields.get(column, ""), 1))) for column in COLUMNS[:2])
        for column, image in zip(COLUMNS[:2], (source, target), strict=True):
            if image not in self._annotations:
                raise DatasetError(f"{where}: {column} names image '{image[:200]}', which has no annotation")
        return _Row(source, target, category, flipped=flip == "1")

    def _pair(self, number: int, row: _Row) -> Pair:
        source, target = self._annotations[row.source], self._annotations[row.target]
        if len(source.points) != len(target.points):
            raise DatasetError(
                f"{self.name}: images '{row.source}' and '{row.target}' of one pair have {len(source.points)} and "
                f"{len(target.points)} keypoints in {self._folder / 'Annotations'}"
            )
        shown = np.isfinite(source.points).all(axis=1) & np.isfinite(target.points).all(axis=1)
        stems = (image.partition("/")[2] for image in (row.source, row.target))
        return Pair(
            id=f"{number:06d}-{'-'.join(stems)}:{row.category}",
            source=row.source,
            target=row.target,
            category=row.category,
            source_points=source.points[shown],
            target_points=target.points[shown],
            keypoint_ids=tuple(map(str, np.flatnonzero(shown))),
            source_box=source.box,
            target_box=target.box,
        )


def _annotation(folder: Path, path: Path) -> _Annotation:
    category, stem = path.parent.name, path.stem
    photo = folder / "JPEGImages" / f"{stem}.jpg"
    size = stored_size(photo)
    held = read_matrices(path, ("kps", "bbox"))
    points, boxes = held["kps"], held["bbox"]
    if points.shape[1] != 2:
        raise DatasetError(f"{path}: field 'kps' must hold rows of 2 numbers, not of {points.shape[1]}")
    if boxes.shape[1] != 4 or not len(boxes) or not np.isfinite(boxes[0]).all():
        raise DatasetError(f"{path}: field 'bbox' must hold rows of 4 numbers, not {boxes.tolist()!r:.80}")
    xmin, ymin, xmax, ymax = map(float, boxes[0])
    if xmax <= xmin or ymax <= ymin:
        raise DatasetError(f"{path}: field 'bbox' is an empty box: {boxes[0].tolist()}")
    seen = ~np.isnan(points).any(axis=1)
    near = np.full(points.shape, np.nan, np.float32)
    near[seen] = require_near(points[seen], size=size, where=f"{path}: field 'kps'")
    record = ImageRecord(
        id=f"{category}/{stem}",
        path=photo,
        size=size,
        category=category,
        keypoints={str(n): (float(near[n, 0]), float(near[n, 1])) for n in np.flatnonzero(seen)},
    )
    return _Annotation(record, near, (xmin, ymin, xmax, ymax))
