"""The mean over those that count."""

import pytest
import torch

from matchkit.heads.cross_domain.weighting import weighted_mean


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_a_constant_error_does_not_depend_on_the_batch(batch: int) -> None:
    """CoCosNet §7.2 no. 4: as published it is 1.0, 0.25 and 0.031."""
    weights = torch.zeros(batch)
    weights[: (batch + 1) // 2] = 1
    assert weighted_mean(torch.ones(batch), weights).item() == pytest.approx(1)


def test_what_does_not_count() -> None:
    values = torch.tensor([1.0, 50.0, 3.0])
    assert weighted_mean(values, torch.tensor([1.0, 0.0, 1.0])).item() == 2
    assert weighted_mean(values, torch.tensor([0.1, 0.0, 0.3])).item() == pytest.approx(2.5)
    assert weighted_mean(values).item() == 18


def test_none_that_counts() -> None:
    values = torch.ones(3, requires_grad=True)
    mean = weighted_mean(values, torch.zeros(3))
    mean.backward()
    assert mean.item() == 0
    assert values.grad is not None
    assert values.grad.abs().max() == 0
