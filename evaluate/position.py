"""The same relative position in the box: what a matcher gets right that never looks at the image."""

import numpy as np
from jaxtyping import Float

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair


def same_relative_position(pair: Pair) -> Float[np.ndarray, "n 2"]:
    """Predicts every keypoint at its relative position in the target's box, (x, y) in the image frame.

    It is *given* the target's box, which no other method here is.

    Raises:
        DatasetError: the pair has no boxes.
    """
    if pair.source_box is None or pair.target_box is None:
        raise DatasetError(f"pair '{pair.id}' has no boxes, which the baseline of the same relative position needs")
    source, target = np.asarray(pair.source_box), np.asarray(pair.target_box)
    relative = (pair.source_points - source[:2]) / (source[2:] - source[:2])
    return np.asarray(target[:2] + relative * (target[2:] - target[:2]), dtype=np.float32)
