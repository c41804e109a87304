"""The aggregator: one bottleneck a layer, shared by all timesteps, mixed by one softmax over layers x timesteps.

Source: Luo et al., Diffusion Hyperfeatures, NeurIPS 2023 (arXiv 2305.14334). The names in the state dict are those of
the published weights, which load as they are.
"""

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Maps, PairBatch
from matchkit.core.similarity import unit
from matchkit.core.spec import FeatureSpec
from matchkit.heads.bottleneck import GROUPS, Bottleneck
from matchkit.heads.losses import symmetric_cross_entropy
from matchkit.heads.mixing import mixed


@dataclass(frozen=True, slots=True)
class AggregatorParams:
    """Parameters of `aggregator`.

    Attributes:
        projection: width of the descriptor; a bottleneck is a quarter as wide. A multiple of 128.
        grid: the side of the square descriptor map in cells; 0 takes the largest layer's (64 as published).
        layers: which ones; none named takes all.
        timesteps: which ones, in the order of the mixing weights; none named takes all.
        seed: of the weights at the start.
    """

    projection: int = 384
    grid: int = 0
    layers: tuple[str, ...] = ()
    timesteps: tuple[int, ...] = ()
    seed: int = 0


class AggregationNetwork(nn.Module):
    """`sum over s, l of softmax(w)[s * L + l] * B_l(F_{s,l})` for S timesteps and L layers.

    Args:
        channels: of each layer, in the order of the layers.
        timesteps: S, how many.
        projection: width of the descriptor.
    """

    def __init__(self, channels: Sequence[int], *, timesteps: int, projection: int) -> None:
        super().__init__()
        self.projection = projection
        # a list of one-element sequences: the published state dict says `bottleneck_layers.<layer>.0.`
        self.bottleneck_layers = nn.ModuleList([nn.Sequential(Bottleneck(c, projection)) for c in channels])
        self.mixing_weights = nn.Parameter(torch.ones(len(channels) * timesteps))

    def forward(
        self, layers: Sequence[Float[torch.Tensor, "b t _ _ _"]], grid: tuple[int, int]
    ) -> Float[torch.Tensor, "b d h w"]:
        """Descriptors from the maps (b,t,c,gh,gw) of each layer; not normalised."""
        shares = self.mixing_weights.softmax(0).unflatten(0, (-1, len(layers)))
        terms = (
            mixed(stage[0], maps, shares[:, index], grid=grid)  # type: ignore[index]
            for index, (maps, stage) in enumerate(zip(layers, self.bottleneck_layers, strict=True))
        )
        return reduce(operator.add, terms)


class Aggregator:
    """The aggregation network as a head: it trains on keypoint pairs and describes maps."""

    Params = AggregatorParams

    def __init__(self, params: AggregatorParams, *, spec: FeatureSpec) -> None:
        if params.projection % (4 * GROUPS):
            raise ConfigError(f"aggregator: projection must be a multiple of {4 * GROUPS}, not {params.projection}")
        self.params = params
        chosen = [spec.layer(name) for name in params.layers] or list(spec.layers)
        self.layers = tuple(layer.name for layer in chosen)
        self.timesteps = params.timesteps or spec.timesteps
        self.grid = (params.grid, params.grid) if params.grid else max(layer.grid for layer in chosen)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            self.network = AggregationNetwork(
                [layer.channels for layer in chosen], timesteps=len(self.timesteps), projection=params.projection
            )

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """Descriptors of maps {layer: (b,t,c,gh,gw)} on the head's grid; not normalised and never negative."""
        device = self.network.mixing_weights.device
        return self.network([maps[layer].to(device) for layer in self.layers], self.grid)  # type: ignore[no-any-return]

    def loss(self, batch: PairBatch) -> dict[str, Float[torch.Tensor, ""]]:
        """The mean symmetric cross-entropy of the batch's pairs."""
        descriptors = self.describe(batch.maps)
        rows = unit(descriptors.movedim(1, -1).flatten(1, 2))
        terms = [
            symmetric_cross_entropy(
                *(rows[pair.source], rows[pair.target]),
                *(pair.source_cells.to(rows.device), pair.target_cells.to(rows.device)),
            )
            for pair in batch.pairs
        ]
        return {"total": torch.stack(terms).mean()}

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """Mixing weights and bottlenecks, the two groups of the published optimiser."""
        yield {"params": [self.network.mixing_weights]}
        yield {"params": list(self.network.bottleneck_layers.parameters())}

    def state_dict(self) -> dict[str, Any]:
        """The parameters by the published names."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> object:
        """Takes parameters by the published names, strictly."""
        return self.network.load_state_dict(state)

    def to(self, device: torch.device) -> "Aggregator":
        """Moves the network to a device."""
        self.network.to(device)
        return self

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)
