"""Toy objects, each photographed several times; their poses, parts and edges; and the truth between two pictures.

    JPEGImages/<category>/<stem>.jpg      Parts/<category>/<stem>.png      Edges/<category>/<stem>.png
    Joints/<category>/<stem>.json         toy-views.json: the settings that made it

It is the tree that `matchkit datasets make toy-views` renders. A stem is `<split>_<object>_<view>`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.keypoints import KeypointScheme
from matchkit.core.params import build
from matchkit.core.records import ImageRecord, Pair
from matchkit.extract.conditions.answers import facing, is_mirrored, no_pairs, photograph, require_kind
from matchkit.extract.conditions.distances import FAR
from matchkit.extract.conditions.edges import drawing_spec, render_drawing
from matchkit.extract.conditions.masks import mask_spec, render_mask
from matchkit.extract.conditions.pictures import fitting, read_grey, read_indices
from matchkit.extract.conditions.pose import PICTURE, mirrored_joints, render_pose, zoom_of
from matchkit.extract.conditions.skeletons import Skeleton
from matchkit.extract.datasets.annotations import Fields
from matchkit.extract.datasets.toy.keypoints import KEYPOINT_NAMES, SCHEMES, SPLIT_NAMES
from matchkit.extract.datasets.toy.part_names import CLASSES, LIMBS, PARTS
from matchkit.extract.datasets.toy.truth import correspondences, dressed
from matchkit.extract.datasets.toy.views import ViewSettings, parse_id, take, view_ids
from matchkit.extract.datasets.toy.write_views import FOLDERS, NOTE

MAKE = "Run: matchkit datasets make toy-views"
SKELETONS: Mapping[str, Skeleton] = {
    category: Skeleton(
        joints=KEYPOINT_NAMES[category],
        limbs=tuple(
            (KEYPOINT_NAMES[category].index(one), KEYPOINT_NAMES[category].index(other)) for one, other in limbs
        ),
    )
    for category, limbs in LIMBS.items()
}
LIMB_CHANNELS: tuple[str, ...] = tuple(
    f"{category}/{limb}" for category, skeleton in SKELETONS.items() for limb in skeleton.limb_names
)
"""The limbs of all categories together; an image has those of its own, the others are far from everywhere."""
SPECS: Mapping[ConditionKind, ConditionSpec] = {
    "pose": ConditionSpec(
        kind="pose",
        channels=(*PICTURE, *LIMB_CHANNELS),
        smooth=(*[False] * len(PICTURE), *[True] * len(LIMB_CHANNELS)),
        outside=(*[0.0] * len(PICTURE), *[FAR] * len(LIMB_CHANNELS)),
    ),
    "mask": mask_spec(CLASSES),
    "edge": drawing_spec(),
}


@dataclass(frozen=True, slots=True)
class ViewTruth:
    """What is known of a target and its exemplar.

    Attributes:
        flow: where the exemplar shows what each pixel of the target sees, as (x, y) in the exemplar's image frame; NaN
            where the target sees no object, the exemplar does not show the point, or there is no truth.
        picture: the target's object from the target's camera in the exemplar's paint, light and surroundings; red green
            blue, 0 to 255: what a translation should give.
    """

    flow: Float32[np.ndarray, "h w 2"]
    picture: UInt8[np.ndarray, "h w 3"]


def open_toy_views(root: Path) -> "ToyViews":
    """Opens the tree that `matchkit datasets make toy-views` renders."""
    return ToyViews(root)


class ToyViews:
    """Toy objects photographed several times, with conditions and the truth.

    Args:
        root: the folder that holds toy-views.json and what it made.

    Raises:
        DatasetError: something of it is missing, or the note was written by another revision of matchkit.
    """

    name = "toy-views"
    splits: tuple[str, ...] = ()
    kinds: tuple[ConditionKind, ...] = ("pose", "mask", "edge")

    def __init__(self, root: Path) -> None:
        self.root = root
        missing = [name for name in (NOTE, *FOLDERS) if not (root / name).exists()]
        if missing:
            raise DatasetError(f"no {self.name} dataset in {root}: {', '.join(missing)} missing. {MAKE}")
        self.settings = _read_settings(root / NOTE)

    @cached_property
    def images(self) -> Mapping[str, ImageRecord]:
        """Every picture by its id `<category>/<split>_<object>_<view>`, sorted; with the keypoints that can be seen."""
        ids = sorted(str(image) for split in SPLIT_NAMES for image in view_ids(self.settings, split))
        return {image_id: self._record(image_id) for image_id in ids}

    def pairs(self, split: str) -> Sequence[Pair]:
        """None: pictures are matched by their conditions, and `truth` says what is right.

        Raises:
            DatasetError: always.
        """
        raise no_pairs(self.name, split)

    def scheme(self, category: str) -> KeypointScheme:
        """Which of a category's keypoints mirror each other, and which look alike.

        Raises:
            DatasetError: no such category.
        """
        if category not in PARTS:
            known = ", ".join(PARTS)
            raise DatasetError(f"{self.name}: category '{category}' has no flip table; those that have one: {known}")
        return SCHEMES[category]

    def labels(self, image_id: str) -> UInt8[np.ndarray, "h w"]:
        """The label in `CLASSES` of the part that each pixel sees, 0 where none; of a mirrored copy its own sides.

        Raises:
            DatasetError: no such image, or its labels are missing, malformed or of another size.
        """
        return np.asarray(self.condition(image_id, "mask")[0], np.uint8)

    def mask(self, image_id: str) -> Bool[np.ndarray, "h w"]:
        """Which pixels show the object.

        Raises:
            DatasetError: no such image, or its labels are missing, malformed or of another size.
        """
        return np.asarray(self.labels(image_id) != CLASSES.index("background"))

    def condition_spec(self, kind: ConditionKind) -> ConditionSpec:
        """What a pose (a picture of the skeleton, a distance a limb), a mask of parts, or edges are made of.

        Raises:
            DatasetError: another kind.
        """
        require_kind(kind, self.kinds, name=self.name)
        return SPECS[kind]

    def condition(self, image_id: str, kind: ConditionKind) -> Float[np.ndarray, "c h w"]:
        """The condition of an image, or of its mirrored copy `<image>@flip`.

        Raises:
            DatasetError: no such image or kind, or its file is missing, malformed or of another size.
        """
        require_kind(kind, self.kinds, name=self.name)
        record = photograph(self.images, image_id, name=self.name)
        if kind == "pose":
            return self._pose(image_id, record)
        path = self.root / ("Parts" if kind == "mask" else "Edges") / f"{record.id}.png"
        if kind == "mask":
            labels = fitting(read_indices(path), photograph=record.size, path=path)
            return facing(render_mask(labels, SPECS[kind], where=path), SPECS[kind], image_id)
        edges = fitting(read_grey(path), photograph=record.size, path=path)
        return facing(render_drawing(edges), SPECS[kind], image_id)

    def group(self, image_id: str) -> str:
        """The object: `<category>/<split>_<object>`.

        Raises:
            DatasetError: no such image.
        """
        return parse_id(photograph(self.images, image_id, name=self.name).id).group

    def of_split(self, split: str) -> tuple[str, ...]:
        """The ids of the images of `trn`, `val` or `test`, sorted.

        Raises:
            DatasetError: an unknown or empty split.
        """
        if split not in SPLIT_NAMES:
            raise DatasetError(f"{self.name} has no split '{split}'; there are: {', '.join(SPLIT_NAMES)}")
        found = tuple(sorted(str(image) for image in view_ids(self.settings, split)))
        if not found:
            raise DatasetError(f"split '{split}' of {self.name} in {self.root} is empty: {NOTE} asks for no objects")
        return found

    def exemplars(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """None: they are found by similarity.

        Raises:
            DatasetError: always.
        """
        self.of_split(split)
        raise DatasetError(f"{self.root} holds no list of exemplars of split '{split}'. Run: matchkit pairs")

    def truth(self, target: str, exemplar: str) -> ViewTruth:
        """Renders what is known of two pictures; both are taken again for it.

        Raises:
            DatasetError: no such images, images of two categories, or embreex is not installed.
        """
        for image_id in (target, exemplar):
            if image_id not in self.images:
                raise DatasetError(f"{self.name} has no image '{image_id}' in {self.root}")
        first, second = (take(self.settings, parse_id(image_id)) for image_id in (target, exemplar))
        return ViewTruth(flow=correspondences(first, second), picture=dressed(first, second).image)

    def _record(self, image_id: str) -> ImageRecord:
        category = parse_id(image_id).category
        fields = Fields(self._joints_path(image_id))
        points = np.clip(self._joints(fields, category), 0, self.settings.size - 1)  # a seen one is out by half a pixel
        names, seen = KEYPOINT_NAMES[category], fields.value("visible")
        if not isinstance(seen, list) or not set(map(str, seen)) <= set(names):
            raise DatasetError(f"{fields.path}: field 'visible' must list keypoints of a {category}, not {seen!r}")
        return ImageRecord(
            id=image_id,
            path=self.root / "JPEGImages" / f"{image_id}.jpg",
            size=(self.settings.size, self.settings.size),
            category=category,
            azimuth=fields.integer("azimuth_id"),
            keypoints={
                str(n): (float(points[n, 0]), float(points[n, 1])) for n, name in enumerate(names) if name in seen
            },
        )

    def _joints_path(self, image_id: str) -> Path:
        return self.root / "Joints" / f"{image_id}.json"

    def _joints(self, fields: Fields, category: str) -> Float[np.ndarray, "k 2"]:
        """All keypoints (x, y) in the order of their names, image frame."""
        held: Any = fields.value("joints")
        names = KEYPOINT_NAMES[category]
        if not isinstance(held, dict) or tuple(held) != names:
            raise DatasetError(f"{fields.path}: field 'joints' must hold the {len(names)} keypoints of a {category}")
        return fields.rows("joints", list(held.values()), width=2).astype(np.float64)

    def _pose(self, image_id: str, record: ImageRecord) -> Float[np.ndarray, "c h w"]:
        skeleton = SKELETONS[record.category]
        joints = self._joints(Fields(self._joints_path(record.id)), record.category)
        if is_mirrored(image_id):
            joints = mirrored_joints(joints, size=record.size, skeleton=skeleton)
        drawn = render_pose(joints, size=record.size, skeleton=skeleton, zoom=zoom_of(record.size))
        whole = np.full((len(SPECS["pose"].channels), *drawn.shape[1:]), FAR, np.float32)
        whole[: len(PICTURE)] = drawn[: len(PICTURE)]
        first = len(PICTURE) + LIMB_CHANNELS.index(f"{record.category}/{skeleton.limb_names[0]}")
        whole[first : first + len(skeleton.limbs)] = drawn[len(PICTURE) :]
        return whole


def _read_settings(path: Path) -> ViewSettings:
    held = dict(Fields(path).data)
    revision = held.pop("revision", None)
    try:
        settings = build(ViewSettings, held, where=str(path))
    except ConfigError as error:
        raise DatasetError(f"{error}. {MAKE} --replace") from error
    if revision != settings.revision:
        raise DatasetError(
            f"{path}: the pictures are of revision {revision}, and matchkit makes revision {settings.revision} now. "
            f"{MAKE} --replace"
        )
    return settings
