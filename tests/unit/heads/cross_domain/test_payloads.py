"""Payloads of any size, warped by matches that are known."""

import pytest
import torch
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.matching import Match, centred
from matchkit.heads.cross_domain.payloads import warped_payload

GRID = (4, 6)


def known(order: torch.Tensor, *, grid: tuple[int, int] = GRID) -> Match:
    """Takes each cell from the cell of that number."""
    keys = centred(torch.randn(1, 16, *grid, generator=torch.Generator().manual_seed(0)))
    return Match(keys[:, order], keys, grid, 1e-3)


@pytest.mark.parametrize("size", [(4, 6), (8, 12), (16, 24), (20, 30), (2, 3), (2, 6), (1, 1)])
def test_the_match_of_each_cell_with_itself_leaves_a_payload_as_it_is(size: tuple[int, int]) -> None:
    payload = torch.randn(1, 5, *size)
    torch.testing.assert_close(warped_payload(known(torch.arange(24)), payload), payload)


def test_a_finer_payload_moves_in_whole_patches() -> None:
    order = torch.randperm(24)
    payload = torch.randn(1, 3, 12, 18)
    patches = functional.unfold(payload, 3, stride=3)[..., order]
    expected = functional.fold(patches, (12, 18), 3, stride=3)
    torch.testing.assert_close(warped_payload(known(order), payload), expected)


def test_a_coarser_payload_is_the_mean_of_its_cells() -> None:
    """Mirrored from left to right, cell by cell, so are the blocks of 2 x 2."""
    order = torch.arange(24).view(GRID).flip(1).flatten()
    payload = torch.randn(1, 3, 2, 3)
    torch.testing.assert_close(warped_payload(known(order), payload), payload.flip(3))


@pytest.mark.parametrize("size", [(6, 9), (8, 6), (8, 18), (3, 3), (4, 4), (5, 7)])
def test_sizes_that_do_not_go_with_the_grid_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"a payload of {size[0]} x {size[1]} .* grid of 4 x 6 cells"):
        warped_payload(known(torch.arange(24)), torch.zeros(1, 3, *size))


def test_gradients_reach_a_finer_payload() -> None:
    payload = torch.randn(1, 3, 8, 12, requires_grad=True)
    warped_payload(known(torch.arange(24)), payload).sum().backward()
    assert payload.grad is not None
    torch.testing.assert_close(payload.grad, torch.ones_like(payload), atol=1e-3, rtol=0)
