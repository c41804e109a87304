"""Conditions and exemplars to pictures with a fitted head: what `translate` shows, and what an evaluation measures."""

from dataclasses import dataclass

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, PHOTO, Photographs
from matchkit.extract.backbones.latent_decoder import LatentDecoder
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.matching import Match
from matchkit.heads.cross_domain.payloads import warped_payload
from matchkit.heads.cross_domain.translator import Translator


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of some conditions, each with an exemplar.

    Attributes:
        match: where in the exemplar each cell of the condition lies.
        warp: the exemplar's photograph where the condition wants it, in [0, 1].
        confidence: of the match, in [0, 1].
        picture: the translator's, in [0, 1] at a size of its own; of a head that only matches, the warp.
    """

    match: Match
    warp: Float[torch.Tensor, "b 3 h w"]
    confidence: Float[torch.Tensor, "b gh gw"]
    picture: Float[torch.Tensor, "b 3 _ _"]


class Translating:
    """A fitted head that translates; its networks are put into evaluation.

    Args:
        head: a cross-domain head, or a translator with its own.
        latents: the VAE that makes pictures of latents; None for a head that paints none.
        device: on which is computed, and what comes out lies there.

    Raises:
        ConfigError: the head paints latents and is given no VAE.
    """

    def __init__(self, head: CrossDomain | Translator, *, latents: LatentDecoder | None, device: torch.device) -> None:
        painter = head if isinstance(head, Translator) else None
        if painter is not None and painter.params.paints == LATENT and latents is None:
            raise ConfigError(
                "this translator paints latents and is given no VAE that decodes them: hand one over with the weights "
                "of its sd-latents"
            )
        head.to(device)
        self._painter, self._latents = painter, latents
        self._matcher = head.matcher if isinstance(head, Translator) else head
        self._matcher.network.eval()

    @property
    def paints(self) -> bool:
        """Whether its pictures are more than the warp."""
        return self._painter is not None

    @torch.no_grad()
    def __call__(self, condition: Float[torch.Tensor, "b c h w"], exemplars: Photographs) -> Translation:
        """Translates conditions, as a network is given them, with an exemplar each.

        Raises:
            ConfigError: a payload that does not go with the grid, or latents of another VAE.
        """
        match = self._matcher.match(condition, exemplars)
        photo = exemplars.payloads[PHOTO].to(match.keys)
        warp = from_signed(warped_payload(match, photo))
        return Translation(match, warp, match.confidence(), self._picture(condition, exemplars, warp))

    def _picture(
        self, condition: Float[torch.Tensor, "b c h w"], exemplars: Photographs, warp: Float[torch.Tensor, "b 3 _ _"]
    ) -> Float[torch.Tensor, "b 3 _ _"]:
        if self._painter is None:
            return warp
        made = self._painter.paint(condition, exemplars).made
        if self._painter.params.paints == PHOTO:
            return from_signed(made)
        assert self._latents is not None
        return self._latents.decode(made).to(made.device)


def from_signed(pixels: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b c h w"]:
    """Pixels in [-1, 1], as payloads are, in [0, 1]; what is painted beyond is cut off."""
    return (pixels / 2 + 0.5).clamp(0, 1)
