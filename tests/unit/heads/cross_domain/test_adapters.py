"""The small adapters."""

import pytest
import torch
from torch import nn

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.adapters import DILATIONS, Adapter, Residual, Stem

GRID = (4, 6)


def adapter(*, picture: int = 3, maps: tuple[int, ...] = (5, 2), width: int = 16, halvings: int = 2) -> Adapter:
    return Adapter(picture=picture, maps=maps, width=width, out=8, grid=GRID, halvings=halvings)


def drawn() -> list[torch.Tensor]:
    return [torch.randn(2, 5, 2, 3), torch.randn(2, 2, 8, 12)]


@pytest.mark.parametrize(("halvings", "widths"), [(0, [16]), (1, [16]), (2, [8, 16]), (3, [8, 8, 16])])
def test_a_stem_halves_and_widens(halvings: int, widths: list[int]) -> None:
    stem = Stem(3, 16, halvings=halvings)
    convolutions = [module for module in stem.convolutions if isinstance(module, nn.Conv2d)]
    assert [convolution.out_channels for convolution in convolutions] == widths
    assert stem(torch.randn(1, 3, 4 << halvings, 6 << halvings)).shape == (1, 16, *GRID)


@pytest.mark.parametrize("halvings", [0, 2])
def test_unit_vectors_on_the_grid(halvings: int) -> None:
    out = adapter(halvings=halvings)(torch.randn(2, 3, 4 << halvings, 6 << halvings), drawn())
    assert out.shape == (2, 8, *GRID)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2, *GRID))


def test_the_picture_and_each_map_count() -> None:
    network, picture, maps = adapter(), torch.randn(2, 3, 16, 24), drawn()
    out = network(picture, maps)
    assert (network(picture + 1, maps) - out).abs().max() > 1e-3
    for number in range(2):
        changed = [values.flip(2) if position == number else values for position, values in enumerate(maps)]
        assert (network(picture, changed) - out).abs().max() > 1e-3


def test_how_strong_a_map_is_does_not_count() -> None:
    network = adapter(picture=0)
    maps = drawn()
    torch.testing.assert_close(network(None, [maps[0] * 50, maps[1] / 50]), network(None, maps))


def test_a_picture_alone_and_maps_alone() -> None:
    assert adapter(maps=())(torch.randn(1, 3, 16, 24), ()).shape == (1, 8, *GRID)
    assert adapter(picture=0)(None, drawn()).shape == (2, 8, *GRID)


def test_the_blocks_together_see_twelve_cells_each_way() -> None:
    blocks = nn.Sequential(*[Residual(8, dilation=dilation) for dilation in DILATIONS])
    for block in blocks:
        assert isinstance(block, Residual)
        block.norms = nn.ModuleList([nn.Identity(), nn.Identity()])  # a norm sees the whole map
    x = torch.randn(1, 8, 1, 41, requires_grad=True)
    blocks(x)[0, :, 0, 20].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == (8, 32)


@pytest.mark.parametrize(("picture", "given"), [((12, 24), "12 x 24"), (None, "none")])
def test_a_picture_that_does_not_come_to_the_grid_is_refused(picture: tuple[int, int] | None, given: str) -> None:
    values = None if picture is None else torch.randn(2, 3, *picture)
    with pytest.raises(ConfigError, match=f"a grid of 4 x 6 cells takes pictures of 16 x 24 pixels, not {given}"):
        adapter(maps=())(values, ())


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 8, not 12"):
        adapter(width=12)
    with pytest.raises(ConfigError, match="a picture or a cached map"):
        adapter(picture=0, maps=())
