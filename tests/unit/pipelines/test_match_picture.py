"""Matches drawn."""

import numpy as np
import pytest
from PIL import Image

from matchkit.pipelines.match_picture import CAPTION, COLOURS, GAP, HEIGHT, PAPER, WIDEST, match_picture
from matchkit.pipelines.photo_matcher import Matches
from matchkit.pipelines.photos import Photo


def photo(size: tuple[int, int], name: str = "a.jpg") -> Photo:
    return Photo("a", name, Image.new("RGB", size, (90, 90, 90)))


def matches(points: list[tuple[float, float]], mutual: list[bool]) -> Matches:
    ones = np.ones(len(points), np.float32)
    found = np.asarray(points, np.float32)
    return Matches(found, ones, ones, ones, np.asarray(mutual), np.ones(len(points), np.bool_))


def ramp(size: tuple[int, int]) -> np.ndarray:
    return np.tile(np.linspace(0.2, 0.6, size[0], dtype=np.float32), (size[1], 1))


def beside(sheet: Image.Image, x: float, y: float) -> tuple[int, ...]:
    """The colour in a point's disc, beside its number."""
    return tuple(np.asarray(sheet)[round(y), round(x) - 7].tolist())


@pytest.mark.parametrize(("source", "target"), [((42, 42), (84, 42)), ((1, 1), (1000, 10)), ((3000, 4000), (42, 84))])
def test_three_pictures_side_by_side(source: tuple[int, int], target: tuple[int, int]) -> None:
    asked: list[tuple[int, int]] = []

    def scores(size: tuple[int, int]) -> np.ndarray:
        asked.append(size)
        return ramp(size)

    sheet = match_picture(
        photo(source), photo(target), [(0.0, 0.0)], matches([(0.0, 0.0)], [True]), shown=0, scores=scores
    )
    ((width, height),) = asked
    assert width <= WIDEST
    assert height <= HEIGHT
    own = source[0] * min(HEIGHT / source[1], WIDEST / source[0])
    assert sheet.width == pytest.approx(4 * GAP + own + 2 * width, abs=1)
    assert sheet.height <= 2 * GAP + HEIGHT + CAPTION


def test_points_are_numbered_discs_in_their_own_colours() -> None:
    points, found = [(10.0, 10.0), (30.0, 20.0)], [(5.0, 30.0), (35.0, 8.0)]
    drawn = matches(found, [True, False])
    sheet = match_picture(photo((42, 42)), photo((42, 42), "b.jpg"), points, drawn, shown=1, scores=ramp)
    middles = [GAP + (np.asarray(point) + 0.5) * 10 for point in points]
    theirs = [GAP + (np.asarray(point) + 0.5) * 10 + (HEIGHT + GAP, 0) for point in found]
    assert [beside(sheet, *at) for at in middles] == [COLOURS[0], COLOURS[1]]
    assert beside(sheet, *theirs[0]) == COLOURS[0]
    assert beside(sheet, *theirs[1]) == PAPER  # the way back leads elsewhere
    assert beside(sheet, *(theirs[1] + (HEIGHT + GAP, 0))) == PAPER  # the shown point stands on the map, too
    on_line = 0.75 * middles[0] + 0.25 * theirs[0]
    assert np.asarray(sheet)[round(on_line[1]), round(on_line[0])].tolist() == list(COLOURS[0])


def test_the_map_is_dark_where_it_is_least() -> None:
    sheet = match_picture(
        photo((42, 42)), photo((42, 42)), [(9.0, 9.0)], matches([(21.0, 9.0)], [True]), shown=0, scores=ramp
    )
    pixels, start = np.asarray(sheet, np.float32).sum(2), 3 * GAP + 2 * HEIGHT
    assert pixels[GAP + 300, start + 5] < pixels[GAP + 300, start + HEIGHT - 5]


def test_a_place_outside_lies_on_the_edge_and_a_flat_map_is_drawn() -> None:
    def flat(size: tuple[int, int]) -> np.ndarray:
        return np.zeros((size[1], size[0]), np.float32)

    found = matches([(-500.0, 21.0)], [True])
    sheet = match_picture(photo((42, 42)), photo((42, 42)), [(9.0, 9.0)], found, shown=0, scores=flat)
    assert beside(sheet, 2 * GAP + HEIGHT, GAP + 215) == COLOURS[0]


def test_more_points_than_colours() -> None:
    points = [(float(5 * number), 20.0) for number in range(9)]
    sheet = match_picture(photo((42, 42)), photo((42, 42)), points, matches(points, [True] * 9), shown=8, scores=ramp)
    assert beside(sheet, GAP + 75, GAP + 205) == COLOURS[1]
    assert beside(sheet, GAP + 405, GAP + 205) == COLOURS[1]
