"""The post-processor of Telling Left from Right: one bottleneck a layer, mixed, trained on keypoints and on flow.

Source: Zhang et al., Telling Left from Right, CVPR 2024 (arXiv 2311.17034). The names in the state dict are those of
the published weights, which load as they are.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Maps, PairBatch
from matchkit.core.seeding import generator
from matchkit.core.similarity import resize
from matchkit.core.spec import FeatureSpec
from matchkit.heads.aggregator import AggregationNetwork
from matchkit.heads.bottleneck import GROUPS
from matchkit.heads.keypoint_loss import KeypointLoss, KeypointLossParams
from matchkit.heads.losses import LOGIT_SCALE

UNUSED_SCALE = 10.0
"""Of a loss that published training leaves off; its parameter is in the published weights."""


@dataclass(frozen=True, slots=True)
class PostProcessorParams(KeypointLossParams):
    """Parameters of `post-processor`, with those of its losses; the defaults are the published ones.

    Attributes:
        projection: width of the descriptor; a bottleneck is a quarter as wide. A multiple of 128.
        grid: the side of the square descriptor map in cells; 0 takes the largest layer's (60 as published).
        layers: which ones, in the order of the bottlenecks; none named takes all. Published: s3, s4, s5, dino.
        timestep: of all layers; None takes the first.
        dropout: share of the values of the resized maps that a training step does not see.
        seed: of the weights at the start, the dropout and the noise.
    """

    projection: int = 768
    grid: int = 0
    layers: tuple[str, ...] = ()
    timestep: int | None = None
    dropout: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        KeypointLossParams.__post_init__(self)
        if self.projection % (4 * GROUPS):
            raise ConfigError(f"post-processor: projection must be a multiple of {4 * GROUPS}, not {self.projection}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"post-processor: dropout must lie in 0..1 without 1, not {self.dropout}")


class PostProcessorNetwork(AggregationNetwork):
    """The aggregation network of one timestep, with the scales of two losses."""

    def __init__(self, channels: Sequence[int], *, projection: int) -> None:
        super().__init__(channels, timesteps=1, projection=projection)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(LOGIT_SCALE)))
        self.self_logit_scale = nn.Parameter(torch.tensor(math.log(UNUSED_SCALE)), requires_grad=False)


class PostProcessor:
    """The network as a head: it trains on pairs and describes maps."""

    Params = PostProcessorParams

    def __init__(self, params: PostProcessorParams, *, spec: FeatureSpec) -> None:
        self.params = params
        chosen = [spec.layer(name) for name in params.layers] or list(spec.layers)
        timestep = spec.timesteps[0] if params.timestep is None else params.timestep
        if timestep not in spec.timesteps:
            there = ", ".join(map(str, spec.timesteps))
            raise ConfigError(f"post-processor: no timestep {timestep}; there are: {there}")
        self.layers = tuple(layer.name for layer in chosen)
        self.timesteps = (timestep,)
        self.grid = (params.grid, params.grid) if params.grid else max(layer.grid for layer in chosen)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            channels = [layer.channels for layer in chosen]
            self.network = PostProcessorNetwork(channels, projection=params.projection)

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """Descriptors of maps {layer: (b,1,c,gh,gw)} on the head's grid; not normalised and never negative."""
        device = self.network.mixing_weights.device
        return self.network([maps[layer].to(device) for layer in self.layers], self.grid)  # type: ignore[no-any-return]

    def loss(self, batch: PairBatch) -> dict[str, Float[torch.Tensor, ""]]:
        """The terms of `KeypointLoss`, and their sum."""
        draw = generator(self.params.seed, "post-processor", batch.number)
        descriptors = self.network(self._dropped(batch.maps, draw), self.grid)
        return KeypointLoss(self.params, scale=self.network.logit_scale.exp(), draw=draw)(descriptors, batch)

    def _dropped(self, maps: Maps, draw: torch.Generator) -> list[Float[torch.Tensor, "b 1 _ gh gw"]]:
        """The maps on the head's grid, some of their values zero and the others larger by as much."""
        device, kept = self.network.mixing_weights.device, 1 - self.params.dropout
        dropped = []
        for layer in self.layers:
            values = maps[layer].to(device)
            if kept < 1:
                resized = resize(values[:, 0].float(), self.grid)[:, None]
                chosen = torch.rand(resized.shape, generator=draw) < kept
                values = resized * (chosen.to(device) / kept)
            dropped.append(values)
        return dropped

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """All parameters that are trained, in one group."""
        yield {"params": [parameter for parameter in self.network.parameters() if parameter.requires_grad]}

    def state_dict(self) -> dict[str, Any]:
        """The parameters by the published names."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> object:
        """Takes parameters by the published names, strictly."""
        return self.network.load_state_dict(state)

    def to(self, device: torch.device) -> "PostProcessor":
        """Moves the network to a device."""
        self.network.to(device)
        return self

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)
