"""The contextual loss against its formula."""

import math

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from matchkit.core.errors import ConfigError
from matchkit.heads.cross_domain.contextual import contextual


def plain(x: torch.Tensor, y: torch.Tensor) -> float:
    """CoCosNet §3, a position at a time; centred by the mean over the exemplar's positions."""
    losses = []
    for of_x, of_y in zip(x.flatten(2), y.flatten(2), strict=True):
        mean = of_y.mean(1, keepdim=True)
        a, b = of_x - mean, of_y - mean
        best = []
        for i in range(a.shape[1]):
            cosines = torch.stack([torch.dot(a[:, i], v) / (a[:, i].norm() * v.norm()) for v in b.T])
            relative = (1 - cosines) / ((1 - cosines).min() + 1e-3)
            weights = ((1 - relative) / 0.1).exp()
            best.append((weights / weights.sum()).max().item())
        losses.append(-math.log(sum(best) / len(best)))
    return sum(losses) / len(losses)


def sets(*, same: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64) + 3
    return x, x.clone() if same else torch.randn(2, 8, 3, 7, dtype=torch.float64) - 1


def test_equals_the_formula() -> None:
    x, y = sets()
    assert contextual(x, y).item() == pytest.approx(plain(x, y), rel=1e-9)
    assert contextual(y, x).item() != pytest.approx(plain(x, y), rel=1e-2)


def test_equal_sets_have_no_loss() -> None:
    x, y = sets(same=True)
    assert contextual(x, y).item() == pytest.approx(0, abs=1e-9)
    assert contextual(x.float(), y.float()).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("same", [True, False])
def test_the_order_of_the_exemplars_positions_does_not_count(*, same: bool) -> None:
    x, y = sets(same=same)
    shuffled = y.flatten(2)[..., torch.randperm(y[0, 0].numel())].unflatten(2, y.shape[2:])
    assert contextual(x, shuffled).item() == pytest.approx(contextual(x, y).item(), abs=1e-9)


@pytest.mark.parametrize("rows", [1, 7, 20])
def test_blocks_change_neither_the_loss_nor_its_gradients(rows: int) -> None:
    x, y = (values.requires_grad_() for values in sets())
    at_once = torch.autograd.grad(contextual(x, y), [x, y])
    blocks = torch.autograd.grad(contextual(x, y, rows=rows), [x, y])
    torch.testing.assert_close(blocks, at_once)


def test_no_more_than_a_block_is_kept_for_the_gradient() -> None:
    sizes: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    x = torch.randn(1, 4, 16, 16, requires_grad=True)
    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = contextual(x, torch.randn(1, 4, 16, 16), rows=32)
    assert max(sizes) < 32 * 256
    loss.backward()
    assert max(sizes) <= 32 * 256


def test_other_parameters() -> None:
    x, y = sets()
    assert contextual(x, y, bandwidth=1e6).item() == pytest.approx(math.log(21), abs=1e-4)
    assert contextual(x, y, epsilon=10.0).item() > contextual(x, y, epsilon=1e-3).item()


def test_a_sample_of_the_pictures_positions() -> None:
    x, y = sets()
    losses = [contextual(x, y, sample=5, draw=torch.Generator().manual_seed(seed)).item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    chosen = torch.randperm(20, generator=torch.Generator().manual_seed(0))[:5]
    picked = x.flatten(2)[..., chosen][:, :, None]
    assert losses[0] == pytest.approx(plain(picked, y), rel=1e-9)
    assert contextual(x, y, sample=20).item() == contextual(x, y).item()


def test_a_sample_of_equal_sets_has_no_loss() -> None:
    x, y = sets(same=True)
    assert contextual(x, y, sample=5, draw=torch.Generator()).item() == pytest.approx(0, abs=1e-9)


def test_a_sample_needs_a_generator() -> None:
    with pytest.raises(ConfigError, match="a sample of 5 of 20 positions needs a generator"):
        contextual(*sets(), sample=5)


def test_its_gradient_draws_the_picture_to_the_exemplar() -> None:
    x, y = sets()
    x.requires_grad_()
    before = contextual(x, y)
    before.backward()
    assert x.grad is not None
    assert contextual(x.detach() - 50 * x.grad, y).item() < 0.6 * before.item()
