"""Matchers: where in the target's descriptor map lie the source's keypoints?"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from matchkit.core.similarity import EPSILON, resize, sample, unit

CHANNELS_AT_ONCE = 64
"""Channels resized at a time: 64 of 512 x 512 pixels in fp32 are 67 MB."""


@dataclass(frozen=True, slots=True)
class NearestParams:
    """Parameters of `nearest`: how many times finer than the target's grid the search is, in each direction.

    8 searches the pixels of the input of a map with stride 8, as Diffusion Hyperfeatures does; 1 searches the cells.
    """

    upsample: int = 8


class Nearest:
    """The point of the target whose descriptor has the greatest cosine with the keypoint's.

    The target's descriptors are resized (bilinear) and then normalised. Since resizing is linear, it is the n
    similarity maps that are resized instead of the d channels, and their lengths are summed up a few channels at a
    time: the same numbers without the (d, h, w) map. Source: Diffusion Hyperfeatures §6.1.
    """

    Params = NearestParams

    def __init__(self, params: NearestParams) -> None:
        self._upsample = params.upsample

    @torch.inference_mode()
    def match(
        self,
        source: Float[torch.Tensor, "d sh sw"],
        target: Float[torch.Tensor, "d gh gw"],
        points: Float[np.ndarray, "n 2"],
    ) -> Float[np.ndarray, "n 2"]:
        """Takes (x, y) keypoints of the source's grid frame to points of the target's grid frame."""
        grid = (target.shape[1] * self._upsample, target.shape[2] * self._upsample)
        queries = unit(sample(source, torch.from_numpy(points).to(source)))
        products = torch.einsum("nd,dhw->nhw", queries, target)
        cosines = resize(products[None], grid)[0] / _lengths(target, grid)
        best = cosines.flatten(1).argmax(dim=1).cpu().numpy()
        found = np.stack([best % grid[1], best // grid[1]], axis=1)
        return ((found + 0.5) / self._upsample - 0.5).astype(np.float32)


def _lengths(descriptors: Float[torch.Tensor, "d gh gw"], grid: tuple[int, int]) -> Float[torch.Tensor, "h w"]:
    """The length of every descriptor of the map resized to `grid`."""
    squares = torch.zeros(grid, device=descriptors.device)
    for channels in descriptors.split(CHANNELS_AT_ONCE):
        squares += resize(channels[None].float(), grid)[0].square().sum(0)
    return squares.sqrt().clamp_min(EPSILON)
