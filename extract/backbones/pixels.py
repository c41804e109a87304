"""The mean colour of each cell: a backbone without weights, for tests and as the humblest of baselines."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import STORED


@dataclass(frozen=True, slots=True)
class PixelsParams:
    """Parameters of `pixels`.

    Attributes:
        input_size: the square input's side in pixels.
        cell: a cell's side in input pixels.
        fit: how an image is put into the input.
        resample: the filter by which it is resized.
        bars: the value in [0, 1] of a letterbox's bars.
        oriented: whether an EXIF orientation is applied.
        dtype: the number type of the maps at rest.
    """

    input_size: int = 128
    cell: int = 8
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    bars: float = 0.5
    oriented: bool = False
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
            options=departures(params, "resample", "bars", "oriented"),
        )
        self.canvases = (Canvas(self.spec.input_size, params.fit, params.resample, params.bars, params.oriented),)

    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c gh gw"]]:
        """The mean colours of images in [0, 1], on the device in the stored type."""
        colours = functional.avg_pool2d(images.to(self._device) * 2 - 1, self._cell)
        return {"rgb": colours[:, None].to(STORED[self.spec.dtype])}
