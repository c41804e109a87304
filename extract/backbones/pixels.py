"""The mean colour of each cell: a backbone without weights, for tests and as the humblest of baselines."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Fit
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType
from matchkit.extract.backbones.precision import STORED


@dataclass(frozen=True, slots=True)
class PixelsParams:
    """Parameters of `pixels`: the square input's side and a cell's side in input pixels, the fit, the stored type."""

    input_size: int = 128
    cell: int = 8
    fit: Fit = "stretch"
    dtype: StoredType = "fp16"


class Pixels:
    """Mean RGB a cell, in [-1, 1], one layer `rgb` of 3 channels."""

    Params = PixelsParams

    def __init__(self, params: PixelsParams, *, device: torch.device) -> None:
        if params.input_size % params.cell:
            raise ConfigError(f"pixels: input_size {params.input_size} is not a multiple of cell {params.cell}")
        side = params.input_size // params.cell
        self._cell = params.cell
        self._device = device
        self.spec = FeatureSpec(
            backbone="pixels",
            weights="none",
            layers=(LayerSpec("rgb", 3, (side, side)),),
            timesteps=(0,),
            input_size=(params.input_size, params.input_size),
            fit=params.fit,
            dtype=params.dtype,
        )

    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c gh gw"]]:
        """The mean colours of images in [0, 1]."""
        colours = functional.avg_pool2d(images.to(self._device) * 2 - 1, self._cell)
        return {"rgb": colours[:, None].to("cpu", STORED[self.spec.dtype])}
