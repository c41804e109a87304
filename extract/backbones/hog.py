"""Histograms of oriented gradients: a backbone without weights, the baseline that a trained one has to beat.

Source: Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch.nn import functional

from matchkit.core.errors import ConfigError
from matchkit.core.geometry import Fit
from matchkit.core.records import Canvas, Resample
from matchkit.core.similarity import unit
from matchkit.core.spec import FeatureSpec, LayerSpec, StoredType
from matchkit.extract.backbones.options import departures
from matchkit.extract.backbones.precision import STORED

CLIP = 0.2
"""Greatest share of a block's length that one bin may have before the block is normalised again (the paper, §6.4)."""


@dataclass(frozen=True, slots=True)
class HOGParams:
    """Parameters of `hog`.

    Attributes:
        input_size: the square input's side in pixels.
        cell: a cell's side in input pixels, even.
        orientations: bins over 180 degrees.
        block: the side in cells of the block around a cell that is normalised together and is its descriptor, odd.
        fit: how an image is put into the input.
        resample: the filter by which it is resized.
        bars: the value in [0, 1] of a letterbox's bars.
        oriented: whether an EXIF orientation is applied.
        dtype: the number type of the maps at rest.
    """

    input_size: int = 128
    cell: int = 8
    orientations: int = 9
    block: int = 3
    fit: Fit = "stretch"
    resample: Resample = "bilinear"
    bars: float = 0.5
    oriented: bool = False
    dtype: StoredType = "fp16"

    def __post_init__(self) -> None:
        if self.cell < 2 or self.cell % 2 or self.input_size < 1 or self.input_size % self.cell:
            raise ConfigError(
                f"hog: cell must be even and input_size a multiple of it, not {self.cell} and {self.input_size}"
            )
        if self.orientations < 2 or self.block < 1 or self.block % 2 == 0:
            raise ConfigError(
                f"hog: at least 2 orientations and an odd block, not {self.orientations} and {self.block}"
            )


class HOG:
    """The histograms of the block around each cell, one layer `hog` of orientations x block x block channels.

    Gradients are those of the colour channel where they are steepest, orientations are unsigned, a pixel votes for its
    two nearest orientations and four nearest cells, cells outside the input are empty, and a block's length is one.
    """

    Params = HOGParams

    def __init__(self, params: HOGParams, *, device: torch.device) -> None:
        side = params.input_size // params.cell
        self._params = params
        self._device = device
        self.spec = FeatureSpec(
            backbone="hog",
            weights="none",
            layers=(LayerSpec("hog", params.orientations * params.block**2, (side, side)),),
            timesteps=(0,),
            input_size=(params.input_size, params.input_size),
            fit=params.fit,
            dtype=params.dtype,
            options={
                **{"cell": params.cell, "orientations": params.orientations, "block": params.block},
                **departures(params, "resample", "bars", "oriented"),
            },
        )
        self.canvases = (Canvas(self.spec.input_size, params.fit, params.resample, params.bars, params.oriented),)

    @torch.inference_mode()
    def __call__(
        self, images: Float[torch.Tensor, "b 3 h w"], ids: Sequence[str]
    ) -> dict[str, Float[torch.Tensor, "b t c gh gw"]]:
        """The histograms of images in [0, 1], on the device in the stored type."""
        histograms = _gather(_votes(images.to(self._device), self._params.orientations), self._params.cell)
        block = self._params.block
        columns = functional.unfold(histograms, block, padding=block // 2).transpose(1, 2)
        normalised = unit(unit(columns).clamp_max(CLIP)).transpose(1, 2).unflatten(2, histograms.shape[2:])
        return {"hog": normalised[:, None].to(STORED[self.spec.dtype])}


def _votes(images: Float[torch.Tensor, "b 3 h w"], orientations: int) -> Float[torch.Tensor, "b o h w"]:
    """Each pixel's gradient shared out among the two nearest orientations."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    length, channel = torch.hypot(across, down).max(dim=1, keepdim=True)
    angle = torch.atan2(down.gather(1, channel), across.gather(1, channel))
    bins = torch.arange(orientations, device=images.device)[:, None, None] + 0.5
    away = (angle / math.pi * orientations - bins + orientations / 2) % orientations - orientations / 2
    return length * (1 - away.abs()).clamp_min(0)


def _gather(votes: Float[torch.Tensor, "b o h w"], cell: int) -> Float[torch.Tensor, "b o gh gw"]:
    """The means around each cell's centre, with weights that fall off to zero at the next cells' centres.

    Two boxes, one after the other, are such a weight, and every pixel's weights add up to the same over the cells.
    """
    boxes = functional.avg_pool2d(votes, cell, stride=1, padding=cell // 2)
    return functional.avg_pool2d(boxes, cell + 1, stride=cell)
