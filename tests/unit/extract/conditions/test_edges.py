"""Borders of parts, Canny's edges beside them, and drawn ones."""

import numpy as np
import pytest

from matchkit.extract.conditions.edges import borders, drawing_spec, edge_spec, render_drawing, render_edges

SIDE = 40


def square(top: int, left: int, side: int) -> np.ndarray:
    part = np.zeros((SIDE, SIDE), np.bool_)
    part[top : top + side, left : left + side] = True
    return part


def test_the_spec_of_thirteen_parts_is_the_published_fifteen_channels() -> None:
    spec = edge_spec([f"part{n}" for n in range(13)])
    assert (spec.kind, spec.width) == ("edge", 15)
    assert (spec.channels[0], spec.channels[1], spec.channels[-1]) == ("edges", "part0", "part_edges")
    assert spec.smooth == (False, *[True] * 13, False)
    assert spec.outside == (0.0, *[1.0] * 13, 0.0)


def test_a_border_is_two_pixels_thick() -> None:
    edge = borders(square(10, 5, 8)[None])[0]
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (y >= 10) & (y < 18) & (x >= 5) & (x < 13)
    core = (y > 10) & (y < 17) & (x > 5) & (x < 12)
    beside = (y >= 9) & (y < 19) & (x >= 4) & (x < 14) & ~inside
    corner = ((y == 9) | (y == 18)) & ((x == 4) | (x == 13))
    np.testing.assert_array_equal(edge, (inside & ~core) | (beside & ~corner))


def test_where_a_part_ends_with_the_picture_is_no_border() -> None:
    assert not borders(np.ones((1, 5, 5), np.bool_)).any()
    assert borders(square(0, 0, 10)[None])[0][:, :3].sum() == 6


def test_the_channels() -> None:
    parts = np.stack([square(2, 2, 12), square(20, 20, 10), np.zeros((SIDE, SIDE), np.bool_)])
    values = render_edges(parts, np.zeros((SIDE, SIDE), np.uint8))
    assert values.shape == (5, SIDE, SIDE)
    assert values.dtype == np.float32
    every = borders(parts).any(axis=0)
    np.testing.assert_array_equal(values[4], every)
    np.testing.assert_array_equal(values[0], every)  # nothing for Canny on black
    assert values[1, 2, 2:14].max() == 0
    assert values[1, 2, 14 + 3] == pytest.approx(1 / 255)
    assert (values[3] == 1).all()


def test_canny_counts_outside_the_parts_and_in_open_ones() -> None:
    photo = np.zeros((SIDE, SIDE), np.uint8)
    photo[:, 20:] = 255  # an edge from top to bottom, through both parts
    face, hair = square(5, 10, 20), square(28, 15, 8)
    parts = np.stack([face, hair])
    found = render_edges(parts, photo, open_parts=[1])[0] - borders(parts).any(axis=0)
    rows = found[:, 19:21].any(axis=1)
    assert rows[2:4].all()  # above the face
    assert not rows[7:23].any()  # within it
    assert rows[30:34].all()  # in the hair
    closed = render_edges(parts, photo)[0] - borders(parts).any(axis=0)
    assert not closed[30:34, 19:21].any()


def test_where_an_open_part_hides_another_canny_counts() -> None:
    photo = np.zeros((SIDE, SIDE), np.uint8)
    photo[:, 20:] = 255
    face = square(5, 5, 30)
    fringe = np.stack([face, square(5, 10, 20)])
    assert render_edges(fringe, photo, open_parts=[1])[0, 10:20, 19:21].any()


def test_a_drawing_and_the_distance_to_it() -> None:
    picture = np.zeros((3, 12), np.uint8)
    picture[1, 4], picture[1, 5] = 255, 127
    values = render_drawing(picture)
    assert values.shape[0] == drawing_spec().width == 2
    assert drawing_spec().channels == ("edges", "distance")
    assert values[0, 1, 4:6].tolist() == pytest.approx([1, 127 / 255])
    assert (values[1, 1] * 255).tolist() == pytest.approx([1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    assert (render_drawing(np.zeros((3, 3), np.uint8))[1] == 1).all()
