"""The terms by which a matching between two domains is learnt, without a point being annotated.

Source: the losses of Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571), as they are without a generator (CoCosNet
§6.2). `contrast` is of this project: the matching itself, told by copies whose distortion is known.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from matchkit.heads.cross_domain.weighting import weighted_mean

SCALE = 1 / 0.07
"""Of the contrast's cosines. Source: van den Oord et al. 2018, as CLIP begins."""
LEAST = 1e-6
"""Share of a class below which its logarithm is not taken further."""
Maps = Float[torch.Tensor, "b c gh gw"]
Scalar = Float[torch.Tensor, ""]


def domain(condition: Maps, photograph: Maps) -> Scalar:
    """How far a condition and its own photograph are apart in the space of both: L_domain.

    The mean absolute difference of unit vectors, times the root of their width: a weight means the same at any width.
    """
    apart: torch.Tensor = (condition - photograph).abs().mean() * float(condition.shape[1]) ** 0.5
    return apart


def semantic(warped: Maps, own: Maps) -> Scalar:
    """One minus the cosine of the exemplar's warped features with the target's own: L_perc without a generator."""
    return (1 - functional.cosine_similarity(warped, own, dim=1)).mean()


def of_same(warped: Maps, own: Maps, same: Bool[torch.Tensor, " b"], *, squared: bool = False) -> Scalar:
    """The mean absolute difference of warped pseudo exemplars from their targets: L_feat, and the code's L_warpself.

    Args:
        warped: what was made of all exemplars.
        own: the targets.
        same: which of them are pseudo exemplars.
        squared: whether differences are squared instead.
    """
    apart = (warped - own).square() if squared else (warped - own).abs()
    return weighted_mean(apart.mean((1, 2, 3)), same.to(warped))


def cycle(returned: Maps, exemplar: Maps) -> Scalar:
    """The mean absolute difference of an exemplar from what comes back of it: L_reg."""
    return (returned - exemplar).abs().mean()


def parts(warped: Maps, own: Maps, exemplar: Maps) -> Scalar:
    """The negative logarithm of the share of the right class in the exemplar's warped parts: L_mask.

    Cells of a class that the exemplar does not show do not count. The published code leaves out class 0 too, which of
    its datasets means unknown; here it is the background, and counts.

    Args:
        warped: one-hot parts of the exemplar, warped.
        own: those of the target.
        exemplar: those of the exemplar, as they were.
    """
    shares = (warped * own).sum(1).clamp_min(LEAST)
    shown = (exemplar.sum((2, 3), keepdim=True) > 0).to(own)
    return weighted_mean(-shares.log().flatten(), (own * shown).sum(1).flatten())


def contrast(
    queries: Float[torch.Tensor, "b cells d"],
    keys: Float[torch.Tensor, "b cells d"],
    *,
    cells: Int[torch.Tensor, "b cells"],
    inside: Bool[torch.Tensor, "b cells"],
    sampled: Int[torch.Tensor, " n"],
) -> Scalar:
    """The cross-entropy of some cells' right match in a distorted copy of their own photograph.

    Against an undistorted one the place in the picture would be answer enough.

    Args:
        queries: of the conditions.
        keys: of the copies.
        cells: in which of the copy's cells each one lies.
        inside: whether it does.
        sampled: the cells that are asked.
    """
    logits = SCALE * queries[:, sampled] @ keys.transpose(1, 2)
    losses = functional.cross_entropy(logits.flatten(0, 1), cells[:, sampled].flatten(), reduction="none")
    return weighted_mean(losses, inside[:, sampled].flatten().to(losses))
