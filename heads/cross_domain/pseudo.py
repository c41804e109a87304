"""Pseudo exemplars: photographs that show what the target shows, so that their translation is known."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool

from matchkit.core.exemplar_batches import ExemplarBatch, Photographs
from matchkit.heads.cross_domain.distortion import distorted, draw_distortions
from matchkit.heads.cross_domain.matching import Match
from matchkit.heads.cross_domain.payloads import warped_payload


def never_itself(batch: ExemplarBatch, draw: torch.Generator) -> Photographs:
    """The exemplars, distorted where one is its own target: a copy would be answered by its place in the picture."""
    own = [one == other for one, other in zip(batch.targets.ids, batch.exemplars.ids, strict=True)]
    chosen: Bool[torch.Tensor, " b"] = torch.tensor(own)
    affine = draw_distortions(len(own), draw)
    return distorted(batch.exemplars, affine, chosen) if chosen.any() else batch.exemplars


def dressed(
    exemplars: Photographs,
    targets: Photographs,
    back: Match,
    *,
    payloads: Sequence[str],
    chosen: Bool[torch.Tensor, " b"],
) -> Photographs:
    """The chosen exemplars with their targets' looks: what the target shows, warped to where the exemplar has its like.

    Warped to the target again, they have made a detour by way of another thing, with all the errors of matching two
    things; a photograph of the target's own thing has few of them, so that little is learnt from it about mending.

    Args:
        exemplars: whose places are kept.
        targets: whose looks they are given.
        back: the match of the exemplars' conditions with the targets.
        payloads: what is dressed.
        chosen: which ones.
    """
    looks = {}
    for name in payloads:
        own = exemplars.payloads[name].to(back.keys)
        there = warped_payload(back, targets.payloads[name].to(back.keys))
        looks[name] = torch.where(chosen.to(own.device).view(-1, 1, 1, 1), there, own)
    return replace(exemplars, payloads={**exemplars.payloads, **looks})
