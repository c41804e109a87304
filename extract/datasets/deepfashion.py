r"""DeepFashion's In-shop Clothes Retrieval benchmark, with the poses that OpenPose finds.

    img/<gender>/<kind>/id_<garment>/<colour>_<number>_<view>.jpg
    pose/<the same path>_candidate.txt, pose/<the same path>_subset.txt
    train.txt, val.txt, test.txt (may be missing)               a split's images, `img\WOMEN\...\01_1_front.jpg` a line
    deepfashion_ref.txt, deepfashion_ref_test.txt (may be missing)         exemplars of trn, and of the other splits
    deepfashion_self_pair.txt (may be missing)                  other photographs of the same garment

An image's id is its path below img without the ending. Source: CoCosNet §4.1 and §4.2; Liu et al., DeepFashion, CVPR
2016. The photographs are for non-commercial research.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.answers import is_mirrored, no_pairs, no_scheme, photograph, require_kind
from matchkit.extract.conditions.lists import read_exemplar_list, read_exemplars, read_split
from matchkit.extract.conditions.openpose import read_text_pose
from matchkit.extract.conditions.pictures import stored_size
from matchkit.extract.conditions.pose import mirrored_joints, pose_spec, render_pose, zoom_of

PHOTOS, POSES = "img", "pose"
SELF_PAIRS = "deepfashion_self_pair.txt"
SPEC = pose_spec()


def open_deepfashion(root: Path) -> "DeepFashion":
    """Opens a DeepFashion tree."""
    return DeepFashion(root)


class DeepFashion:
    """People in clothes, and their poses.

    Args:
        root: the folder that holds img and pose.

    Raises:
        DatasetError: one of the two is missing.
    """

    name = "deepfashion"
    splits: tuple[str, ...] = ()
    kinds: tuple[ConditionKind, ...] = ("pose",)

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [folder for folder in (PHOTOS, POSES) if not (root / folder).is_dir()]
        if missing:
            raise DatasetError(
                f"no deepfashion dataset in {root}: {', '.join(missing)} missing. Give its folder with --root DIR"
            )

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every photograph, sorted by id."""
        photos = self.root / PHOTOS
        records = {}
        for path in sorted(photos.rglob("*.jpg")):
            image_id = path.relative_to(photos).with_suffix("").as_posix()
            records[image_id] = ImageRecord(id=image_id, path=path, size=stored_size(path))
        if not records:
            raise DatasetError(f"no photograph (*.jpg) in {photos}")
        return dict(sorted(records.items()))

    def pairs(self, split: str) -> Sequence[Pair]:
        """None: there are no pairs with keypoints.

        Raises:
            DatasetError: always.
        """
        raise no_pairs(self.name, split)

    def scheme(self, category: str) -> KeypointScheme:
        """None: there are no pairs with keypoints.

        Raises:
            DatasetError: always.
        """
        raise no_scheme(self.name, category)

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """None: the tree holds no segmentations.

        Raises:
            DatasetError: always.
        """
        record = photograph(self.images, image_id, name=self.name)
        raise DatasetError(f"{self.name} has no segmentation of image '{record.id}'")

    def condition_spec(self, kind: ConditionKind) -> ConditionSpec:
        """What a pose is made of: the picture of the skeleton and 17 distances.

        Raises:
            DatasetError: another kind.
        """
        require_kind(kind, self.kinds, name=self.name)
        return SPEC

    def joints(self, image_id: str) -> Float[np.ndarray, "18 2"]:
        """OpenPose's 18 joints (x, y) of an image, or of its mirrored copy, in its image frame; NaN where not found.

        Raises:
            DatasetError: no such image, or its pose is missing, malformed, or of no or several people.
        """
        record = photograph(self.images, image_id, name=self.name)
        candidate, subset = (self.root / POSES / f"{record.id}_{table}.txt" for table in ("candidate", "subset"))
        joints = read_text_pose(candidate, subset, size=record.size)
        return mirrored_joints(joints, size=record.size) if is_mirrored(image_id) else joints

    def condition(self, image_id: str, kind: ConditionKind) -> Float[np.ndarray, "c h w"]:
        """The pose of an image, or of its mirrored copy `<image>@flip`, drawn to its scale.

        Raises:
            DatasetError: no such image or kind, or its pose is missing, malformed, or of no or several people.
        """
        require_kind(kind, self.kinds, name=self.name)
        size = photograph(self.images, image_id, name=self.name).size
        return render_pose(self.joints(image_id), size=size, zoom=zoom_of(size))

    def group(self, image_id: str) -> str:
        """The garment in its colour: `<gender>/<kind>/id_<garment>/<colour>`; in another colour it is another one.

        Raises:
            DatasetError: no such image.
        """
        image = photograph(self.images, image_id, name=self.name).id
        folder, _, name = image.rpartition("/")
        colour, separator, _ = name.partition("_")
        return f"{folder}/{colour}" if folder and separator else image

    def of_split(self, split: str) -> tuple[str, ...]:
        """The images that the split's file lists, in its order.

        Raises:
            DatasetError: an unknown or empty split, or its file is missing or malformed.
        """
        return read_split(self.root, split, self._find, name=self.name)

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """The exemplars of a split's images by the list in the root, the nearest first.

        Raises:
            DatasetError: no such split, or its list is missing or malformed.
        """
        return read_exemplar_list(self.root, self.name, split=split, images=self.of_split(split), find=self._find)

    def self_pairs(self) -> Mapping[str, tuple[str, ...]]:
        """The images with other photographs of the same garment, as the published list has them.

        Raises:
            DatasetError: the list is missing or malformed, or pairs two garments.
        """
        path = self.root / SELF_PAIRS
        held = read_exemplars(path, self._find)
        for image, others in held.items():
            for other in others:
                if self.group(other) != self.group(image):
                    raise DatasetError(f"{path}: the line of '{image}' names '{other}', which is another garment")
        return held

    def _find(self, name: str) -> str | None:
        image_id = name.removeprefix(f"{PHOTOS}/").removesuffix(".jpg")
        return image_id if image_id in self.images else None
