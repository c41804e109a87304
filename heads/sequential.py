"""Bottlenecks one after the other behind a fused descriptor: the post-processor of source document 001.

That document is a sketch of Telling Left from Right which was never trained. Its network differs from the published
one: four bottlenecks in a row instead of side by side, with batch norms. Source: GeoAware-SC §9.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Maps, PairBatch
from matchkit.core.seeding import generator
from matchkit.core.spec import FeatureSpec
from matchkit.heads.fusion import Fusion, FusionParams
from matchkit.heads.keypoint_loss import KeypointLoss, KeypointLossParams
from matchkit.heads.losses import LOGIT_SCALE


class SequentialBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each with a batch norm, added to what they were given; never negative."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)

    def forward(self, x: Float[torch.Tensor, "b c h w"]) -> Float[torch.Tensor, "b c h w"]:
        """The maps (b,c,h,w) with what the convolutions add to them."""
        inner = self.norm1(self.conv1(x)).relu()
        inner = self.norm2(self.conv2(inner)).relu()
        return (self.norm3(self.conv3(inner)) + x).relu()  # type: ignore[no-any-return]


class SequentialNetwork(nn.Sequential):
    """Bottlenecks in a row; as many channels come out as go in.

    Args:
        channels: of the descriptor. 1536 in the document: what `co-pca` gives of the published features.
        hidden: width within a bottleneck.
        blocks: how many bottlenecks.
    """

    def __init__(self, channels: int = 1536, hidden: int = 768, blocks: int = 4) -> None:
        super().__init__(*(SequentialBlock(channels, hidden) for _ in range(blocks)))


@dataclass(frozen=True, slots=True)
class SequentialPostProcessorParams(KeypointLossParams):
    """Parameters of `sequential-post-processor`, with those of its losses and those of `fusion`, which it stands on.

    Attributes:
        hidden: width within a bottleneck.
        depth: how many bottlenecks.
        blocks: of layers, as in `fusion`.
        weights: of the blocks, as in `fusion`.
        timestep: of all layers; None takes the first.
        seed: of the network's weights at the start and of the noise.
    """

    hidden: int = 768
    depth: int = 4
    blocks: tuple[tuple[str, ...], ...] = ()
    weights: tuple[float, ...] = ()
    timestep: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        KeypointLossParams.__post_init__(self)
        if min(self.hidden, self.depth) < 1:
            raise ConfigError("sequential-post-processor: hidden and depth must be at least 1")


class SequentialPostProcessor:
    """The network behind `fusion` as a head: it trains on pairs and describes maps.

    Its batch norms see the batch while it trains, and their running means when it describes; a step of one pair
    estimates them from two images, so take several pairs a step. The document normalises what goes in and what comes
    out with 1e-6 added to a length. Here `fusion` normalises the one, and the losses and matchers the other, without.
    """

    Params = SequentialPostProcessorParams

    def __init__(self, params: SequentialPostProcessorParams, *, spec: FeatureSpec) -> None:
        self.params = params
        self._fusion = Fusion(FusionParams(params.blocks, params.weights, params.timestep), spec=spec)
        self.layers, self.timesteps, self.grid = self._fusion.layers, self._fusion.timesteps, self._fusion.grid
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            self._learnt = _Learnt(SequentialNetwork(self._fusion.channels, params.hidden, params.depth)).eval()

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """Descriptors of maps {layer: (b,1,c,gh,gw)} on the head's grid; not normalised and never negative."""
        device = self._learnt.logit_scale.device
        fused = self._fusion.describe({layer: maps[layer].to(device) for layer in self.layers})
        return self._learnt.network(fused)  # type: ignore[no-any-return]

    def loss(self, batch: PairBatch) -> dict[str, Float[torch.Tensor, ""]]:
        """The terms of `KeypointLoss` and their sum; the running means of the batch norms take the batch in."""
        draw = generator(self.params.seed, "sequential-post-processor", batch.number)
        self._learnt.train()
        try:
            descriptors = self.describe(batch.maps)
        finally:
            self._learnt.eval()
        return KeypointLoss(self.params, scale=self._learnt.logit_scale.exp(), draw=draw)(descriptors, batch)

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """All parameters, in one group."""
        yield {"params": list(self._learnt.parameters())}

    def state_dict(self) -> dict[str, Any]:
        """The parameters, and the running means of the batch norms."""
        return self._learnt.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> object:
        """Takes them back, strictly."""
        return self._learnt.load_state_dict(state)

    def to(self, device: torch.device) -> "SequentialPostProcessor":
        """Moves the network to a device."""
        self._learnt.to(device)
        return self

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)


class _Learnt(nn.Module):
    """All that the head learns: the network, and the factor of the cosines in the contrastive loss."""

    def __init__(self, network: SequentialNetwork) -> None:
        super().__init__()
        self.network = network
        self.logit_scale = nn.Parameter(torch.tensor(math.log(LOGIT_SCALE)))
