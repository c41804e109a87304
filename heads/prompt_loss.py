"""What prompts are learnt from: how probable the target's neighbourhood is under a softmax of cosines over its cells.

Source: Li et al., SD4Match, CVPR 2024 (arXiv 2310.17569); `source-000` is what a document about it sketches.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.core.similarity import cosines, sample

REACH = 3
"""Cells to each side of the target that count: a window of 7 x 7. Source: SD4Match §3.2."""
Described = tuple[Float[torch.Tensor, "d gh gw"], Float[torch.Tensor, "d gh gw"], BatchPair]
"""The descriptors of a pair's source and target, not normalised, and the pair."""


@dataclass(frozen=True, slots=True)
class PromptLossParams:
    """Parameters of the loss; the defaults are the published ones.

    Attributes:
        loss: `sd4match`, the published one, with keypoints between cells; `source-000`, keypoints
            at whole cells in both images, and a Gaussian over all cells about the target's.
        temperature: of the softmax over the target's cells.
        sigma: of the Gaussian about the target, in cells.
    """

    loss: Literal["sd4match", "source-000"] = "sd4match"
    temperature: float = 0.04
    sigma: float = 1.5

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.sigma <= 0:
            raise ConfigError("the temperature of a softmax and the sigma of a Gaussian must be above 0")


def counted(batch: PairBatch) -> list[BatchPair]:
    """The pairs of a batch that have keypoints; the others have nothing to say.

    Raises:
        DatasetError: none has one. A loss of zero would still let Adam's momentum move the prompt.
    """
    pairs = [pair for pair in batch.pairs if len(pair.source_points)]
    if not pairs:
        raise DatasetError(f"none of the {len(batch.pairs)} pairs of a batch has a keypoint: there is nothing to learn")
    return pairs


def prompt_loss(params: PromptLossParams, pairs: Iterable[Described]) -> dict[str, Float[torch.Tensor, ""]]:
    """The mean over the pairs of the mean over each one's keypoints, as `total`."""
    return {"total": torch.stack([_keypoints(params, *pair).mean() for pair in pairs]).mean()}


def _keypoints(
    params: PromptLossParams,
    source: Float[torch.Tensor, "d gh gw"],
    target: Float[torch.Tensor, "d gh gw"],
    pair: BatchPair,
) -> Float[torch.Tensor, " n"]:
    """The loss of each keypoint of a pair, in fp32 whatever the network's precision."""
    with torch.autocast(source.device.type, enabled=False):
        if params.loss == "sd4match":
            logs = log_shares(source, target, pair.source_points.to(source), temperature=params.temperature)
            return near_target(logs, pair.target_points.to(source), sigma=params.sigma)
        width = source.shape[2]
        at, to = (
            torch.stack([cells % width, cells // width], 1).to(source)
            for cells in (pair.source_cells, pair.target_cells)
        )
        logs = log_shares(source, target, at, temperature=params.temperature)
        targets = gaussian_targets(to, (logs.shape[1], logs.shape[2]), sigma=params.sigma)
        return -(targets * logs.flatten(1)).sum(1)


def log_shares(
    source: Float[torch.Tensor, "d sh sw"],
    target: Float[torch.Tensor, "d gh gw"],
    points: Float[torch.Tensor, "n 2"],
    *,
    temperature: float,
) -> Float[torch.Tensor, "n gh gw"]:
    """The logarithm of the softmax, over the target's cells, of their cosines with the source at (x, y) points."""
    scores = cosines(sample(source, points), target).flatten(1) / temperature
    logs: torch.Tensor = scores.log_softmax(1).unflatten(1, target.shape[1:])
    return logs


def near_target(
    logs: Float[torch.Tensor, "n gh gw"], points: Float[torch.Tensor, "n 2"], *, sigma: float
) -> Float[torch.Tensor, " n"]:
    """The negative logarithm of probabilities about each (x, y) point, weighted by a Gaussian of `sigma` cells.

    The weights of the 7 x 7 places sum to 0.965425 for the published sigma of 1.5; those of places on the border and
    beyond are lost, so that a target near the border counts less. Source: SD4Match §3.2.
    """
    along = torch.arange(-REACH, REACH + 1, device=logs.device)
    offsets = torch.cartesian_prod(along, along).to(logs)
    weights = torch.exp(-offsets.square().sum(1) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    places = points[:, None] + offsets
    last = torch.tensor([logs.shape[2] - 1, logs.shape[1] - 1]).to(logs)
    inside = ((places > 0) & (places < last)).all(2)
    return -(weights * inside * log_sampled(logs, places)).sum(1)


def log_sampled(
    logs: Float[torch.Tensor, "n gh gw"], points: Float[torch.Tensor, "n m 2"]
) -> Float[torch.Tensor, "n m"]:
    """The logarithm of what maps that are given as logarithms hold at (x, y) points, bilinear, clamped to the border.

    It is summed as logarithms: the smallest probabilities are none in fp32, and neither is their gradient.
    """
    last = torch.tensor([logs.shape[2] - 1, logs.shape[1] - 1]).to(logs)
    inside = points.clamp_min(0).minimum(last)
    before = inside.floor()
    towards = inside - before
    terms = []
    for corner in itertools.product((0, 1), (0, 1)):
        step = torch.tensor(corner).to(logs)
        x, y = (before + step).minimum(last).long().unbind(2)
        share = (1 - step - towards).abs().prod(2)
        terms.append(logs.flatten(1).gather(1, y * logs.shape[2] + x) + share.log())
    return torch.stack(terms).logsumexp(0)


def gaussian_targets(
    points: Float[torch.Tensor, "n 2"], grid: tuple[int, int], *, sigma: float
) -> Float[torch.Tensor, "n cells"]:
    """A Gaussian of `sigma` cells about each (x, y) point over all cells of a grid (height, width); a row sums to 1."""
    ys, xs = (torch.arange(size).to(points) for size in grid)
    squares = (xs - points[:, :1]).square()[:, None] + (ys - points[:, 1:]).square()[..., None]
    return (-squares / (2 * sigma**2)).flatten(1).softmax(1)
