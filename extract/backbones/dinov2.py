"""DINOv2 through transformers, with and without registers.

Source: Oquab et al., DINOv2, arXiv 2304.07193; Darcet et al., Vision Transformers Need Registers, arXiv 2309.16588.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import nn

from matchkit.core.errors import ConfigError
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.tokens import TokenMaps, TokenParams, Transformer, input_side
from matchkit.extract.backbones.vit_folder import load
from matchkit.extract.backbones.weights import checksum, locate

PARTS = (".",)
KINDS = ("dinov2", "dinov2_with_registers")
EXCESS = 0.1
"""Cells by which the published code of DINOv2 without registers asks for too large a grid of position embeddings."""


@dataclass(frozen=True, slots=True)
class DINOv2Params(TokenParams):
    """Parameters of `dinov2`.

    Attributes:
        positions: how position embeddings are brought to another input size than the network's own: `exact`, as
            transformers does, or `published`, as the published code does, whose grid is a tenth of a cell too large.
            With registers the two are one.
    """

    positions: Literal["exact", "published"] = "exact"


class DINOv2:
    """Patch tokens of the layers `block0`, `block1`, ..., and the class token `cls`.

    Raises:
        ConfigError: something that the network does not have, or an input that is no multiple of its patch.
        WeightsError: not a Dinov2 folder.
    """

    Params = DINOv2Params

    def __init__(self, params: DINOv2Params, *, device: torch.device) -> None:
        folder = locate(params.weights, embedded="dinov2", marker="config.json", parts=PARTS)
        network = load(folder, params, kinds=KINDS, what="Dinov2 network")
        if params.positions == "published":
            _place_as_published(network, params)
        self._read = TokenMaps(
            network,
            params,
            backbone="dinov2",
            weights=checksum(folder, parts=PARTS),
            device=device,
            options=departures(params, "positions"),
        )
        self.spec, self.canvases = self._read.spec, self._read.canvases

    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c _ _"]]:
        """The maps of images in [0, 1], on the device in the stored type."""
        return self._read(images)


def _place_as_published(network: Transformer, params: DINOv2Params) -> None:
    """Puts position embeddings of the input's own size into the network, which then does not interpolate any."""
    model: Any = network.model
    if model.config.model_type != "dinov2":
        raise ConfigError("dinov2: with registers, exact positions are the published ones; leave `positions` out")
    cells, own = (side // network.patch for side in (input_side(network, params, backbone="dinov2"), network.side))
    if cells == own:
        return
    of_class, of_patches = model.embeddings.position_embeddings.detach().float().split((1, own * own), dim=1)
    scale = (cells + EXCESS) / own
    grid = nn.functional.interpolate(
        of_patches.transpose(1, 2).unflatten(2, (own, own)), scale_factor=(scale, scale), mode="bicubic"
    )
    placed = torch.cat((of_class, grid.flatten(2).transpose(1, 2)), dim=1)
    model.embeddings.position_embeddings = nn.Parameter(placed)
