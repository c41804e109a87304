"""Principal components of a pair: the fusion of A Tale of Two Features (SD-DINO), which needs both images at once.

Source: Zhang et al., A Tale of Two Features, NeurIPS 2023 (arXiv 2305.15347): each diffusion layer of both images is
projected on the first 256 principal components of the pair's cells, the layers are concatenated at unit length, and
DINOv2's, at unit length too, comes beside.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.interfaces import Maps
from matchkit.core.similarity import resize
from matchkit.core.spec import FeatureSpec
from matchkit.heads.fusion import side_by_side, weights_of

POWER_ITERATIONS = 2
"""Of the randomised decomposition, as published (torch's own number)."""


@dataclass(frozen=True, slots=True)
class CoPCAParams:
    """Parameters of `co-pca`.

    Attributes:
        rank: components of each layer; fewer where a pair has fewer cells or a layer fewer channels.
        layers: that are projected; none named takes all but `beside`.
        beside: the layer that comes beside as it is; None takes `dino` where the features have it, "" none.
        weights: of the projected layers' components, in the order of the layers, and of the layer beside; none named
            makes all 1.
        timestep: of all layers; None takes the first.
        seed: of the randomised decomposition.
    """

    rank: int = 256
    layers: tuple[str, ...] = ()
    beside: str | None = None
    weights: tuple[float, ...] = ()
    timestep: int | None = None
    seed: int = 0


class CoPCA:
    """A pair's layers on the pair's own principal components; its descriptors mean nothing beside another image's."""

    Params = CoPCAParams

    def __init__(self, params: CoPCAParams, *, spec: FeatureSpec) -> None:
        self.params = params
        names = [layer.name for layer in spec.layers]
        beside = params.beside if params.beside is not None else "dino" if "dino" in names else ""
        projected = [spec.layer(name) for name in params.layers or (name for name in names if name != beside)]
        timestep = spec.timesteps[0] if params.timestep is None else params.timestep
        if timestep not in spec.timesteps:
            raise ConfigError(f"co-pca: no timestep {timestep}; there are: {', '.join(map(str, spec.timesteps))}")
        if params.rank < 1 or not projected:
            raise ConfigError("co-pca: it takes one layer and one component at least")
        self._coarse_to_fine = [layer.name for layer in sorted(projected, key=lambda layer: layer.grid)]
        self._beside = [spec.layer(beside)] if beside else []
        self.layers = (*(layer.name for layer in projected), *(layer.name for layer in self._beside))
        self._weights = dict(zip(self.layers, weights_of(len(self.layers), params.weights, head="co-pca"), strict=True))
        self.timesteps = (timestep,)
        self.grid = max(layer.grid for layer in (*projected, *self._beside))

    def describe_pair(self, maps: Maps, ids: Sequence[str] = ()) -> Float[torch.Tensor, "2 d gh gw"]:
        """Descriptors of the two images of a pair, from their maps (2,1,c,gh,gw)."""
        fused = self._on_components({name: maps[name][:, 0].float() for name in self._coarse_to_fine})
        blocks = [fused, *(maps[layer.name][:, 0].float() for layer in self._beside)]
        if len(blocks) == 1:
            return resize(fused, self.grid)
        weights = [1.0, *(self._weights[layer.name] for layer in self._beside)]
        return side_by_side([resize(block, self.grid) for block in blocks], weights)

    def _on_components(self, maps: Maps) -> Float[torch.Tensor, "2 _ _ _"]:
        """All layers on the finest of their grids: the finest layer's components first."""
        coarse, *finer = (
            self._weights[name] * principal_components(values, self.params.rank, seed=self.params.seed)
            for name, values in maps.items()
        )
        for components in finer:
            grid = (components.shape[-2], components.shape[-1])
            coarse = torch.cat([components, resize(coarse, grid)], dim=1)
        return coarse

    def config(self) -> dict[str, Any]:
        """The parameters that the head was built from."""
        return dataclasses.asdict(self.params)


def principal_components(
    maps: Float[torch.Tensor, "b c h w"], rank: int, *, seed: int
) -> Float[torch.Tensor, "b r h w"]:
    """Maps on the first principal components of all their cells together, r of them; not scaled.

    Args:
        maps: whose cells are decomposed, after their mean is taken away.
        rank: how many components; fewer where there are fewer cells or channels.
        seed: of the randomised decomposition.
    """
    cells = maps.movedim(1, -1).flatten(0, 2)
    centred = cells - cells.mean(0)
    with torch.random.fork_rng(devices=_devices(maps)):
        torch.manual_seed(seed)
        *_, directions = torch.pca_lowrank(centred, q=min(rank, *cells.shape), niter=POWER_ITERATIONS)
    return (centred @ directions).unflatten(0, (len(maps), *maps.shape[-2:])).movedim(-1, 1)  # type: ignore[no-any-return]


def _devices(maps: torch.Tensor) -> Iterable[torch.device]:
    """The devices beside the CPU whose generators the decomposition draws from."""
    return [maps.device] if maps.is_cuda else []
