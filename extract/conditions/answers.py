"""What all datasets of conditions answer alike: which photograph is meant, and why there is nothing to give."""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float

from matchkit.core.conditions import ConditionKind, ConditionSpec
from matchkit.core.errors import DatasetError
from matchkit.core.poses import TURNED, pose_of, unposed_id
from matchkit.core.records import ImageRecord
from matchkit.extract.conditions.place import mirrored_condition

Values = Float[np.ndarray, "c h w"]


def photograph(images: Mapping[str, ImageRecord], image_id: str, *, name: str) -> ImageRecord:
    """The record of an image of the dataset called `name`; of a mirrored copy that of what it is a copy of.

    Raises:
        DatasetError: no such image, or a copy turned by a quarter.
    """
    record = images.get(image_id) or images.get(unposed_id(image_id))
    if record is None:
        raise DatasetError(f"{name} has no image '{image_id}'")
    if record.id != image_id and pose_of(image_id) in TURNED:
        raise DatasetError(
            f"{name}: '{image_id}' is turned by a quarter; of copies, mirrored ones alone have conditions"
        )
    return record


def is_mirrored(image_id: str) -> bool:
    """Whether an id is that of a mirrored copy."""
    return pose_of(image_id) == "hflip"


def facing(values: Values, spec: ConditionSpec, image_id: str) -> Values:
    """The condition of a photograph, or the mirrored one where that of its mirrored copy is asked for."""
    return mirrored_condition(values, spec) if is_mirrored(image_id) else values


def require_kind(kind: ConditionKind, kinds: Collection[ConditionKind], *, name: str) -> None:
    """Refuses a kind of conditions that the dataset called `name` does not have.

    Raises:
        DatasetError: so.
    """
    if kind not in kinds:
        held = f"it has: {', '.join(kinds)}" if kinds else "it has none"
        raise DatasetError(f"{name} has no conditions of kind '{kind}'; {held}")


def no_pairs(name: str, split: str) -> DatasetError:
    """That a dataset has photographs and conditions, but no keypoints to pair them by."""
    return DatasetError(
        f"{name} has no keypoint pairs, so none of split '{split}': its images are matched by their conditions"
    )


def no_scheme(name: str, category: str) -> DatasetError:
    """That a dataset has no keypoints of which any could mirror each other."""
    return DatasetError(f"{name}: category '{category}' has no flip table: {name} has no keypoints")
