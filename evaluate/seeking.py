"""How a matcher's answer is judged without the truth: from the similarities over the target, and on the way back."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float

from matchkit.core.geometry import cell_index
from matchkit.core.interfaces import Matcher
from matchkit.core.similarity import cosines, peaks, sample

ABOUT = 0.1
"""How far about a peak cells count as the same place: this share of the grid's longer edge, in x and in y."""
LEAST = -1.0
"""The least cosine there is."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What a matcher found, and by what.

    Attributes:
        found: (x, y) in the target's grid frame.
        cosines: of each keypoint's descriptor with that of every cell of the target.
        temperature: of the softmax over these, or None where the matcher has none.
    """

    found: Float[np.ndarray, "n 2"]
    cosines: Float[torch.Tensor, "n gh gw"]
    temperature: float | None


@runtime_checkable
class Seeker(Protocol):
    """A matcher that hands out the similarities by which it decides, so that they are computed once."""

    def seek(
        self,
        source: Float[torch.Tensor, "d sh sw"],
        target: Float[torch.Tensor, "d gh gw"],
        points: Float[np.ndarray, "n 2"],
    ) -> Sought:
        """Takes (x, y) keypoints of the source's grid frame to points of the target's grid frame."""
        ...


@torch.inference_mode()
def seek(
    matcher: Matcher,
    source: Float[torch.Tensor, "d sh sw"],
    target: Float[torch.Tensor, "d gh gw"],
    points: Float[np.ndarray, "n 2"],
) -> Sought:
    """What a matcher finds, and the similarities beside it; one that tells none has them computed again."""
    if isinstance(matcher, Seeker):
        return matcher.seek(source, target, points)
    at = torch.tensor(points.tolist(), dtype=source.dtype, device=source.device).reshape(-1, 2)
    return Sought(matcher.match(source, target, points), cosines(sample(source, at), target), None)


@torch.inference_mode()
def clues(sought: Sought) -> Float[np.ndarray, "n 3"]:
    """The similarity at the found place, the margin and the probability (see `Evidence`), a row a keypoint.

    The similarity lies between those of the cells about the found place (bilinear). What is away from the peak is all
    that lies more than `ABOUT` from it.
    """
    scores = sought.cosines
    at = torch.tensor(sought.found.tolist(), dtype=scores.dtype, device=scores.device).reshape(-1, 2)
    similarity = sample(scores, at).diagonal()
    about = _about_peak(scores)
    rival = scores.masked_fill(about, LEAST).flatten(1).amax(1)
    margin = scores.flatten(1).amax(1) - rival
    if sought.temperature is None:
        probability = torch.full_like(margin, torch.nan)
    else:
        shares = (scores / sought.temperature).flatten(1).softmax(1)
        probability = (shares * about.flatten(1)).sum(1)
    return torch.stack([similarity, margin, probability], 1).float().cpu().numpy()


def _about_peak(scores: Float[torch.Tensor, "n h w"]) -> Bool[torch.Tensor, "n h w"]:
    reach = max(1, round(ABOUT * max(scores.shape[1:])))
    peak = peaks(scores)
    ys, xs = (torch.arange(size).to(scores) for size in scores.shape[1:])
    near_x, near_y = (xs - peak[:, :1]).abs() <= reach, (ys - peak[:, 1:]).abs() <= reach
    return near_x[:, None] & near_y[:, :, None]


def mutual(back: Sought, points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Whether the cell of the source that is most like each found place is the one in which the keypoint lies.

    Args:
        back: the found places, sought in the source.
        points: the keypoints, in the source's grid frame.
    """
    height, width = back.cosines.shape[1:]
    best = back.cosines.flatten(1).argmax(1).cpu().numpy()
    return np.asarray(best == cell_index(points, (height, width)))


@dataclass(frozen=True, slots=True)
class Cells:
    """Where the columns and the rows of a grid's cells lie in the image frame."""

    xs: Float[np.ndarray, " gw"]
    ys: Float[np.ndarray, " gh"]


@torch.inference_mode()
def near_and_far(
    scores: Float[torch.Tensor, "n gh gw"],
    cells: Cells,
    centres: Float[np.ndarray, "n 2"],
    radii: Float[np.ndarray, " a"],
) -> tuple[Float[np.ndarray, "n a"], Float[np.ndarray, "n a"]]:
    """The greatest score within each radius of each centre, and outside of it; minus infinity where no cell is.

    A cell at just the radius is within.
    """
    at = torch.from_numpy(np.asarray(centres, np.float32)).to(scores.device)
    xs, ys = (torch.from_numpy(np.asarray(axis, np.float32)).to(scores.device) for axis in (cells.xs, cells.ys))
    squares = ((xs - at[:, :1]) ** 2)[:, None] + ((ys - at[:, 1:]) ** 2)[:, :, None]
    near, far = [], []
    for radius in radii.tolist():
        within = squares <= radius**2
        near.append(scores.masked_fill(~within, -torch.inf).flatten(1).amax(1))
        far.append(scores.masked_fill(within, -torch.inf).flatten(1).amax(1))
    return torch.stack(near, 1).float().cpu().numpy(), torch.stack(far, 1).float().cpu().numpy()
