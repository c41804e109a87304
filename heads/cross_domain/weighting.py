"""Losses of single samples, averaged over those that count."""

import torch
from jaxtyping import Float


def weighted_mean(
    values: Float[torch.Tensor, " b"], weights: Float[torch.Tensor, " b"] | None = None
) -> Float[torch.Tensor, ""]:
    """The mean of a batch's values; with weights, their weighted sum over the sum of the weights, once.

    It does not depend on how many samples of weight 0 there are: the published code divides by the number of pseudo
    pairs and then by the batch again (CoCosNet §7.2 no. 4). 0 where all weights are.
    """
    if weights is None:
        return values.mean()
    total = weights.sum()
    return (values * weights).sum() / total.where(total > 0, 1)
