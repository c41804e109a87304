"""Adversarial losses by hand."""

import pytest
import torch

from matchkit.heads.cross_domain.adversarial import feature_matching, hinge_discriminator, hinge_generator
from matchkit.heads.cross_domain.discriminator import Judged


def logits(*scales: list[float]) -> Judged:
    return tuple((torch.tensor(values)[None, None, None],) for values in scales)


def test_hinge_of_the_discriminator() -> None:
    """Scale 1: (0 + 0 + 0.5 + 3) / 4 and (0 + 1 + 2.5 + 0) / 4; scale 2: 1 and 1."""
    real, fake = logits([2.0, 1.0, 0.5, -2.0], [0.0]), logits([-3.0, 0.0, 1.5, -1.0], [0.0])
    assert hinge_discriminator(real, fake).item() == pytest.approx(((3.5 + 3.5) / 4 + 2) / 2)
    assert hinge_discriminator(logits([1.0, 5.0]), logits([-1.0, -9.0])).item() == 0


def test_hinge_of_the_generator() -> None:
    """A scale of many logits weighs no more than one of a few."""
    assert hinge_generator(logits([2.0, 1.0, 0.0, -5.0], [3.0])).item() == pytest.approx((0.5 - 3) / 2)


def test_only_the_last_map_is_judged() -> None:
    def deep(*scales: list[float]) -> Judged:
        return tuple((torch.full((1, 2, 3, 3), 9.0), *maps) for maps in logits(*scales))

    real, fake = [0.5], [0.25]
    assert hinge_discriminator(deep(real), deep(fake)) == hinge_discriminator(logits(real), logits(fake))
    assert hinge_generator(deep(fake)) == hinge_generator(logits(fake))


def judged(*differences: float) -> tuple[Judged, Judged]:
    """Two scales of two inner maps and logits; of each sample the maps differ by another constant."""
    torch.manual_seed(0)
    by = torch.tensor(differences)[:, None, None, None]
    sizes = ((2, 6), (4, 3), (1, 2)), ((2, 3), (4, 2), (1, 1))
    real = tuple(tuple(torch.randn(len(by), c, side, side) for c, side in scale) for scale in sizes)
    fake = tuple((scale[0] + by, scale[1] - 2 * by, scale[2] + 100) for scale in real)
    return fake, real


def test_feature_matching_sums_layers_and_averages_scales() -> None:
    assert feature_matching(*judged(1.0)).item() == pytest.approx(3, rel=1e-5)
    assert feature_matching(*judged(1.0, 0.0, 2.0)).item() == pytest.approx(3, rel=1e-5)


def test_feature_matching_of_some_pairs_alone() -> None:
    fake, real = judged(1.0, 7.0, 2.0)
    assert feature_matching(fake, real, weights=torch.tensor([1.0, 0, 1])).item() == pytest.approx(4.5, rel=1e-5)
    assert feature_matching(fake, real, weights=torch.zeros(3)).item() == 0


def test_the_gradient_goes_to_the_made_pictures_alone() -> None:
    fake, real = (torch.randn(1, 2, 3, 3, requires_grad=True) for _ in range(2))
    feature_matching(((fake, fake),), ((real, real),)).backward()
    assert real.grad is None
    assert fake.grad is not None
