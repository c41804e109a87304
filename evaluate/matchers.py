"""Matchers: where in the target's descriptor map lie the source's keypoints?"""

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional

from matchkit.core.similarity import EPSILON, resize, sample, unit
from matchkit.evaluate.seeking import Sought


@dataclass(frozen=True, slots=True)
class NearestParams:
    """Parameters of `nearest`: how many times finer than the target's grid the search is, in each direction.

    8 searches the pixels of the input of a map with stride 8, as Diffusion Hyperfeatures does; 1 searches the cells.
    """

    upsample: int = 8


class Nearest:
    """The point of the target whose descriptor has the greatest cosine with the keypoint's.

    The target's descriptors are resized (bilinear) and then normalised, but the (d, h, w) map is never made: resizing
    is linear, so it is the n similarity maps that are resized, and a resized descriptor's length follows from the
    products of neighbouring cells. Source: Diffusion Hyperfeatures §6.1.
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
        return self._best(_products(source, target, points), target)

    @torch.inference_mode()
    def seek(
        self,
        source: Float[torch.Tensor, "d sh sw"],
        target: Float[torch.Tensor, "d gh gw"],
        points: Float[np.ndarray, "n 2"],
    ) -> Sought:
        """As `match`, with the similarities at the cells of the target."""
        products = _products(source, target, points)
        lengths = target.float().square().sum(0).clamp_min(EPSILON**2).sqrt()
        return Sought(self._best(products, target), products / lengths, None)

    def _best(
        self, products: Float[torch.Tensor, "n gh gw"], target: Float[torch.Tensor, "d gh gw"]
    ) -> Float[np.ndarray, "n 2"]:
        height, width = target.shape[1] * self._upsample, target.shape[2] * self._upsample
        cosines = resize(products[:, None], (height, width))[:, 0] / resized_lengths(target, self._upsample)
        best = cosines.flatten(1).argmax(dim=1).cpu().numpy()
        found = np.stack([best % width, best // width], axis=1)
        return np.asarray((found + 0.5) / self._upsample - 0.5, dtype=np.float32)


def _products(
    source: Float[torch.Tensor, "d sh sw"],
    target: Float[torch.Tensor, "d gh gw"],
    points: Float[np.ndarray, "n 2"],
) -> Float[torch.Tensor, "n gh gw"]:
    """Of each keypoint's descriptor, at length one, with that of every cell of the target as it is."""
    queries = unit(
        sample(source, torch.tensor(points.tolist(), dtype=source.dtype, device=source.device).reshape(-1, 2))
    )
    return torch.einsum("nd,dhw->nhw", queries, target)


def resized_lengths(descriptors: Float[torch.Tensor, "d gh gw"], factor: int) -> Float[torch.Tensor, "h w"]:
    """The length of every descriptor of the map resized (bilinear) to a grid `factor` times finer.

    A resized descriptor is w00 a + w01 b + w10 c + w11 d of four neighbours, so its squared length needs only their
    ten products, which are taken once a cell: the cost does not grow with the channels times the fine grid.
    """
    padded = functional.pad(descriptors[None].float(), (0, 1, 0, 1), mode="replicate")[0]
    y, fy = _neighbours(descriptors.shape[1], factor, device=descriptors.device)
    x, fx = _neighbours(descriptors.shape[2], factor, device=descriptors.device)
    weights = {(0, 0): (1 - fy)[:, None] * (1 - fx), (0, 1): (1 - fy)[:, None] * fx}
    weights |= {(1, 0): fy[:, None] * (1 - fx), (1, 1): fy[:, None] * fx}
    height, width = descriptors.shape[1:]
    corners = {(j, i): padded[:, j : j + height, i : i + width] for j, i in weights}
    squares = torch.zeros(len(y), len(x), device=descriptors.device)
    for one, other in combinations_with_replacement(weights, 2):
        product = (corners[one] * corners[other]).sum(0)[y][:, x]
        squares += (1 if one == other else 2) * weights[one] * weights[other] * product
    return squares.clamp_min(EPSILON**2).sqrt()


def _neighbours(
    cells: int, factor: int, *, device: torch.device
) -> tuple[Int[torch.Tensor, " _"], Float[torch.Tensor, " _"]]:
    """For every fine cell of an axis, the coarse cell at or before its centre, and how far it lies towards the next."""
    centres = ((torch.arange(cells * factor, device=device) + 0.5) / factor - 0.5).clamp(0, cells - 1)
    before = centres.floor()
    return before.long(), centres - before
