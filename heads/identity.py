"""Heads without weights: one raw layer, and all layers concatenated. Every table carries them as baselines."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Maps
from matchkit.core.similarity import resize, unit
from matchkit.core.spec import FeatureSpec


@dataclass(frozen=True, slots=True)
class RawLayerParams:
    """Parameters of `raw-layer`: the layer's name and the timestep; "" and None leave the choice to the fit."""

    layer: str = ""
    timestep: int | None = None


class RawLayer:
    """One layer at one timestep, as it is. Its fit tries every one on the validation pairs and keeps the best."""

    Params = RawLayerParams

    def __init__(self, params: RawLayerParams, *, spec: FeatureSpec) -> None:
        self.params = params
        self._spec = spec
        chosen = spec.layer(params.layer or spec.layers[-1].name)
        timestep = spec.timesteps[0] if params.timestep is None else params.timestep
        if timestep not in spec.timesteps:
            raise ConfigError(f"raw-layer: no timestep {timestep}; there are: {', '.join(map(str, spec.timesteps))}")
        self.layers = (chosen.name,)
        self.timesteps = (timestep,)
        self.grid = chosen.grid

    def candidates(self) -> list["RawLayer"]:
        """A head for every layer and timestep that the parameters leave open."""
        layers = [self.params.layer] if self.params.layer else [layer.name for layer in self._spec.layers]
        timesteps = self._spec.timesteps if self.params.timestep is None else (self.params.timestep,)
        return [
            RawLayer(RawLayerParams(layer, timestep), spec=self._spec) for layer in layers for timestep in timesteps
        ]

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """The layer's own map."""
        return maps[self.layers[0]][:, 0].float()

    def config(self) -> dict[str, Any]:
        """The layer and the timestep."""
        return {"layer": self.layers[0], "timestep": self.timesteps[0]}


@dataclass(frozen=True, slots=True)
class ConcatenateParams:
    """Parameters of `concatenate`: layers and timesteps, all where none is named."""

    layers: tuple[str, ...] = ()
    timesteps: tuple[int, ...] = ()


class Concatenate:
    """All layers and timesteps, each at unit length a cell, resized to the largest grid and concatenated."""

    Params = ConcatenateParams

    def __init__(self, params: ConcatenateParams, *, spec: FeatureSpec) -> None:
        self.params = params
        chosen = [spec.layer(name) for name in params.layers] or list(spec.layers)
        self.layers = tuple(layer.name for layer in chosen)
        self.timesteps = params.timesteps or spec.timesteps
        self.grid = max(layer.grid for layer in chosen)

    def describe(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "b d gh gw"]:
        """The concatenation over layers and timesteps on channels."""
        blocks = []
        for layer in self.layers:
            flat = unit(maps[layer].float().movedim(2, -1)).movedim(-1, 2)
            resized = resize(flat.flatten(0, 1), self.grid)
            blocks.append(resized.unflatten(0, flat.shape[:2]).flatten(1, 2))
        return torch.cat(blocks, dim=1)

    def config(self) -> dict[str, Any]:
        """Layers and timesteps."""
        return dataclasses.asdict(self.params)
