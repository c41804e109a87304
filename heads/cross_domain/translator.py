"""A condition and a warped exemplar to a picture, or to a latent of it: CoCosNet's translation network as a head.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571), §3.2; painting latents after MIDMs (Seo et al., AAAI 2023,
arXiv 2209.11047). CoCosNet §2, §3, §6.2.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import LATENT, PHOTO, ExemplarBatch, Photographs
from matchkit.core.interfaces import Maps
from matchkit.core.params import build
from matchkit.core.seeding import generator
from matchkit.core.spec import FeatureSpec
from matchkit.heads.cross_domain import adversarial, terms
from matchkit.heads.cross_domain.discriminator import Discriminator, Judged
from matchkit.heads.cross_domain.generator import Generator
from matchkit.heads.cross_domain.head import CrossDomain, Terms
from matchkit.heads.cross_domain.initialise import initialise
from matchkit.heads.cross_domain.matching import Match
from matchkit.heads.cross_domain.payloads import warped_payload
from matchkit.heads.cross_domain.perceptual import PictureFeatures, context_loss, feature_loss, perceptual_loss
from matchkit.heads.cross_domain.pseudo import dressed, never_itself
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.cross_domain.translator_settings import SEEING, TranslatorParams

Payload = Float[torch.Tensor, "b c h w"]


@dataclass(frozen=True, slots=True)
class Painted:
    """What was made of some conditions: a photograph in [-1, 1] or a latent, and what the network was shown of it."""

    made: Payload
    shown: Payload


class Translator:
    """The head: what its cross-domain head warps, a generator paints.

    Attributes:
        params: what it was told.
        matcher: the cross-domain head.
        network: generator and discriminator, if there is one.
        grid, layers, timesteps: those of the cross-domain head.
    """

    Params = TranslatorParams

    def __init__(self, params: TranslatorParams, *, spec: FeatureSpec) -> None:
        self.params = params
        told = build(CrossDomainParams, params.matcher, where="translator matcher")
        self.matcher = CrossDomain(told, spec=spec)
        self.grid, self.layers, self.timesteps = self.matcher.grid, self.matcher.layers, self.matcher.timesteps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            self.network = _networks(params, condition=told.channels)
        self._features: PictureFeatures | None = None

    @property
    def payloads(self) -> tuple[str, ...]:
        """The photograph, and what is painted."""
        return (PHOTO,) if self.params.paints == PHOTO else (PHOTO, LATENT)

    def see_with(self, features: PictureFeatures) -> None:
        """Takes the network that looks at the pictures."""
        self._features = features

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """The keys of its cross-domain head."""
        return self.matcher.describe(maps, ids)

    def paint(self, condition: Float[torch.Tensor, "b c h w"], exemplars: Photographs) -> Painted:
        """Translates conditions with an exemplar each."""
        self._at_rest()
        with torch.no_grad():
            return self._paint(condition, self.matcher.match(condition, exemplars), exemplars)

    def _at_rest(self) -> None:
        self.network.eval()
        self.matcher.network.eval()

    def _paint(self, condition: Float[torch.Tensor, "b c h w"], match: Match, exemplars: Photographs) -> Painted:
        theirs = exemplars.payloads[self.params.paints].to(match.queries.device)
        shown = self._shown(match, theirs)
        told = functional.interpolate(condition.to(shown), size=shown.shape[2:], mode="nearest-exact")
        painted = self.network["generator"](shown, told)
        if self.params.base:
            return Painted(self.network["base"](shown) + painted, shown)
        return Painted(painted.tanh() if self.params.paints == PHOTO else painted, shown)

    def _shown(self, match: Match, payload: Payload) -> Payload:
        if self.params.shown == "warp":
            return warped_payload(match, payload)
        mean = payload.mean((2, 3), keepdim=True).expand_as(payload)
        return mean if self.params.shown == "mean" else torch.zeros_like(payload)

    def loss(self, batch: ExemplarBatch) -> Terms:
        """The weighted terms of generator and discriminator, and of the head if it is trained too, with their sum.

        Each network's terms move that network alone, so that one step serves all of them.
        """
        self.network.train()
        found = self._of_head(batch)
        with torch.set_grad_enabled(self.params.joint):
            match, exemplars, same = self._matched(batch)
        made = self._paint(batch.targets.condition, match, exemplars).made
        own = batch.targets.payloads[self.params.paints].to(made)
        if self.params.same:
            found["same"] = self.params.same * terms.of_same(made, own, same, squared=self.params.squared)
        found |= self._seen(made, own, exemplars, same.to(made))
        found |= self._judged(made, own, batch, same.to(made))
        return found | {"total": torch.stack(list(found.values())).sum()}

    def _matched(self, batch: ExemplarBatch) -> tuple[Match, Photographs, Bool[torch.Tensor, " b"]]:
        """The match that a batch is painted by, with exemplars, and which of these are pseudo exemplars."""
        # an exemplar that is its own target would have nothing but copying learnt
        exemplars = never_itself(batch, generator(self.params.seed, "translator", batch.number))
        match = self.matcher.match(batch.targets.condition, exemplars)
        same: Bool[torch.Tensor, " b"] = batch.same.to(match.keys.device)
        if not self.params.detour or same.all():
            return match, exemplars, same
        with torch.no_grad():
            back = self.matcher.match(exemplars.condition, batch.targets)
            looks = dressed(exemplars, batch.targets, back, payloads=self.payloads, chosen=~same)
        return match, looks, torch.ones_like(same)

    def _of_head(self, batch: ExemplarBatch) -> Terms:
        if not (self.params.joint and self.matcher.params.learns):
            return {}
        of_head = self.matcher.loss(batch)
        return {f"head.{name}": term for name, term in of_head.items() if name != "total"}

    def _seen(self, made: Payload, own: Payload, exemplars: Photographs, pseudo: Float[torch.Tensor, " b"]) -> Terms:
        """The losses of the network that looks at the pictures."""
        params = self.params
        if not params.sees:
            return {}
        if self._features is None:
            raise ConfigError(f"translator: {', '.join(SEEING)} need a network that looks: none was given")
        of_made, of_own, of_exemplar = (
            self._features((pictures + 1) / 2) for pictures in (made, own, exemplars.payloads[PHOTO].to(made))
        )
        found: Terms = {}
        if params.feature:
            found["feature"] = params.feature * feature_loss(of_made, of_own, pseudo=pseudo)
        if params.perceptual:
            layer = params.perceptual_layer or list(of_made)[-2:][0]
            found["perceptual"] = params.perceptual * perceptual_loss(of_made, of_own, layer=layer)
        if params.context:
            found["context"] = params.context * context_loss(of_made, of_exemplar)
        return found

    def _judged(self, made: Payload, own: Payload, batch: ExemplarBatch, pseudo: Float[torch.Tensor, " b"]) -> Terms:
        """The losses of the game between generator and discriminator."""
        weight = self.params.adversarial
        if not weight:
            return {}
        condition = functional.interpolate(batch.targets.condition.to(made), size=made.shape[2:], mode="nearest-exact")
        judge = self.network["judge"]
        frozen = {name: parameter.detach() for name, parameter in judge.named_parameters()}
        of_made: Judged = functional_call(judge, frozen, (torch.cat([condition, made], 1),))
        real: Judged = judge(torch.cat([condition, own], 1))
        fake: Judged = judge(torch.cat([condition, made.detach()], 1))
        found = {
            "adversarial": weight * adversarial.hinge_generator(of_made),
            "judge": weight * adversarial.hinge_discriminator(real, fake),
        }
        if self.params.gan_feature:
            matched = adversarial.feature_matching(of_made, real, weights=pseudo)
            found["gan_feature"] = self.params.gan_feature * matched
        return found

    @torch.no_grad()
    def quality(self, batch: ExemplarBatch) -> float:
        """The signal-to-noise ratio in decibels to the targets of pseudo exemplars, of values 2 apart."""
        self._at_rest()
        match, exemplars, same = self._matched(batch)
        made = self._paint(batch.targets.condition, match, exemplars).made
        error = (made - batch.targets.payloads[self.params.paints].to(made)).square().mean((1, 2, 3))
        return float((10 * (4 / error[same].clamp_min(1e-10)).log10()).mean())

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """The generator's parameters, with the head's where it is trained; and the discriminator's."""
        params = self.params
        adam = {"betas": (params.beta1, params.beta2)}
        making = [network for name, network in self.network.items() if name != "judge"]
        made_by = [parameter for network in making for parameter in network.parameters()]
        if params.joint:
            made_by += [*self.matcher.network.parameters()]
        yield {"params": made_by, "rate": params.generator_rate, "eps": params.epsilon, **adam}
        if params.adversarial:
            yield {"params": [*self.network["judge"].parameters()], "rate": params.judge_rate, "eps": 1e-8, **adam}

    def state_dict(self) -> dict[str, Any]:
        """The parameters by name, the head's too."""
        return self._all().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes parameters by name, strictly."""
        return self._all().load_state_dict(state)

    def begin_with(self, state: Mapping[str, Any]) -> None:
        """Takes the parameters of a fitted cross-domain head."""
        self.matcher.load_state_dict(state)

    def _all(self) -> nn.ModuleDict:
        return nn.ModuleDict({"matcher": self.matcher.network, **dict(self.network.items())})

    def to(self, device: torch.device) -> "Translator":
        """Moves all networks to a device."""
        self.matcher.to(device)
        self.network.to(device)
        return self

    def config(self) -> dict[str, Any]:
        """The parameters that it was built from, with all of its cross-domain head's."""
        return dataclasses.asdict(self.params) | {"matcher": self.matcher.config()}


def _networks(params: TranslatorParams, *, condition: int) -> nn.ModuleDict:
    painter = Generator(
        params.generator,
        condition_channels=condition,
        exemplar_channels=params.channels,
        out_channels=params.channels,
    )
    networks = nn.ModuleDict({"generator": painter})
    if params.adversarial:
        networks["judge"] = Discriminator(condition + params.channels, width=params.judge_width)
    if params.gain:
        initialise(networks, gain=params.gain)
    if params.base:  # begins as what it is shown
        base = nn.Conv2d(params.channels, params.channels, 3, padding=1, padding_mode="replicate", bias=False)
        nn.init.dirac_(base.weight)
        for parameter in painter.finish.parameters():
            nn.init.zeros_(parameter)
        networks["base"] = base
    return networks
