"""How CoCosNet's networks begin.

Source: the public code of Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571); CoCosNet §2.3.
"""

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

GAIN = 0.02
"""Of the xavier-normal weights, as published."""


def initialise(network: nn.Module, *, gain: float = GAIN) -> None:
    """Draws the weights of every convolution and linear layer anew, xavier-normal, and sets their biases to 0.

    Under a spectral norm it is the weight before the norm that is drawn: what the layer computes does not depend on its
    scale, but how far a step of the optimiser moves it does. Parameters stay the same objects, everything else as it is
    (the gain of a non-local block at 0).

    Args:
        network: with spectral norms as its only parametrisations.
        gain: of the weights.
    """
    for layer in list(network.modules()):
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        normed = parametrize.is_parametrized(layer, "weight")
        if normed:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        nn.init.xavier_normal_(layer.weight, gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if normed:  # the norm's estimate was of the old weight
            spectral_norm(layer)
