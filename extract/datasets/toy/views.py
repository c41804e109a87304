"""Toy objects that are photographed several times, in one light and place; and the picture that an id stands for.

An object depends on (seed, split, category, number) alone, and a picture on these and its own number. The cameras stand
between the front and the object's left, so that two pictures share most of the surface that they show.
"""

import re
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import numpy as np

from matchkit.core.errors import ConfigError, DatasetError, UnknownNameError
from matchkit.extract.datasets.toy.keypoints import CATEGORIES, SPLIT_NAMES
from matchkit.extract.datasets.toy.part_names import PARTS
from matchkit.extract.datasets.toy.scene import filmed_by, sample_instance, sample_view
from matchkit.extract.datasets.toy.trees import shares
from matchkit.extract.datasets.toy.truth import Shot, shoot

REVISION: int = 1
"""Raised whenever the same settings give another picture or condition."""
STEM = re.compile(r"(?P<category>[a-z]+)/(?P<split>[a-z]+)_(?P<number>\d{5,})_(?P<view>\d+)")


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """All that decides the pictures.

    Attributes:
        seed: another one gives other objects, from 0.
        train_objects: objects of the split `trn`, over all categories together.
        val_objects: those of `val`.
        test_objects: those of `test`.
        views: pictures an object.
        size: edge of a picture in pixels.
        azimuths: where the cameras stand, degrees as in `View`: the first and the last azimuth.

    Raises:
        ConfigError: a value that no dataset can have.
    """

    seed: int = 0
    train_objects: int = 720
    val_objects: int = 40
    test_objects: int = 100
    views: int = 2
    size: int = 128
    azimuths: tuple[float, float] = (15.0, 105.0)
    revision: int = field(default=REVISION, init=False)

    def __post_init__(self) -> None:
        if min(self.seed, self.train_objects, self.val_objects, self.test_objects) < 0:
            raise ConfigError("the seed and the numbers of objects must not be negative")
        if self.views < 1 or self.train_objects + self.val_objects + self.test_objects < 1:
            raise ConfigError(f"at least one view of one object is needed, not {self.views} of {self.objects}")
        if self.size < 16:
            raise ConfigError(f"toy images must be at least 16 pixels wide, not {self.size}")
        if not self.azimuths[0] <= self.azimuths[1] <= self.azimuths[0] + 360:
            raise ConfigError(f"azimuths must go from one to a larger one, at most 360 degrees on, not {self.azimuths}")

    @property
    def objects(self) -> dict[str, int]:
        """Objects by split."""
        return dict(zip(SPLIT_NAMES, (self.train_objects, self.val_objects, self.test_objects), strict=True))

    def fields(self) -> dict[str, Any]:
        """Everything, the revision too, as JSON keeps it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ViewId:
    """Which picture it is: of an object of a category and split, by their numbers."""

    category: str
    split: str
    number: int
    view: int

    def __str__(self) -> str:
        return f"{self.group}_{self.view}"

    @property
    def group(self) -> str:
        """The object."""
        return f"{self.category}/{self.split}_{self.number:05d}"


def view_ids(settings: ViewSettings, split: str) -> list[ViewId]:
    """The pictures of a split, sorted by category, object and view.

    Raises:
        UnknownNameError: no such split.
    """
    if split not in SPLIT_NAMES:
        raise UnknownNameError(f"no split '{split}'; there are: {', '.join(SPLIT_NAMES)}")
    return [
        ViewId(category, split, number, view)
        for category, count in zip(PARTS, shares(settings.objects[split], len(PARTS)), strict=True)
        for number, view in product(range(count), range(settings.views))
    ]


def parse_id(image_id: str) -> ViewId:
    """What an id `<category>/<split>_<object>_<view>` says.

    Raises:
        DatasetError: it is no such id.
    """
    found = STEM.fullmatch(image_id)
    if found is None or found["category"] not in PARTS or found["split"] not in SPLIT_NAMES:
        raise DatasetError(f"'{image_id}' names no picture of a toy object; one is called dog/test_00003_1")
    return ViewId(found["category"], found["split"], int(found["number"]), int(found["view"]))


def take(settings: ViewSettings, image: ViewId) -> Shot:
    """Takes the picture of an id; the same settings give the same one.

    Raises:
        DatasetError: embreex is not installed.
    """
    place = (settings.seed, SPLIT_NAMES.index(image.split), CATEGORIES.index(image.category), image.number)
    instance_seed, scene_seed = _seeds(*place, 0)
    camera_seed, azimuth_seed = _seeds(*place, 1 + image.view)
    azimuth = float(np.random.default_rng(azimuth_seed).uniform(*settings.azimuths))
    scene = sample_view(seed=scene_seed, category=image.category)
    camera = sample_view(seed=camera_seed, category=image.category, azimuth=azimuth)
    instance = sample_instance(image.category, seed=instance_seed)
    return shoot(instance, filmed_by(camera, scene), size=settings.size)


def _seeds(*place: int) -> tuple[int, int]:
    first, second = (int(word) >> 1 for word in np.random.SeedSequence(place).generate_state(2, np.uint64))
    return first, second
