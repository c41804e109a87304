"""The baseline that never looks at the image."""

import numpy as np
import pytest

from matchkit.core.errors import DatasetError
from matchkit.core.records import Pair
from matchkit.evaluate.position import same_relative_position

POINTS = np.asarray([[10, 20], [30, 40]], np.float32)


def test_points_keep_their_place_in_the_box() -> None:
    pair = Pair("p", "a", "b", "c", POINTS, POINTS, ("0", "1"), (10.0, 20.0, 50.0, 40.0), (0.0, 100.0, 20.0, 200.0))
    np.testing.assert_allclose(same_relative_position(pair), [[0, 100], [10, 200]])


def test_boxes_are_needed() -> None:
    with pytest.raises(DatasetError, match="no boxes"):
        same_relative_position(Pair("p", "a", "b", "c", POINTS, POINTS, ("0", "1")))
