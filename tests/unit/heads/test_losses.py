"""The symmetric cross-entropy against the published matrix form."""

import pytest
import torch
from torch.nn import functional

from matchkit.core.similarity import unit
from matchkit.heads.losses import (
    LOGIT_SCALE,
    contrastive,
    end_point_error,
    far_cells,
    neighbours,
    self_contrast,
    symmetric_cross_entropy,
)


def test_scale() -> None:
    assert pytest.approx(14.2857, abs=1e-4) == LOGIT_SCALE


def test_equals_the_published_full_matrix() -> None:
    """Hyperfeatures §5.1: 1/2 [mean CE(logits[s], t) + mean CE(logits^T[t], s)], duplicate cells kept."""
    torch.manual_seed(0)
    source, target = unit(torch.randn(36, 8)), unit(torch.randn(36, 8))
    s, t = torch.tensor([3, 3, 17, 35]), torch.tensor([0, 9, 9, 22])
    logits = LOGIT_SCALE * source @ target.T
    expected = (functional.cross_entropy(logits[s], t) + functional.cross_entropy(logits.T[t], s)) / 2
    torch.testing.assert_close(symmetric_cross_entropy(source, target, s, t), expected)


def test_is_symmetric_in_the_images() -> None:
    torch.manual_seed(1)
    source, target = unit(torch.randn(16, 4)), unit(torch.randn(16, 4))
    s, t = torch.tensor([1, 2]), torch.tensor([5, 0])
    torch.testing.assert_close(
        symmetric_cross_entropy(source, target, s, t), symmetric_cross_entropy(target, source, t, s)
    )


def test_contrastive_golden() -> None:
    """Geoaware §3.1."""
    k = torch.arange(32, dtype=torch.float64).reshape(4, 8)
    source, target = unit(torch.cos(0.7 * k)), unit(torch.sin(0.5 * k + 1))
    loss = contrastive(source, target, torch.tensor(LOGIT_SCALE, dtype=torch.float64))
    assert loss.item() == pytest.approx(9.575306934753456, rel=2e-8)


def test_end_point_error_of_a_sharp_and_of_a_flat_soft_argmax() -> None:
    target = torch.eye(12)  # a grid of 3 x 4: cell n is the only one with channel n
    source = target[[6, 1]]  # found at (2, 1) and (1, 0)
    cells = torch.tensor([0, 5])  # keypoints in the cells (0, 0) and (1, 1)
    flow = torch.tensor([[2.0, 1.0], [0.0, -1.0]])
    sharp = end_point_error(source, target, flow, cells, grid=(3, 4), temperature=0.02)
    assert sharp.item() == pytest.approx(0, abs=1e-5)
    further = end_point_error(source, target, flow + torch.tensor([3.0, 4.0]), cells, grid=(3, 4), temperature=0.02)
    assert further.item() == pytest.approx(5, abs=1e-5)
    # so hot that the expectation is the grid's centre (1.5, 1)
    flat = end_point_error(source[:1], target, torch.zeros(1, 2), cells[:1], grid=(3, 4), temperature=1e6)
    assert flat.item() == pytest.approx((1.5**2 + 1) ** 0.5, abs=1e-4)


def plain_self_contrast(maps: torch.Tensor, far: torch.Tensor) -> float:
    """What `self_contrast` is told to be, a cell at a time."""
    images, _, height, width = maps.shape
    total = 0.0
    for image, y, x in ((i, y, x) for i in range(images) for y in range(height) for x in range(width)):
        own = maps[image, :, y, x]
        near = [
            functional.cosine_similarity(own, maps[image, :, ny, nx], dim=0).item()
            for ny in range(max(y - 1, 0), min(y + 2, height))
            for nx in range(max(x - 1, 0), min(x + 2, width))
            if (ny, nx) != (y, x)
        ]
        other = int(far[image, y * width + x])
        away = functional.cosine_similarity(own, maps[image, :, other // width, other % width], dim=0).item()
        total += 1 - sum(near) / len(near) + 0.1 * away
    return total / (images * height * width)


def test_self_contrast_equals_a_plain_loop() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 6, 4, 5) * 3
    far, there = far_cells(neighbours((4, 5)), images=2, draw=torch.Generator().manual_seed(3))
    assert there.all()
    loss = self_contrast(maps, draw=torch.Generator().manual_seed(3))
    assert loss.item() == pytest.approx(plain_self_contrast(maps, far), abs=1e-6)
    assert self_contrast(maps, draw=torch.Generator().manual_seed(4)).item() != loss.item()


def test_far_cells_are_all_cells_that_are_no_neighbours_alike_often() -> None:
    beside = neighbours((4, 5))
    far, _ = far_cells(beside, images=4000, draw=torch.Generator().manual_seed(0))
    for cell in (0, 2, 7, 19):
        allowed = set(range(20)) - {cell} - set(beside[cell].tolist())
        counts = torch.bincount(far[:, cell], minlength=20)
        assert set(counts.nonzero().flatten().tolist()) == allowed
        expected = 4000 / len(allowed)
        assert (counts[sorted(allowed)] - expected).abs().max() < 5 * expected**0.5


def test_neighbours_of_a_corner_and_of_an_inner_cell() -> None:
    beside = neighbours((3, 4))
    assert beside[0].tolist() == [-1, -1, -1, -1, 1, -1, 4, 5]
    assert beside[5].tolist() == [0, 1, 2, 4, 6, 8, 9, 10]


def test_its_gradient_pulls_neighbours_together() -> None:
    torch.manual_seed(1)
    maps = torch.randn(1, 8, 6, 6, requires_grad=True)

    def likeness(values: torch.Tensor) -> float:
        flat = functional.normalize(values, dim=1)
        return (flat[..., 1:] * flat[..., :-1]).sum(1).mean().item()

    self_contrast(maps, draw=torch.Generator().manual_seed(0)).backward()
    assert maps.grad is not None
    assert likeness(maps.detach() - 50 * maps.grad) > likeness(maps.detach()) + 0.05


def test_cells_that_are_all_neighbours_have_no_far_term() -> None:
    maps = torch.ones(1, 3, 2, 2)
    assert self_contrast(maps, draw=torch.Generator()).item() == pytest.approx(0, abs=1e-6)
    alike = self_contrast(torch.ones(1, 3, 6, 6), draw=torch.Generator()).item()
    assert alike == pytest.approx(0.1, abs=1e-6)
