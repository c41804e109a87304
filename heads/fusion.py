"""Raw diffusion and DINOv2 maps side by side: the zero-shot descriptor of Telling Left from Right.

Source: Zhang et al., CVPR 2024 (arXiv 2311.17034); GeoAware-SC §1.4.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Maps
from matchkit.core.similarity import resize, unit
from matchkit.core.spec import FeatureSpec

DIFFUSION = "sd."
"""What the names of the diffusion layers begin with that are one block where nothing else is said."""


@dataclass(frozen=True, slots=True)
class FusionParams:
    """Parameters of `fusion`.

    Attributes:
        blocks: of layers; in a block the layers' own lengths decide, between blocks the weights. None named makes the
            layers whose names begin with `sd.` one block and every other layer one of its own, and where none begins
            so, all layers one block.
        weights: of the blocks; none named makes all 1. Cosines count by the weights' squares.
        timestep: of all layers; None takes the first.
    """

    blocks: tuple[tuple[str, ...], ...] = ()
    weights: tuple[float, ...] = ()
    timestep: int | None = None


class Fusion:
    """Blocks of layers, each at unit length a cell times its weight; with weights 1 the cosine is the blocks' mean."""

    Params = FusionParams

    def __init__(self, params: FusionParams, *, spec: FeatureSpec) -> None:
        self.params = params
        self._blocks = params.blocks or _blocks([layer.name for layer in spec.layers])
        self._weights = weights_of(len(self._blocks), params.weights, head="fusion")
        timestep = spec.timesteps[0] if params.timestep is None else params.timestep
        if timestep not in spec.timesteps:
            raise ConfigError(f"fusion: no timestep {timestep}; there are: {', '.join(map(str, spec.timesteps))}")
        self.layers = tuple(name for block in self._blocks for name in block)
        if not all(self._blocks) or len(set(self.layers)) < len(self.layers):
            raise ConfigError("fusion: a block takes one layer at least, and a layer stands in one block")
        chosen = [spec.layer(name) for name in self.layers]
        self.timesteps = (timestep,)
        self.grid = max(layer.grid for layer in chosen)
        self.channels = sum(layer.channels for layer in chosen)

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """The blocks' raw maps on the largest layer's grid, each block normalised and weighted, on channels."""
        raw = [torch.cat([resize(maps[name][:, 0].float(), self.grid) for name in block], 1) for block in self._blocks]
        return side_by_side(raw, self._weights)

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)


def _blocks(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The blocks where none are named."""
    diffusion = tuple(name for name in names if name.startswith(DIFFUSION))
    if not diffusion:
        return (tuple(names),)
    return (diffusion, *((name,) for name in names if name not in diffusion))


def weights_of(count: int, told: Sequence[float], *, head: str) -> tuple[float, ...]:
    """The weights that are told, or as many ones.

    Raises:
        ConfigError: there are more or fewer, one is negative or no number, or all are 0.
    """
    if told and len(told) != count:
        raise ConfigError(f"{head}: weights must be {count}, one for each part, not {len(told)}")
    if told and not (all(math.isfinite(weight) and weight >= 0 for weight in told) and any(told)):
        raise ConfigError(f"{head}: weights must be 0 or more, and one of them above 0, not {list(told)}")
    return tuple(told) or (1.0,) * count


def side_by_side(
    blocks: Sequence[Float[torch.Tensor, "b _ h w"]], weights: Sequence[float]
) -> Float[torch.Tensor, "b d h w"]:
    """Maps on channels, each at unit length a cell times its weight.

    A cell of zeros stays so; the published code adds 1e-10 to the length instead.
    """
    weighted = [
        weight * unit(block.movedim(1, -1)).movedim(-1, 1) for block, weight in zip(blocks, weights, strict=True)
    ]
    return torch.cat(weighted, dim=1)
