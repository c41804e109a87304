"""The conditions of your own photographs, below their folder; `extract/datasets/folder.py` says how they are laid."""

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord
from matchkit.extract.conditions.answers import facing, is_mirrored, photograph, require_kind
from matchkit.extract.conditions.edges import drawing_spec, render_drawing
from matchkit.extract.conditions.lists import SPLIT_FILES, exemplars_of, read_table
from matchkit.extract.conditions.masks import mask_spec, render_mask
from matchkit.extract.conditions.openpose import read_json_pose, read_text_pose
from matchkit.extract.conditions.pictures import fitting, read_grey, read_indices
from matchkit.extract.conditions.pose import mirrored_joints, pose_spec, render_pose, zoom_of

FOLDER = "conditions"
CLASSES = "classes.txt"
GROUPS, SPLITS, EXEMPLARS = "groups.csv", "splits.csv", "exemplars.csv"
KINDS: tuple[ConditionKind, ...] = ("pose", "mask", "edge")
MOST_CLASSES = 256
"""A mask has 8 bits."""
Values = Float[np.ndarray, "c h w"]


class FolderConditions:
    """What lies in `conditions/` of a folder of images, and what its tables say of them.

    Args:
        root: the folder.
        images: its images by their ids.
        endings: of files that are images, for tables that name these with their endings.
        name: of the dataset, for errors.
    """

    def __init__(self, root: Path, images: Mapping[str, ImageRecord], *, endings: Collection[str], name: str) -> None:
        self.root = root
        self._images = images
        self._endings = endings
        self._name = name

    @cached_property
    def kinds(self) -> tuple[ConditionKind, ...]:
        """Those that have a folder in `conditions/`."""
        return tuple(kind for kind in KINDS if (self.root / FOLDER / kind).is_dir())

    def spec(self, kind: ConditionKind) -> ConditionSpec:
        """What the conditions of a kind are made of.

        Raises:
            DatasetError: there are none, or a mask's classes cannot be understood.
        """
        require_kind(kind, self.kinds, name=self._name)
        if kind == "mask":
            return self._mask_spec
        return pose_spec() if kind == "pose" else drawing_spec()

    def condition(self, image_id: str, kind: ConditionKind) -> Values:
        """The condition of an image, or of its mirrored copy.

        Raises:
            DatasetError: no such image or kind, or its file is missing, malformed or of another size.
        """
        spec = self.spec(kind)
        record = photograph(self._images, image_id, name=self._name)
        if kind == "pose":
            joints = self._joints(record)
            if is_mirrored(image_id):
                joints = mirrored_joints(joints, size=record.size)
            return render_pose(joints, size=record.size, zoom=zoom_of(record.size))
        path = self.root / FOLDER / kind / f"{record.id}.png"
        read = read_indices if kind == "mask" else read_grey
        picture = fitting(read(path), photograph=record.size, path=path)
        values = render_mask(picture, spec, where=path) if kind == "mask" else render_drawing(picture)
        return facing(values, spec, image_id)

    def group(self, image_id: str) -> str:
        """What `groups.csv` says that an image shows; its own id where it says nothing.

        Raises:
            DatasetError: no such image, or a malformed table.
        """
        record = photograph(self._images, image_id, name=self._name)
        return self._groups.get(record.id, record.id)

    def of_split(self, split: str) -> tuple[str, ...]:
        """The images that `splits.csv` puts into a split, in its order.

        Raises:
            DatasetError: no such split or table, or a malformed one.
        """
        found = tuple(image for image, of in self._splits.items() if of == split)
        if not found:
            known = ", ".join(dict.fromkeys(self._splits.values()))
            raise DatasetError(f"{self.root / SPLITS} has no image of split '{split}'; there are: {known}")
        return found

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """The exemplars that `exemplars.csv` has of a split's images, the nearest first.

        Raises:
            DatasetError: no such split or list, or a malformed one.
        """
        return exemplars_of(self.root / EXEMPLARS, self.of_split(split), self._find)

    @cached_property
    def _groups(self) -> Mapping[str, str]:
        path = self.root / GROUPS
        if not path.exists():
            return {}
        return read_table(path, ("image", "group"), self._find, what="it says what an image shows")

    @cached_property
    def _splits(self) -> Mapping[str, str]:
        path = self.root / SPLITS
        splits = read_table(path, ("image", "split"), self._find, what="it says which split an image is of")
        unknown = [(image, split) for image, split in splits.items() if split not in SPLIT_FILES]
        if unknown:
            image, split = unknown[0]
            raise DatasetError(
                f"{path}: the split of '{image}' must be one of {', '.join(SPLIT_FILES)}, not '{split[:60]}'"
            )
        if not splits:
            raise DatasetError(f"{path} has no image")
        return splits

    @cached_property
    def _mask_spec(self) -> ConditionSpec:
        path = self.root / FOLDER / "mask" / CLASSES
        try:
            lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{path} must hold the name of a class a line, that of label 0 first, in UTF-8: {error}"
            ) from error
        classes = [line.strip() for line in lines]
        for number, name in enumerate(classes, start=1):
            if not name:
                raise DatasetError(f"{path}: line {number} has no name: a class a line, that of label 0 first")
            if name in classes[: number - 1]:
                raise DatasetError(f"{path}: line {number} names class '{name[:60]}' again")
        if len(classes) > MOST_CLASSES:
            raise DatasetError(f"{path}: line {MOST_CLASSES + 1}: a mask of 8 bits has at most {MOST_CLASSES} classes")
        return mask_spec(classes)

    def _joints(self, record: ImageRecord) -> Float[np.ndarray, "18 2"]:
        folder = self.root / FOLDER / "pose"
        candidate, subset = (folder / f"{record.id}_{table}.txt" for table in ("candidate", "subset"))
        path = folder / f"{record.id}.json"
        if candidate.exists() or subset.exists():
            if path.exists():
                raise DatasetError(f"{path} and {candidate} are both of image '{record.id}'; take one of them away")
            return read_text_pose(candidate, subset, size=record.size)
        return read_json_pose(path, size=record.size)

    def _find(self, name: str) -> str | None:
        if name in self._images:
            return name
        path = PurePosixPath(name)
        bare = path.with_suffix("").as_posix() if path.suffix.lower() in self._endings else name
        return bare if bare in self._images else None
