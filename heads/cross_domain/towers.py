"""From both domains to what is matched: an adapter each into a shared space, and from there to queries and keys.

Source: Zhang et al., CoCosNet, CVPR 2020 (arXiv 2004.05571); CoCosNet §1.2, §1.3, §6.2.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.exemplar_batches import PHOTO, Photographs
from matchkit.core.seeding import generator
from matchkit.heads.cross_domain.adapters import Adapter
from matchkit.heads.cross_domain.initialise import initialise
from matchkit.heads.cross_domain.paper_adapters import STRIDE, PaperAdapter, SharedTrunk

SHARED = 256
"""Channels of the published shared space, and of its queries and keys."""
UNFOLD = 3
"""Cells each way whose published queries and keys stand for the one in their middle."""
NOISE = 0.01
"""Deviation of what stands in for an exemplar's own condition. Source: CoCosNet §1.3."""
Picture = Float[torch.Tensor, "b c h w"]
Maps = Float[torch.Tensor, "b d gh gw"]
Asked = Float[torch.Tensor, "b _ gh gw"]
"""Queries or keys, of a width of their own."""


class Towers(Protocol):
    """Both ways into what is matched."""

    def of_condition(self, condition: Picture) -> Maps:
        """A condition in the shared space: unit vectors."""
        ...

    def of_photograph(self, photographs: Photographs) -> Maps:
        """Photographs in the shared space: unit vectors."""
        ...

    def queries(self, shared: Maps, condition: Picture) -> Asked:
        """From the shared space to what asks; not centred yet."""
        ...

    def keys(self, shared: Maps, photographs: Photographs) -> Asked:
        """From the shared space to what is asked; not centred yet."""
        ...


class LightTowers(nn.Module):
    """Small adapters: of the condition's picture, and of cached maps with, where that is wanted, the photograph.

    Queries and keys begin as the same function of the shared space: two that are drawn apart match at random however
    well the domains are aligned (CoCosNet §7.2 no. 7).

    Args:
        condition: channels of the condition.
        halvings: from the condition's size to the grid.
        layers: of the cached maps, in order, with their channels.
        photo: halvings from the photograph's size to the grid; None where the adapter does not see it.
        width: of the networks within.
        out: of the shared space.
        grid: (height, width) in cells.
    """

    def __init__(
        self,
        *,
        condition: int,
        halvings: int,
        layers: Sequence[tuple[str, int]],
        photo: int | None,
        width: int,
        out: int,
        grid: tuple[int, int],
    ) -> None:
        super().__init__()
        self._layers = [name for name, _ in layers]
        self._sees_photo = photo is not None
        self.adapters = nn.ModuleList(
            [
                Adapter(picture=condition, maps=(), width=width, out=out, grid=grid, halvings=halvings),
                Adapter(
                    picture=0 if photo is None else 3,
                    maps=[channels for _, channels in layers],
                    width=width,
                    out=out,
                    grid=grid,
                    halvings=photo or 0,
                ),
            ]
        )
        self.theta, self.phi = nn.Conv2d(out, out, 1), nn.Conv2d(out, out, 1)
        self.phi.load_state_dict(self.theta.state_dict())

    def of_condition(self, condition: Picture) -> Maps:
        """A condition in the shared space."""
        result: torch.Tensor = self.adapters[0](condition, ())
        return result

    def of_photograph(self, photographs: Photographs) -> Maps:
        """Photographs in the shared space, from the first timestep of their maps."""
        picture = photographs.payloads[PHOTO] if self._sees_photo else None
        result: torch.Tensor = self.adapters[1](picture, [photographs.maps[name][:, 0] for name in self._layers])
        return result

    def queries(self, shared: Maps, condition: Picture) -> Asked:
        """A 1x1 convolution of the shared space."""
        result: torch.Tensor = self.theta(shared)
        return result

    def keys(self, shared: Maps, photographs: Photographs) -> Asked:
        """Another one."""
        result: torch.Tensor = self.phi(shared)
        return result


class PaperTowers(nn.Module):
    """The published networks: adapters of pictures, the condition mixed in, a trunk for both, 3x3 cells a query.

    Args:
        condition: channels of the condition, whose side is four times the grid's as is the photograph's.
        kernel: of the adapters' halvings.
        mix: what is put beside the shared space: of an exemplar its `own` condition or `noise` in its place, or
            nothing of either domain (`none`).
        width: of the adapters' first layer; 64 is published.
    """

    def __init__(
        self, *, condition: int, kernel: int, mix: Literal["none", "own", "noise"], width: int = SHARED // 4
    ) -> None:
        super().__init__()
        self._mix = mix
        shared = 4 * width
        self.adapters = nn.ModuleList([PaperAdapter(channels, kernel, width=width) for channels in (condition, 3)])
        trunk = shared if mix == "none" else shared + condition
        self.trunk = SharedTrunk(trunk)
        self.theta, self.phi = nn.Conv2d(trunk, shared, 1), nn.Conv2d(trunk, shared, 1)
        initialise(self)

    def of_condition(self, condition: Picture) -> Maps:
        """A condition in the shared space, at a quarter of its size."""
        result: torch.Tensor = self.adapters[0](condition)
        return result

    def of_photograph(self, photographs: Photographs) -> Maps:
        """The photographs themselves in the shared space."""
        result: torch.Tensor = self.adapters[1](photographs.payloads[PHOTO])
        return result

    def queries(self, shared: Maps, condition: Picture) -> Asked:
        """Through the trunk with the condition beside; each cell with its eight neighbours."""
        return self._asked(self.theta, self._mixed(shared, condition))

    def keys(self, shared: Maps, photographs: Photographs) -> Asked:
        """The same for photographs.

        Raises:
            ConfigError: the exemplar's own condition is mixed in, and is not known.
        """
        own = photographs.condition
        if self._mix == "noise":
            shape = (self.theta.in_channels - shared.shape[1], *shared.shape[2:])
            drawn = [torch.randn(shape, generator=generator(0, "mix", image_id)) for image_id in photographs.ids]
            own = NOISE * torch.stack(drawn).to(shared)
        elif self._mix == "own" and not own.shape[1]:
            raise ConfigError(
                "this head mixes the exemplar's own condition in: give it too, or fit one with --set mix=noise"
            )
        return self._asked(self.phi, self._mixed(shared, own))

    def _mixed(self, shared: Maps, condition: Picture) -> Asked:
        if self._mix == "none":
            return shared
        beside = functional.interpolate(condition, size=shared.shape[2:], mode="nearest")
        return torch.cat([shared, beside], 1)

    def _asked(self, last: nn.Module, mixed: Asked) -> Asked:
        maps = last(self.trunk(mixed))
        unfolded: torch.Tensor = functional.unfold(maps, UNFOLD, padding=UNFOLD // 2).unflatten(2, maps.shape[2:])
        return unfolded


def paper_side(grid: int) -> int:
    """Pixels a side of the pictures that the published adapters take for a grid."""
    return grid * STRIDE
