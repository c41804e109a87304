"""The parts of a photograph: at each pixel the number of its class. One-hot is made where it is used.

Source: CoCosNet §1.1.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from matchkit.core.conditions import LABELS, ConditionSpec
from matchkit.core.errors import DatasetError

Labels = Bool[np.ndarray, "h w"] | Integer[np.ndarray, "h w"]


def mask_spec(classes: Sequence[str], *, outside: int = 0) -> ConditionSpec:
    """What a mask is made of: labels of the classes, in their order; beyond the photograph that of one of them."""
    return ConditionSpec(
        kind="mask", channels=(LABELS,), smooth=(False,), outside=(float(outside),), classes=tuple(classes)
    )


def render_mask(labels: Labels, spec: ConditionSpec, *, where: object) -> Float[np.ndarray, "1 h w"]:
    """The condition of an index map: its labels as float32.

    Args:
        labels: the number of a class at each pixel.
        spec: of a mask.
        where: the labels are from; for the error.

    Raises:
        DatasetError: a label that is no class's.
    """
    wrong = (labels < 0) | (labels >= len(spec.classes))
    if wrong.any():
        y, x = (int(at) for at in np.argwhere(wrong)[0])
        raise DatasetError(
            f"{where}: pixel ({x}, {y}) holds label {int(labels[y, x])}, but the labels of its {len(spec.classes)} "
            f"classes are 0..{len(spec.classes) - 1}"
        )
    return labels[None].astype(np.float32)
