"""A condition matched with an exemplar over cached features: CoCosNet's correspondence network as a light head.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571), over frozen features of diffusion models and DINOv2
(CoCosNet §6.2).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import PARTS, PHOTO, ExemplarBatch, Photographs
from matchkit.core.interfaces import Maps
from matchkit.core.seeding import generator
from matchkit.core.similarity import resize, unit
from matchkit.core.spec import FeatureSpec
from matchkit.heads.cross_domain import terms
from matchkit.heads.cross_domain.distortion import cells_in_copy, distorted, draw_distortions
from matchkit.heads.cross_domain.matching import Match, centred
from matchkit.heads.cross_domain.pseudo import never_itself
from matchkit.heads.cross_domain.settings import CrossDomainParams
from matchkit.heads.cross_domain.towers import LightTowers, PaperTowers, Towers, paper_side

Terms = dict[str, Float[torch.Tensor, ""]]
OnGrid = Float[torch.Tensor, "b c gh gw"]


class CrossDomain:
    """The head: it matches conditions with photographs, and describes photographs for matching among themselves.

    Attributes:
        params: what it was told.
        network: its parameters.
        grid: (height, width) in cells.
        layers, timesteps: the maps that it reads.
    """

    Params = CrossDomainParams

    def __init__(self, params: CrossDomainParams, *, spec: FeatureSpec) -> None:
        self.params = params
        chosen = [spec.layer(name) for name in params.layers] or list(spec.layers)
        timestep = spec.timesteps[0] if params.timestep is None else params.timestep
        if timestep not in spec.timesteps:
            there = ", ".join(map(str, spec.timesteps))
            raise ConfigError(f"cross-domain: no timestep {timestep}; there are: {there}")
        self._semantic = params.semantic_layer or chosen[-1].name
        if self._semantic not in [layer.name for layer in chosen]:
            raise ConfigError(f"cross-domain: semantic_layer '{self._semantic}' is none of the layers that are read")
        self.layers = tuple(layer.name for layer in chosen)
        self.timesteps = (timestep,)
        self.grid = (params.grid, params.grid)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            # until it is trained: the paper's spectral norms would change a little with all that is looked at
            self.network = _network(params, [(layer.name, layer.channels) for layer in chosen]).eval()
        self._towers = cast("Towers", self.network)

    @property
    def payloads(self) -> tuple[str, ...]:
        """The photograph; parts where they are known are no must."""
        return (PHOTO,)

    def match(self, condition: Float[torch.Tensor, "b c h w"], exemplars: Photographs) -> Match:
        """Matches conditions with exemplars at the final temperature."""
        asked = self._queries(condition)[1]
        return Match(asked, self._keys(exemplars)[1], self.grid, self.params.temperature)

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """The keys of photographs, by which two photographs can be matched as well.

        Raises:
            ConfigError: the head needs more of a photograph than its maps.
        """
        if self.params.photo_side or self.params.adapters == "paper":
            raise ConfigError("this cross-domain head sees the photographs themselves: it matches conditions alone")
        rows = self._keys(Photographs(tuple(ids), maps, torch.zeros(0, 0, 1, 1), {}))[1]
        keys: torch.Tensor = rows.transpose(1, 2).unflatten(2, self.grid)
        return keys

    def loss(self, batch: ExemplarBatch) -> Terms:
        """The weighted terms, and their sum.

        Raises:
            ConfigError: there is no term: all weights are 0, or that of the parts is the only one and none are known.
        """
        self.network.train()
        draw = generator(self.params.seed, "cross-domain", batch.number)
        exemplars = never_itself(batch, draw)
        shared, asked = self._queries(batch.targets.condition)
        match = Match(asked, self._keys(exemplars)[1], self.grid, self.params.temperature_at(batch.progress))
        found = {
            **self._of_warp(batch, exemplars, match),
            **self._of_own(batch.targets, shared, asked, draw),
        }
        if not found:
            raise ConfigError("cross-domain: no loss is left: give one a weight, or masks where parts is the only one")
        weighted = {name: getattr(self.params, name) * term for name, term in found.items()}
        return weighted | {"total": torch.stack(list(weighted.values())).sum()}

    def _of_warp(self, batch: ExemplarBatch, exemplars: Photographs, match: Match) -> Terms:
        """The terms of the warped exemplar."""
        params = self.params
        own, theirs = ({"features": self.features(of), **self._on_grid(of)} for of in (batch.targets, exemplars))
        warped = _warped(match, theirs)
        found: Terms = {}
        if params.semantic:
            found["semantic"] = terms.semantic(warped["features"], own["features"])
        if params.same:
            found["same"] = terms.of_same(warped[PHOTO], own[PHOTO], batch.same.to(warped[PHOTO].device))
        if params.cycle:
            found["cycle"] = terms.cycle(match.back(warped[PHOTO]), theirs[PHOTO])
        if params.parts and PARTS in own:
            found["parts"] = terms.parts(warped[PARTS], own[PARTS], theirs[PARTS])
        return found

    def _of_own(
        self, targets: Photographs, shared: OnGrid, asked: Float[torch.Tensor, "b cells d"], draw: torch.Generator
    ) -> Terms:
        """The terms of conditions and their own photographs."""
        params = self.params
        found: Terms = {}
        if params.domain:
            found["domain"] = terms.domain(shared, self._towers.of_photograph(self._there(targets)))
        if params.contrast:
            affine = draw_distortions(len(shared), draw)
            copies = distorted(targets, affine, torch.ones(len(shared), dtype=torch.bool))
            cells, inside = (told.to(asked.device) for told in cells_in_copy(affine, self.grid))
            sampled = torch.randperm(cells.shape[1], generator=draw)[: params.sampled].to(asked.device)
            keys = self._keys(copies)[1]
            found["contrast"] = terms.contrast(asked, keys, cells=cells, inside=inside, sampled=sampled)
        return found

    @torch.no_grad()
    def quality(self, batch: ExemplarBatch) -> float:
        """In percent: the share of the targets' cells on parts that get the right one, or the features' cosine.

        The latter where no parts are known; all cells count where none is on a part.
        """
        self.network.eval()
        match = self.match(batch.targets.condition, batch.exemplars)
        own, theirs = self._on_grid(batch.targets), self._on_grid(batch.exemplars)
        if PARTS not in own:
            warped = match.warp(self.features(batch.exemplars))
            return 100 * (1 - float(terms.semantic(warped, self.features(batch.targets))))
        labels, found = own[PARTS].argmax(1), match.warp(theirs[PARTS]).argmax(1)
        counted = labels > 0
        return 100 * float((found == labels)[counted if counted.any() else ~counted].float().mean())

    def _queries(self, condition: Float[torch.Tensor, "b _ h w"]) -> tuple[OnGrid, Float[torch.Tensor, "b cells d"]]:
        picture = self._told(condition)
        shared = self._towers.of_condition(picture)
        return shared, centred(self._towers.queries(shared, picture))

    def _keys(self, photographs: Photographs) -> tuple[OnGrid, Float[torch.Tensor, "b cells d"]]:
        there = self._there(photographs)
        shared = self._towers.of_photograph(there)
        return shared, centred(self._towers.keys(shared, there))

    def _told(self, condition: Float[torch.Tensor, "b _ h w"]) -> Float[torch.Tensor, "b _ h w"]:
        """A condition as the network is given it; one that is not known, of no channels, stays so."""
        told = condition.to(self._device)
        if not self.params.neutral or not told.shape[1]:
            return told
        return told - torch.tensor(self.params.neutral, device=self._device).view(1, -1, 1, 1)

    def _there(self, photographs: Photographs) -> Photographs:
        """The photographs on the network's device, in single precision."""
        return dataclasses.replace(
            photographs,
            maps={name: photographs.maps[name].to(self._device).float() for name in self.layers},
            condition=self._told(photographs.condition),
            payloads={name: values.to(self._device) for name, values in photographs.payloads.items()},
        )

    def features(self, photographs: Photographs) -> OnGrid:
        """What tells what is alike: unit cells of the semantic layer, on the grid."""
        maps = photographs.maps[self._semantic][:, 0].to(self._device).float()
        return resize(unit(maps.movedim(1, -1)).movedim(-1, 1), self.grid)

    def _on_grid(self, photographs: Photographs) -> dict[str, OnGrid]:
        """Photograph and parts at one value a cell: the mean colour, and the part in the cell's middle."""
        held = {name: values.to(self._device) for name, values in photographs.payloads.items()}
        found = {PHOTO: functional.adaptive_avg_pool2d(held[PHOTO], self.grid)} if PHOTO in held else {}
        if PARTS in held:
            found[PARTS] = functional.interpolate(held[PARTS], size=self.grid, mode="nearest-exact")
        return found

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """All parameters in one group; none where no loss moves them."""
        if self.params.learns:
            yield {"params": list(self.network.parameters())}

    def state_dict(self) -> dict[str, Any]:
        """The parameters by name."""
        return self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes parameters by name, strictly."""
        return self.network.load_state_dict(state)

    def to(self, device: torch.device) -> "CrossDomain":
        """Moves the network to a device."""
        self.network.to(device)
        return self

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)


def _network(params: CrossDomainParams, layers: Sequence[tuple[str, int]]) -> nn.Module:
    if params.adapters == "paper":
        if params.side != paper_side(params.grid):
            raise ConfigError(
                f"cross-domain: the paper's adapters take conditions of {paper_side(params.grid)} pixels for a grid of "
                f"{params.grid}, not {params.side}"
            )
        return PaperTowers(condition=params.channels, kernel=params.kernel, mix=params.mix, width=params.width // 4)
    return LightTowers(
        condition=params.channels,
        halvings=params.halvings(params.side),
        layers=layers,
        photo=params.halvings(params.photo_side) if params.photo_side else None,
        width=params.width,
        out=params.out,
        grid=(params.grid, params.grid),
    )


def _warped(match: Match, payloads: dict[str, OnGrid]) -> dict[str, OnGrid]:
    """All payloads in one call."""
    joined = match.warp(torch.cat(list(payloads.values()), 1))
    parts = joined.split([values.shape[1] for values in payloads.values()], dim=1)
    return dict(zip(payloads, parts, strict=True))
