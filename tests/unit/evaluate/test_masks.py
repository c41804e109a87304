"""Masks posed, of boxes, and on a grid."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchkit.core.geometry import place, posed_points
from matchkit.core.poses import Pose
from matchkit.evaluate.masks import box_mask, mask_on_grid, posed_mask


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(get_args(Pose)), st.data())
def test_a_posed_mask_is_where_posed_points_are(width: int, height: int, pose: Pose, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[y, x] = True
    ((row, column),) = np.argwhere(posed_mask(mask, pose))
    assert posed_points(np.asarray([x, y], np.float32), (width, height), pose).tolist() == [column, row]


def test_a_box_holds_its_edges() -> None:
    assert np.argwhere(box_mask((1.0, 0.5, 2.0, 3.0), (4, 5))).tolist() == [[y, x] for y in (1, 2, 3) for x in (1, 2)]


def test_a_box_beyond_the_image_is_cut_off() -> None:
    assert box_mask((-3.0, -3.0, 99.0, 99.0), (4, 5)).all()


@pytest.mark.parametrize("sampling", ["centre", "corner"])
def test_the_bars_of_a_letterbox_are_outside(sampling: str) -> None:
    placement = place((64, 32), (64, 64), fit="letterbox")
    grid = mask_on_grid(np.ones((32, 64), dtype=np.bool_), placement, (8, 8), sampling=sampling)  # type: ignore[arg-type]
    assert grid[2:6].all()
    assert grid.sum() == 4 * 8


def test_a_stretched_image_has_no_outside() -> None:
    placement = place((50, 30), (64, 64), fit="stretch")
    assert mask_on_grid(np.ones((30, 50), dtype=np.bool_), placement, (7, 9), sampling="centre").all()


def test_a_cell_takes_the_pixel_at_its_centre_or_its_corner() -> None:
    mask = np.zeros((16, 16), dtype=np.bool_)
    mask[4, 12] = True
    placement = place((16, 16), (16, 16), fit="stretch")
    centre, corner = (mask_on_grid(mask, placement, (2, 2), sampling=kind) for kind in ("centre", "corner"))  # type: ignore[arg-type]
    assert centre.tolist() == [[False, True], [False, False]]
    assert not corner.any()
    assert mask_on_grid(mask, placement, (4, 4), sampling="corner")[1, 3]
