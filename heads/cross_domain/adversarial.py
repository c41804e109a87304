"""What generator and discriminator want of each other.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571); CoCosNet §3. Every loss is averaged over the scales.
"""

import torch
from jaxtyping import Float
from torch.nn import functional

from matchkit.heads.cross_domain.discriminator import Judged
from matchkit.heads.cross_domain.weighting import weighted_mean


def hinge_discriminator(real: Judged, fake: Judged) -> Float[torch.Tensor, ""]:
    """How far logits of real pictures are below 1, plus how far those of made ones are above -1."""
    terms = [
        functional.relu(1 - of_real[-1]).mean() + functional.relu(1 + of_fake[-1]).mean()
        for of_real, of_fake in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def hinge_generator(fake: Judged) -> Float[torch.Tensor, ""]:
    """Minus the logits of made pictures."""
    return -torch.stack([maps[-1].mean() for maps in fake]).mean()


def feature_matching(
    fake: Judged, real: Judged, *, weights: Float[torch.Tensor, " b"] | None = None
) -> Float[torch.Tensor, ""]:
    """The mean absolute difference of each of the discriminator's inner maps, summed over the layers.

    Published for all pairs. Where the exemplar is another one than the photograph it works against the exemplar's
    style (CoCosNet §7.2 no. 6); with a weight of 1 for pseudo pairs and 0 for the others, only those count.

    Args:
        fake: of made pictures; the gradient goes here alone.
        real: of the photographs that belong to their conditions.
        weights: of the samples; None for all alike.
    """
    terms = []
    for of_fake, of_real in zip(fake, real, strict=True):
        differences = [
            (made - true.detach()).abs().mean((1, 2, 3)) for made, true in zip(of_fake[:-1], of_real[:-1], strict=True)
        ]
        terms.append(weighted_mean(torch.stack(differences).sum(0), weights))
    return torch.stack(terms).mean()
