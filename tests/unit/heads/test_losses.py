"""The symmetric cross-entropy against the published matrix form."""

import pytest
import torch
from torch.nn import functional

from matchkit.core.similarity import unit
from matchkit.heads.losses import LOGIT_SCALE, contrastive, end_point_error, symmetric_cross_entropy


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
