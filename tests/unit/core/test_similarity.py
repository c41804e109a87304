"""Descriptors sampled, normalised and resized."""

import pytest
import torch
from torch.nn import functional

from matchkit.core.similarity import cells, cosines, resize, sample, unit

MAP = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
"""(d, gh, gw)."""


def at(*points: tuple[float, float]) -> torch.Tensor:
    return sample(MAP, torch.tensor(points))


def test_sampled_at_its_centre_a_cell_is_itself() -> None:
    points = [(float(x), float(y)) for y in range(3) for x in range(4)]
    torch.testing.assert_close(at(*points), cells(MAP), rtol=0, atol=1e-6)


def test_between_two_cells_lies_their_mean() -> None:
    torch.testing.assert_close(at((1.5, 2.0)), (MAP[:, 2, 1] + MAP[:, 2, 2])[None] / 2)
    torch.testing.assert_close(at((0.0, 0.25)), (0.75 * MAP[:, 0, 0] + 0.25 * MAP[:, 1, 0])[None])


def test_outside_the_border_goes_on() -> None:
    torch.testing.assert_close(at((-3.0, 1.0), (9.0, 9.0)), torch.stack([MAP[:, 1, 0], MAP[:, 2, 3]]))


def test_no_points_give_no_descriptors() -> None:
    assert sample(MAP, torch.zeros(0, 2)).shape == (0, 5)


def test_cells_are_row_major() -> None:
    assert torch.equal(cells(MAP)[1 * 4 + 2], MAP[:, 1, 2])


def test_unit_length_and_zero_stays_zero() -> None:
    descriptors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]])
    torch.testing.assert_close(unit(descriptors), torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_cosines_are_the_products_of_unit_descriptors(memory: torch.memory_format) -> None:
    descriptors = MAP[None].to(memory_format=memory)[0]
    queries = 7 * sample(descriptors, torch.tensor([(0.3, 1.2), (2.9, 0.0)]))
    torch.testing.assert_close(cosines(queries, descriptors).flatten(1), unit(queries) @ unit(cells(descriptors)).T)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_cosine_with_a_zero_descriptor_is_zero(memory: torch.memory_format) -> None:
    descriptors = MAP[None].clone(memory_format=memory)[0]
    descriptors[:, 1, 2] = 0
    found = cosines(torch.stack([MAP[:, 0, 0], torch.zeros(5)]), descriptors)
    assert found[:, 1, 2].tolist() == [0, 0]
    assert found[1].abs().max() == 0
    assert found[0, 0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_cosines_of_half_precision_do_not_overflow(memory: torch.memory_format) -> None:
    descriptors = torch.full((1, 4, 1, 2), 1000.0, dtype=torch.float16).to(memory_format=memory)[0]
    found = cosines(torch.ones(1, 4, dtype=torch.float16), descriptors)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.ones(1, 1, 2), rtol=2e-3, atol=0)


def test_resize_to_its_own_grid_is_the_map_itself() -> None:
    maps = MAP[None]
    assert resize(maps, (3, 4)) is maps


def test_resize_aligns_cell_centres() -> None:
    """A ramp of 2 cells on 4: the centres of the new cells lie at -0.25, 0.25, 0.75 and 1.25 of the old."""
    ramp = torch.tensor([0.0, 1.0]).expand(1, 1, 2, 2)
    torch.testing.assert_close(resize(ramp, (2, 4))[0, 0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    expected = functional.interpolate(MAP[None], size=(7, 5), mode="bilinear", align_corners=False)
    assert torch.equal(resize(MAP[None], (7, 5)), expected)
