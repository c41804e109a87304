"""The poses in which a photograph is looked at: as it is, mirrored, or turned by a quarter.

A posed copy is an image of its own: the same file under the id `<id><ending>`, decoded and then posed. Features must be
extracted from the posed *image*: to pose a feature map permutes its cells, by which no set distance between two maps
changes. Source: GeoAware-SC §4.1.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from matchkit.core.errors import DatasetError
from matchkit.core.records import ImageRecord

Pose = Literal["none", "hflip", "rot90", "rot270"]
"""As it is; left and right exchanged; turned a quarter counter-clockwise, or clockwise."""
ENDINGS: Mapping[Pose, str] = MappingProxyType({"none": "", "hflip": "@flip", "rot90": "@rot90", "rot270": "@rot270"})
"""What the ids of posed copies end in."""
TURNED: tuple[Pose, ...] = ("rot90", "rot270")
"""The poses that exchange width and height."""
AZIMUTHS = 8
"""Viewpoint bins around an object, counted by turning it one way: mirrored, they count the other way."""


def posed_id(image_id: str, pose: Pose) -> str:
    """The id of an image's copy in a pose."""
    return image_id + ENDINGS[pose]


def pose_of(image_id: str) -> Pose:
    """The pose that the id of an image, or of a copy, tells."""
    return next((pose for pose, ending in ENDINGS.items() if ending and image_id.endswith(ending)), "none")


def unposed_id(image_id: str) -> str:
    """The id of the image that a copy was made of."""
    return image_id.removesuffix(ENDINGS[pose_of(image_id)])


def posed_size(size: tuple[int, int], pose: Pose) -> tuple[int, int]:
    """The (width, height) of a copy of an image of (width, height) pixels; the other way round it is the same."""
    return size[::-1] if pose in TURNED else size


def posed(record: ImageRecord, pose: Pose) -> ImageRecord:
    """The record of an image's copy in a pose.

    Raises:
        DatasetError: the image's own id ends like that of a copy.
    """
    own = pose_of(record.id)
    if own != "none":
        raise DatasetError(
            f"image '{record.id}': the ending {ENDINGS[own]} is kept for posed copies; rename {record.path}"
        )
    if pose == "none":
        return record
    azimuth = record.azimuth
    if pose == "hflip" and azimuth is not None:
        azimuth = -azimuth % AZIMUTHS
    size = posed_size(record.size, pose)
    return replace(record, id=posed_id(record.id, pose), size=size, azimuth=azimuth, keypoints={})
