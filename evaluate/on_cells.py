"""Matchers that compare a keypoint with the target's cells as they are: soft-argmaxes and the four-cell mean."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError
from matchkit.core.similarity import cosines, kernelled, peaks, sample, soft_argmax, windowed
from matchkit.evaluate.seeking import Sought

Query = Literal["sampled", "cell"]
"""The source's descriptor: bilinear at the keypoint, or that of the cell in which the keypoint lies."""


def compared(
    source: Float[torch.Tensor, "d sh sw"],
    target: Float[torch.Tensor, "d gh gw"],
    points: Float[np.ndarray, "n 2"],
    *,
    query: Query,
) -> Float[torch.Tensor, "n gh gw"]:
    """The cosine of each keypoint's descriptor with that of every cell of the target."""
    at = torch.tensor(points.tolist(), dtype=source.dtype, device=source.device).reshape(-1, 2)
    if query == "cell":
        at = (at + 0.5).floor()
    return cosines(sample(source, at), target)


@dataclass(frozen=True, slots=True)
class SoftArgmaxParams:
    """Parameters of `soft-argmax`; the defaults are SD4Match's.

    Attributes:
        temperature: of the softmax over the target's cells.
        query: where the source's descriptor is taken.
    """

    temperature: float = 0.04
    query: Query = "sampled"

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"the temperature of a softmax must be above 0, not {self.temperature}")


class SoftArgmax:
    """The expected place under a softmax of the cosines over all cells of the target. Source: SD4Match §4.1."""

    Params: ClassVar[type[SoftArgmaxParams]] = SoftArgmaxParams

    def __init__(self, params: SoftArgmaxParams) -> None:
        self._params = params

    def match(
        self,
        source: Float[torch.Tensor, "d sh sw"],
        target: Float[torch.Tensor, "d gh gw"],
        points: Float[np.ndarray, "n 2"],
    ) -> Float[np.ndarray, "n 2"]:
        """Takes (x, y) keypoints of the source's grid frame to points of the target's grid frame."""
        return self.seek(source, target, points).found

    @torch.inference_mode()
    def seek(
        self,
        source: Float[torch.Tensor, "d sh sw"],
        target: Float[torch.Tensor, "d gh gw"],
        points: Float[np.ndarray, "n 2"],
    ) -> Sought:
        """As `match`, with the similarities by which it decides."""
        scores = compared(source, target, points, query=self._params.query)
        found = soft_argmax(self._narrowed(scores), self._params.temperature).cpu().numpy()
        return Sought(found, scores, self._params.temperature)

    def _narrowed(self, scores: Float[torch.Tensor, "n h w"]) -> Float[torch.Tensor, "n h w"]:
        return scores


@dataclass(frozen=True, slots=True)
class WindowSoftArgmaxParams(SoftArgmaxParams):
    """Parameters of `window-soft-argmax`; the defaults are those of Telling Left from Right after training.

    Attributes:
        temperature: of the softmax over the target's cells.
        query: where the source's descriptor is taken.
        window: cells to each side of the peak that count; 7 is a window of 15 x 15. Published zero-shot: 5.
        outside: what the other cells count: a cosine of `zero`, as published, by which a low peak is drawn to the
            grid's centre, or `nothing`.
    """

    temperature: float = 0.02
    query: Query = "cell"
    window: int = 7
    outside: Literal["zero", "nothing"] = "zero"

    def __post_init__(self) -> None:
        SoftArgmaxParams.__post_init__(self)
        if self.window < 0:
            raise ConfigError(f"a window reaches 0 cells or more, not {self.window}")


class WindowSoftArgmax(SoftArgmax):
    """The soft-argmax in a window about the greatest cosine. Source: Telling Left from Right §4.2."""

    Params = WindowSoftArgmaxParams

    def __init__(self, params: WindowSoftArgmaxParams) -> None:
        super().__init__(params)
        self._window = params.window
        self._outside = 0.0 if params.outside == "zero" else float("-inf")

    def _narrowed(self, scores: Float[torch.Tensor, "n h w"]) -> Float[torch.Tensor, "n h w"]:
        return windowed(scores, self._window, self._outside)


@dataclass(frozen=True, slots=True)
class KernelSoftArgmaxParams(SoftArgmaxParams):
    """Parameters of `kernel-soft-argmax`; the defaults are SD4Match's.

    Attributes:
        temperature: of the softmax over the target's cells.
        query: where the source's descriptor is taken.
        sigma: of the Gaussian in cells.
    """

    sigma: float = 7.0

    def __post_init__(self) -> None:
        SoftArgmaxParams.__post_init__(self)
        if self.sigma <= 0:
            raise ConfigError(f"the sigma of a Gaussian must be above 0, not {self.sigma}")


class KernelSoftArgmax(SoftArgmax):
    """The soft-argmax of the cosines times a Gaussian about the greatest one. Source: SD4Match §4.1, after SFNet."""

    Params = KernelSoftArgmaxParams

    def __init__(self, params: KernelSoftArgmaxParams) -> None:
        super().__init__(params)
        self._sigma = params.sigma

    def _narrowed(self, scores: Float[torch.Tensor, "n h w"]) -> Float[torch.Tensor, "n h w"]:
        return kernelled(scores, self._sigma)


@dataclass(frozen=True, slots=True)
class BilinearParams:
    """`bilinear` has no parameters."""


class Bilinear:
    """The nearest cells of the four cells about a keypoint, averaged by its distance to them. Source: SD4Match §4.1."""

    Params = BilinearParams

    def __init__(self, params: BilinearParams) -> None:
        del params

    @torch.inference_mode()
    def match(
        self,
        source: Float[torch.Tensor, "d sh sw"],
        target: Float[torch.Tensor, "d gh gw"],
        points: Float[np.ndarray, "n 2"],
    ) -> Float[np.ndarray, "n 2"]:
        """Takes (x, y) keypoints of the source's grid frame to points of the target's grid frame."""
        height, width = source.shape[1:]
        inside = np.clip(points, 0, np.asarray([width - 1, height - 1], np.float32))
        before = np.minimum(np.floor(inside), np.maximum(np.asarray([width - 2, height - 2]), 0)).astype(np.float32)
        towards = inside - before
        far = np.asarray([[[0, 0]], [[1, 0]], [[0, 1]], [[1, 1]]], np.float32)
        corners = np.minimum(before + far, np.asarray([width - 1, height - 1], np.float32))
        weights = np.abs(1 - far - towards).prod(2, keepdims=True)
        best = peaks(compared(source, target, corners.reshape(-1, 2), query="sampled")).cpu().numpy()
        found = (weights * best.reshape(corners.shape)).sum(0)
        return np.asarray(found, dtype=np.float32)
