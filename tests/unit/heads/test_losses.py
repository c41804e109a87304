"""The symmetric cross-entropy against the published matrix form."""

import pytest
import torch
from torch.nn import functional

from matchkit.core.similarity import unit
from matchkit.heads.losses import LOGIT_SCALE, symmetric_cross_entropy


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
