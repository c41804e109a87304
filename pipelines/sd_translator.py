"""Stable Diffusion as the translator of a fitted head: what its match warps is denoised under the condition.

Source: CoCosNet §6.2, translator T3, and MIDMs (Seo et al., AAAI 2023, arXiv 2209.11047) for matching again meanwhile.
"""

import logging

import torch
from jaxtyping import Float
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, Photographs
from matchkit.core.spec import FeatureSpec
from matchkit.extract.backbones.sd_translation import Accepted, Rematch, SDTranslation, SDTranslationParams
from matchkit.extract.backbones.stable_diffusion import Latents
from matchkit.extract.backbones.taps import Tapped
from matchkit.heads.cross_domain.head import CrossDomain
from matchkit.heads.cross_domain.matching import Match, centred
from matchkit.heads.cross_domain.payloads import warped_payload
from matchkit.heads.cross_domain.translator import Translator
from matchkit.pipelines.exemplar_inputs import ShownExemplar

TRUSTED = 0.5
"""The share of a latent's cells in the grid whose match must return for the latent's cell to be replaced."""
OUT = ".out"
"""How layers end at which no hook applies."""
Pictures = Float[torch.Tensor, "b 3 _ _"]
log = logging.getLogger(__name__)


class SDTranslator:
    """The translator `sd` behind a fitted head.

    Args:
        params: of Stable Diffusion.
        matcher: the head.
        spec: of the features that it was fitted on.
        filling: a translator of latents for cells whose match is not trusted; None where noise fills them.
        device: on which is computed.

    Raises:
        ConfigError: parameters that contradict each other, or a head that cannot match what Stable Diffusion sees.
        WeightsError: weights that are not there, or do not fit each other.
    """

    def __init__(
        self,
        params: SDTranslationParams,
        matcher: CrossDomain,
        *,
        spec: FeatureSpec,
        filling: Translator | None,
        device: torch.device,
    ) -> None:
        self._network = SDTranslation(params, device=device)
        self._params, self._matcher, self._filling = params, matcher, filling
        if params.interleave:
            _require_same_maps(params, matcher, spec, self._network)

    def __call__(
        self,
        condition: Float[torch.Tensor, "b c _ _"],
        exemplars: ShownExemplar,
        match: Match,
        *,
        drawn: Pictures,
    ) -> Pictures:
        """The pictures in [0, 1], on the CPU; the noise of each is drawn by its exemplar's id.

        Args:
            condition: as the head is given it.
            exemplars: with their latents, and as pictures for an IP-Adapter.
            match: of both, by the head.
            drawn: the condition as pictures in [0, 1], for a ControlNet.

        Raises:
            ConfigError: latents of another size than the pipeline's.
        """
        photographs = exemplars.photographs
        theirs = photographs.payloads[LATENT].to(match.keys)
        filled = None if self._filling is None else self._filling.paint(condition, photographs).made
        translated = self._network(
            warped_payload(match, theirs),
            on_latent(match.confidence(), theirs),
            photographs.ids,
            condition=drawn,
            exemplar=exemplars.picture,
            fallback=filled,
            rematch=rematching(self._matcher, photographs) if self._params.interleave else None,
        )
        return translated.pictures.permute(0, 3, 1, 2).float() / 255


def rematching(matcher: CrossDomain, exemplars: Photographs) -> Rematch:
    """Matches what Stable Diffusion sees of its own prediction with what it saw of the exemplars.

    Both sides go through the adapter of photographs. A match is taken where it leads back.
    """
    keys = centred(matcher.describe(exemplars.maps, exemplars.ids))
    latent = exemplars.payloads[LATENT].to(keys)
    fitted = matcher.timesteps[0]

    def rematch(timestep: int, clean: Latents, maps: Tapped) -> tuple[Latents, Accepted]:
        if timestep != fitted:
            log.warning("matching again at timestep %d with a head that was fitted at %d", timestep, fitted)
        current = {name: maps[name][:, None] for name in matcher.layers}
        match = Match(centred(matcher.describe(current, exemplars.ids)), keys, matcher.grid, matcher.params.temperature)
        trusted = on_latent(match.returned().float(), latent) >= TRUSTED
        return warped_payload(match, latent), trusted

    return rematch


def on_latent(values: Float[torch.Tensor, "b gh gw"], latent: Latents) -> Float[torch.Tensor, "b zh zw"]:
    """Values of the cells of a head's grid as means over the cells of a latent."""
    return functional.adaptive_avg_pool2d(values[:, None], (latent.shape[2], latent.shape[3]))[:, 0]


def _require_same_maps(
    params: SDTranslationParams, matcher: CrossDomain, spec: FeatureSpec, network: SDTranslation
) -> None:
    """Refuses to match again by a head that was fitted on other maps than those of the pipeline's own calls."""
    told = matcher.params
    wanted = [spec.layer(name) for name in matcher.layers]
    hooked = any(not name.endswith(OUT) for name in matcher.layers)
    lacking = [layer.name for layer in wanted if layer not in network.layers]
    reasons = {
        f"it was fitted on features of {spec.backbone}": spec.backbone != "sd-noise",
        f"of its layers {', '.join(lacking)} are not handed over at that size": bool(lacking),
        f"its maps are read at the hook '{spec.options.get('hook')}', not at '{params.hook}'": hooked
        and spec.options.get("hook") != params.hook,
        f"its maps are of other weights than '{params.weights}'": not network.checksum.startswith(spec.weights),
        "it sees the photographs themselves": bool(told.photo_side) or told.adapters == "paper",
    }
    for reason, holds in reasons.items():
        if holds:
            raise ConfigError(
                f"interleave {params.interleave} matches the UNet's own maps again, which this head cannot: {reason}. "
                "Fit one on features of sd-noise of the same weights, at the timestep of the step, with layers and "
                "hook as the translator's (matchkit extract --backbone sd-noise --set timesteps=[...] --set "
                "layers=[...] --set hook=...), or set interleave=0"
            )
