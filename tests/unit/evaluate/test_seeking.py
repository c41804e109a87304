"""How matches are judged without the truth, on similarities and descriptors made by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from matchkit.core.interfaces import Matcher
from matchkit.core.similarity import unit
from matchkit.evaluate import MATCHERS
from matchkit.evaluate.seeking import Cells, Seeker, Sought, clues, mutual, near_and_far, seek


def sought(scores: list[list[float]], found: tuple[float, float], temperature: float | None = None) -> Sought:
    return Sought(np.asarray([found], np.float32), torch.tensor([scores]), temperature)


ROW = [[0.1, 0.9, 0.8, 0.3, 0.5, 0.4]]
"""The peak is at 1; of six cells, those beside it are about it, and 0.5 at 4 is the greatest one away from it."""


def test_the_similarity_lies_between_those_of_the_cells_about_the_found_place() -> None:
    assert clues(sought(ROW, (1.25, 0)))[0, 0] == pytest.approx(0.75 * 0.9 + 0.25 * 0.8)
    assert clues(sought(ROW, (3, 0)))[0, 0] == pytest.approx(0.3)


def test_the_margin_is_over_the_greatest_one_away_from_the_peak() -> None:
    assert clues(sought(ROW, (1, 0)))[0, 1] == pytest.approx(0.9 - 0.5)
    # wherever the place was found
    assert clues(sought(ROW, (4, 0)))[0, 1] == pytest.approx(0.9 - 0.5)


def test_away_is_a_tenth_of_the_longer_edge() -> None:
    row = torch.zeros(1, 2, 30)
    row[0, 0, 10], row[0, 1, 13], row[0, 0, 14] = 1.0, 0.75, 0.5
    assert clues(Sought(np.zeros((1, 2), np.float32), row, None))[0, 1] == pytest.approx(0.5)


def test_where_nothing_is_away_the_margin_is_over_the_least_cosine() -> None:
    assert clues(sought([[0.25, 0.5]], (1, 0)))[0, 1] == pytest.approx(1.5)


def test_the_probability_is_what_lies_about_the_peak_of_the_softmax() -> None:
    weights = np.exp(np.asarray(ROW[0]) / 0.5)
    expected = weights[:3].sum() / weights.sum()
    assert clues(sought(ROW, (1, 0), 0.5))[0, 2] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(clues(sought(ROW, (1, 0)))[0, 2])


def test_mutual_is_the_cell_in_which_the_keypoint_lies() -> None:
    back = Sought(np.zeros((3, 2), np.float32), torch.eye(6)[[4, 4, 0]].reshape(3, 2, 3), None)
    points = np.asarray([[1.4, 0.6], [1.6, 0.6], [-0.5, 0.0]], np.float32)  # the cell 4 is (1, 1)
    assert mutual(back, points).tolist() == [True, False, True]


def test_near_and_far_of_each_radius() -> None:
    """Cells are 10 pixels apart, the first one's centre at 5; the centre is (15, 5)."""
    scores = torch.tensor([[[0.2, 0.1, 0.6, 0.4], [0.5, 0.3, 0.7, 0.9]]])
    cells = Cells(np.arange(5, 45, 10, dtype=np.float32), np.asarray([5, 15], np.float32))
    centre = np.asarray([[15, 5]], np.float32)
    near, far = near_and_far(scores, cells, centre, np.asarray([0.5, 10, 14, 15, 100]))
    # at just the radius is within; (5, 15) and (25, 15) are 14.1 away
    assert near[0].tolist() == pytest.approx([0.1, 0.6, 0.6, 0.7, 0.9])
    assert far[0].tolist() == pytest.approx([0.9, 0.9, 0.9, 0.9, -np.inf])
    aside = near_and_far(scores, cells, centre + 4, np.asarray([1.0]))
    assert aside[0].tolist() == [[-np.inf]]
    assert aside[1][0].tolist() == pytest.approx([0.9])


def maps() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 16, 9, 9, generator=draw)
    return source, target


POINTS = np.asarray([[1.2, 3.4], [7.5, 0.1], [4.0, 8.0]], np.float32)


@pytest.mark.parametrize("name", list(MATCHERS.table()))
def test_every_matcher_finds_the_same_with_its_similarities(name: str) -> None:
    matcher: Matcher = MATCHERS.build(name, {}, where=name)
    source, target = maps()
    told = seek(matcher, source, target, POINTS)
    np.testing.assert_array_equal(told.found, matcher.match(source, target, POINTS))
    x, y = (np.floor(POINTS + 0.5).astype(int) if "window" in name else POINTS).T
    if "window" in name:
        queries = source[:, y, x].T
    else:
        at = torch.from_numpy((POINTS + 0.5) / 9 * 2 - 1)[None, None]
        queries = functional.grid_sample(source[None], at, padding_mode="border", align_corners=False)[0, :, 0].T
    expected = torch.einsum("nd,dhw->nhw", unit(queries), unit(target.movedim(0, -1)).movedim(-1, 0))
    torch.testing.assert_close(told.cosines, expected)
    assert (told.temperature is None) == (name in ("nearest", "bilinear"))


def test_a_matcher_that_tells_nothing_is_asked_all_the_same() -> None:
    class Corner:
        def match(self, source: torch.Tensor, target: torch.Tensor, points: np.ndarray) -> np.ndarray:
            del source, target
            return np.zeros_like(points)

    source, target = maps()
    assert not isinstance(Corner(), Seeker)
    told = seek(Corner(), source, target, POINTS)
    assert told.found.tolist() == [[0, 0]] * 3
    assert told.temperature is None
    assert told.cosines.shape == (3, 9, 9)
