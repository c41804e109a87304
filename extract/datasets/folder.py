"""Your own images: a folder of photographs and, if you like, a `pairs.csv` that says which belong together.

`pairs.csv` has the columns `source,target` and, for keypoints, one row a keypoint with
`source_x,source_y,target_x,target_y` (original pixels, pixel centres at integers), optionally `keypoint` (its name)
and `split` (default `test`). Images are named by their path below the folder without the ending, e.g. `cats/tom`.

`keypoints.yaml` may say which keypoints mirror each other (`flips: [[left_eye, right_eye]]`) and which look alike
(`groups: [[left_paw, right_paw]]`), and `masks/<image's name>.png` which pixels show the object (those not black).

Conditions, for translation from a pose, a mask or edges, lie under the image's name in `conditions/`, where no file is
taken for a photograph:

    conditions/pose/<image>.json                  what OpenPose writes of one person (BODY_18 or BODY_25), or instead
    conditions/pose/<image>_candidate.txt, conditions/pose/<image>_subset.txt
    conditions/mask/<image>.png                   at each pixel the label of its class, in 8 bits
    conditions/mask/classes.txt                   the names of the classes, a line each, that of label 0 first
    conditions/edge/<image>.png                   edges, bright on black

with what else is known of the images, by their names, in tables that may all be left out: `groups.csv`
(`image,group`: images of one group show the same thing), `splits.csv` (`image,split`: trn, val or test) and
`exemplars.csv` (`key,exemplar1,exemplar2,...`: the images from which one may be translated, the nearest first).

Sizes, conditions and keypoints are those of the upright photograph, as a viewer shows it: with its EXIF orientation
applied. One that lies on its side in its file needs a backbone with `oriented: true`.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Bool, Float

from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.poses import ENDINGS as POSED
from matchkit.core.poses import pose_of
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.in_folder import FOLDER as CONDITIONS
from matchkit.extract.conditions.in_folder import FolderConditions
from matchkit.extract.datasets.masks import read_marked
from matchkit.extract.datasets.schemes import to_scheme
from matchkit.extract.images import upright_size

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
SCHEME = "keypoints.yaml"
MASKS = "masks"
COORDINATES = ("source_x", "source_y", "target_x", "target_y")
Row = dict[str, str]


def open_folder(root: Path) -> "Folder":
    """Opens a folder of images."""
    return Folder(root)


class Folder:
    """The images below a folder and the pairs of its `pairs.csv`.

    Attributes:
        root: the folder.
        images: every image by its path below the folder without the ending, sorted.

    Raises:
        DatasetError: no such folder, no image in it, one that is none, two of one name, or a name that is kept for
            posed copies.
    """

    name = "folder"

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise DatasetError(f"{root} is not a folder. Give your images' folder with --root DIR")
        self.images: Mapping[str, ImageRecord] = _records(root)
        self._conditions = FolderConditions(root, self.images, endings=ENDINGS, name=self.name)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that `pairs.csv` names; none where there is no such file."""
        if not (self.root / "pairs.csv").exists():
            return ()
        return tuple(sorted({_split(row) for row in self._rows}))

    def pairs(self, split: str) -> Sequence[Pair]:
        """The pairs of a split, in the order of `pairs.csv`.

        Raises:
            DatasetError: no `pairs.csv`, no pair in the split, or a row that does not fit.
        """
        rows = [row for row in self._rows if _split(row) == split]
        if not rows:
            raise DatasetError(f"{self.root / 'pairs.csv'} has no pair in split '{split}'")
        groups = groupby(rows, key=lambda row: (row["source"], row["target"]))
        return [self._pair(n, source, target, list(group)) for n, ((source, target), group) in enumerate(groups)]

    def scheme(self, category: str) -> KeypointScheme:
        """What `keypoints.yaml` says of the keypoints; the one category is "".

        Raises:
            DatasetError: another category, no `keypoints.yaml`, or one that cannot be understood.
        """
        if category:
            raise DatasetError(f"{self.name}: category '{category}' has no flip table; a folder's one category is ''")
        return self._scheme

    @cached_property
    def _scheme(self) -> KeypointScheme:
        path = self.root / SCHEME
        if not path.exists():
            raise DatasetError(f"{path} is missing: it says which keypoints mirror each other")
        try:
            held = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise DatasetError(f"{path} is not a YAML file in UTF-8: {error}") from error
        return to_scheme(held, where=str(path))

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """Which pixels of an image, upright as its size is, are not black in `masks/`.

        Raises:
            DatasetError: no such image, or its mask is missing or of another size.
        """
        if image_id not in self.images:
            raise DatasetError(f"no image '{image_id}' in {self.root}")
        return read_marked(self.root / MASKS / f"{image_id}.png", size=self.images[image_id].size)

    @property
    def kinds(self) -> tuple[ConditionKind, ...]:
        """The kinds of conditions that have a folder in `conditions/`."""
        return self._conditions.kinds

    def condition_spec(self, kind: ConditionKind) -> ConditionSpec:
        """What the conditions of a kind are made of.

        Raises:
            DatasetError: there are none, or `classes.txt` cannot be understood.
        """
        return self._conditions.spec(kind)

    def condition(self, image_id: str, kind: ConditionKind) -> Float[np.ndarray, "c h w"]:
        """The condition of an image, upright as its size is, or of its mirrored copy `<image>@flip`.

        Raises:
            DatasetError: no such image or kind, or its file is missing, malformed or of another size.
        """
        return self._conditions.condition(image_id, kind)

    def group(self, image_id: str) -> str:
        """What `groups.csv` says that an image shows; its own id where it says nothing.

        Raises:
            DatasetError: no such image, or a malformed table.
        """
        return self._conditions.group(image_id)

    def of_split(self, split: str) -> tuple[str, ...]:
        """The images that `splits.csv` puts into a split, in its order.

        Raises:
            DatasetError: no such split or table, or a malformed one.
        """
        return self._conditions.of_split(split)

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """The exemplars that `exemplars.csv` has of a split's images, the nearest first.

        Raises:
            DatasetError: no such split or list, or a malformed one.
        """
        return self._conditions.exemplars(split)

    def _pair(self, number: int, source: str, target: str, rows: list[Row]) -> Pair:
        for image in (source, target):
            if image not in self.images:
                raise DatasetError(f"{self.root / 'pairs.csv'}: no image '{image}' in {self.root}")
        marked = [row for row in rows if row.get("source_x")]
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and lies outside
            points = np.asarray([self._coordinates(row) for row in marked], np.float32).reshape(-1, 4)
        for image, columns in ((source, points[:, :2]), (target, points[:, 2:])):
            if not ((columns >= 0) & (columns <= np.asarray(self.images[image].size))).all():
                raise DatasetError(f"{self.root / 'pairs.csv'}: a keypoint of '{image}' lies outside it")
        return Pair(
            id=f"{number:06d}-{source}-{target}",
            source=source,
            target=target,
            category="",
            source_points=points[:, :2],
            target_points=points[:, 2:],
            keypoint_ids=tuple(row.get("keypoint") or str(n) for n, row in enumerate(marked)),
        )

    def _coordinates(self, row: Row) -> list[float]:
        try:
            return [float(row[column]) for column in COORDINATES]
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{self.root / 'pairs.csv'}: row {row}: needs numbers in {', '.join(COORDINATES)}"
            ) from error

    @cached_property
    def _rows(self) -> list[Row]:
        path = self.root / "pairs.csv"
        if not path.exists():
            raise DatasetError(f"{path} is missing: it says which images belong together")
        try:
            # a spreadsheet writes a byte order mark
            with path.open(newline="", encoding="utf-8-sig") as file:
                # a short row has None for what it lacks, a long one a list under the key None
                rows = [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"{path} is not a CSV file in UTF-8: {error}") from error
        if not rows or not {"source", "target"} <= rows[0].keys():
            raise DatasetError(f"{path} needs the columns source,target and at least one row")
        return rows


def _split(row: Row) -> str:
    return row.get("split") or "test"


def _records(root: Path) -> dict[str, ImageRecord]:
    records: dict[str, ImageRecord] = {}
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root)
        if path.suffix.lower() not in ENDINGS or below.parts[0] in (MASKS, CONDITIONS):
            continue
        name = below.with_suffix("").as_posix()
        if name in records:
            raise DatasetError(f"{path} and {records[name].path} have one name; rename one of them")
        if (pose := pose_of(name)) != "none":
            raise DatasetError(f"{path}: the ending {POSED[pose]} is kept for posed copies; rename the file")
        records[name] = ImageRecord(id=name, path=path, size=upright_size(path))
    if not records:
        raise DatasetError(f"no image in {root} (looked for {', '.join(sorted(ENDINGS))})")
    return dict(sorted(records.items()))
