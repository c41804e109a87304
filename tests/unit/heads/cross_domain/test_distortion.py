"""Distorted copies: what is moved where, and that the cells in them are told right."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from matchkit.core.exemplar_batches import LATENT, PARTS, Photographs
from matchkit.heads.cross_domain.distortion import (
    SHIFT,
    TURN,
    ZOOM,
    cells_in_copy,
    distorted,
    draw_distortions,
)

Draw = Callable[..., Photographs]
YES = torch.ones(1, dtype=torch.bool)


def affine(turn: float = 0.0, zoom: float = 1.0, right: float = 0.0, down: float = 0.0) -> torch.Tensor:
    cosine, sine = zoom * math.cos(turn), zoom * math.sin(turn)
    return torch.tensor([[[cosine, -sine, right], [sine, cosine, down]]])


def of(payload: torch.Tensor, *, name: str = LATENT) -> Photographs:
    return Photographs(("a",), {}, torch.zeros(1, 0, 1, 1), {name: payload})


def marked(cell: int, grid: tuple[int, int], *, name: str = PARTS) -> Photographs:
    hot = torch.zeros(1, 1, *grid)
    hot.view(-1)[cell] = 1
    return of(hot, name=name)


def test_distortions_are_seeded_and_bounded() -> None:
    drawn = draw_distortions(500, torch.Generator().manual_seed(3))
    assert torch.equal(drawn, draw_distortions(500, torch.Generator().manual_seed(3)))
    turn = torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0])
    zoom = torch.linalg.det(drawn[:, :, :2]).sqrt().log()
    for values, most in ((turn, TURN), (zoom, ZOOM), (drawn[:, 0, 2], SHIFT), (drawn[:, 1, 2], SHIFT)):
        assert 0.9 * most < values.abs().max() <= most + 1e-6
        assert values.mean().abs() < 0.1 * most + 0.02
    torch.testing.assert_close(drawn[:, 0, 0], drawn[:, 1, 1])  # no flip, no shear


def test_the_chosen_alone_are_distorted(photographs: Draw) -> None:
    given = photographs(["a", "b"], steps=2)
    before = {name: values.clone() for name, values in (given.maps | given.payloads).items()}
    copies = distorted(given, affine(right=0.5).expand(2, -1, -1), torch.tensor([False, True]))
    assert copies.ids == ("a", "b")
    for name, values in (copies.maps | copies.payloads).items():
        there = (given.maps | given.payloads)[name]
        assert torch.equal(there, before[name])
        assert values.shape == there.shape
        assert torch.equal(values[0], there[0])
        cells = values.shape[-1] // 4  # half of the picture is 1
        torch.testing.assert_close(values[1, ..., :-cells], there[1, ..., cells:])
        torch.testing.assert_close(values[1, ..., -cells:], there[1, ..., -1:].expand(*there.shape[1:-1], cells))
    assert torch.equal(copies.condition, copies.payloads[PARTS])


def test_parts_and_conditions_stay_one_hot(photographs: Draw) -> None:
    copies = distorted(photographs(["a"]), affine(0.2, 1.1, 0.1, -0.1), YES)
    for values in (copies.condition, copies.payloads[PARTS]):
        assert set(values.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(values.sum(1), torch.ones_like(values[:, 0]))


def test_a_condition_that_is_not_known_stays_so(photographs: Draw) -> None:
    given = replace(photographs(["a"]), condition=torch.zeros(1, 0, 16, 16))
    assert distorted(given, affine(0.2), YES).condition.shape == (1, 0, 16, 16)


def test_maps_of_half_precision_and_channels_last_memory() -> None:
    maps = torch.randn(1, 8, 8, 2, 5).half().permute(0, 3, 4, 1, 2)  # (b,t,c,gh,gw) as a store hands it out
    given = Photographs(("a",), {"a": maps}, torch.zeros(1, 0, 1, 1), {})
    moved = distorted(given, affine(right=0.5), YES).maps["a"]
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved[..., :-2], maps.float()[..., 2:])


@pytest.mark.parametrize("shift", [(2, 0), (-1, 1), (0, -3), (1, 2)])
def test_a_marked_cell_lands_where_it_is_told_to(shift: tuple[int, int]) -> None:
    """The copy's value at a place is the photograph's `shift` cells further, so that a cell lands as far back."""
    grid = (6, 9)
    moved = affine(right=2 * shift[0] / 9, down=2 * shift[1] / 6)
    cells, inside = cells_in_copy(moved, grid)
    for cell in range(54):
        copy = distorted(marked(cell, grid), moved, YES).payloads[PARTS].flatten()
        column, row = cell % 9 - shift[0], cell // 9 - shift[1]
        within = 0 <= column < 9 and 0 <= row < 6
        assert bool(inside[0, cell]) == within
        if within:
            assert int(cells[0, cell]) == 9 * row + column
            assert copy[cells[0, cell]] == 1


def test_a_quarter_turn() -> None:
    cells, inside = cells_in_copy(affine(turn=math.pi / 2), (5, 5))
    assert inside.all()
    for cell in range(25):
        copy = distorted(marked(cell, (5, 5)), affine(turn=math.pi / 2), YES).payloads[PARTS].flatten()
        assert int(copy.argmax()) == int(cells[0, cell])
        assert copy.sum() == 1


@pytest.mark.parametrize("grid", [(12, 12), (8, 14)])
def test_a_told_cell_shows_what_the_photographs_cell_shows(grid: tuple[int, int]) -> None:
    """A copy of the cells' own places: what it has at the told cell is at most half a cell of the copy away."""
    draws = draw_distortions(20, torch.Generator().manual_seed(0))
    height, width = grid
    ys, xs = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    own = torch.stack([xs, ys])
    cells, inside = cells_in_copy(draws, grid)
    assert 0.5 < inside.float().mean() < 0.99
    for number in range(20):
        given = of(own[None])
        copy = distorted(given, draws[number : number + 1], YES).payloads[LATENT][0].flatten(1)
        away = (copy[:, cells[number]] - own.flatten(1)).norm(dim=0)[inside[number]]
        zoom = float(torch.linalg.det(draws[number, :, :2]).sqrt()) * max(width / height, height / width)
        assert away.max() <= zoom * 0.5**0.5 + 0.01
