"""Adaptive pose alignment: in which pose does the source resemble the target most?

A distance of two sets of descriptors is taken for every pose of the source, and the least one wins. To pose a feature
map permutes its cells, by which no such distance changes: the source's maps must be extracted from posed copies of its
image. Source: Zhang et al., Telling Left from Right, arXiv 2311.17034; GeoAware-SC §4.1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int

from matchkit.core.errors import ConfigError
from matchkit.core.similarity import resize, unit
from matchkit.evaluate.masks import MaskSampling

Neighbour = Literal["l2", "dot"]
Power = Literal["plain", "squared"]
Pooling = Literal["mean", "sum"]
MaskedOut = Literal["left-out", "far"]

FAR = -1e5
"""What the released code puts for every element of a masked map that is exactly zero."""
BLOCK = 2**24
"""Costs of one block of cells that are in memory together: 64 MiB in single precision."""


@dataclass(frozen=True, slots=True)
class PoseAlignmentParams:
    """How the source's pose is chosen.

    Attributes:
        poses: in which the source is tried beside as it is; none leaves alignment out.
        distance: `imd`, each source cell to its nearest target cell, or `mutual`, cells that are nearest to each other.
        neighbour: nearest by Euclidean distance (`l2`) or by the greatest dot product (`dot`).
        power: what is pooled of two neighbours: their Euclidean distance (`plain`), or its square.
        pooling: over the cells; `sum` favours the pose whose mask has fewer cells.
        masks: what of an image counts: its object's `segmentation`, its `box`, or all of it (`none`).
        mask_target: whether the target is masked too.
        mask_sampling: at which input pixel of a cell its mask is read, that at the cell's `centre` or its upper left
            `corner`, as published.
        masked_out: cells of the target without mask are `left-out`, or `far`, the released code's rule: every element
            of the masked maps that is exactly zero becomes -100000, so zeros within the object count too.
        alignment_grid: cells an edge of the grid on which maps are compared; 0 is the descriptor's own grid.
        partnerless: in a mirrored source, what becomes of a keypoint whose left-right partner is not annotated in both
            images: it `keep`s its place found without alignment, or its partner is sought in the mirrored source by
            the keypoint's own descriptor (`self-match`).

    Raises:
        ConfigError: a pose named twice, a grid of less than no cells, or `far` for another distance than the published.
    """

    poses: tuple[Literal["hflip", "rot90", "rot270"], ...] = ()
    distance: Literal["imd", "mutual"] = "imd"
    neighbour: Neighbour = "l2"
    power: Power = "plain"
    pooling: Pooling = "mean"
    masks: Literal["segmentation", "box", "none"] = "segmentation"
    mask_target: bool = True
    mask_sampling: MaskSampling = "centre"
    masked_out: MaskedOut = "left-out"
    alignment_grid: int = 0
    partnerless: Literal["keep", "self-match"] = "keep"

    def __post_init__(self) -> None:
        twice = [pose for number, pose in enumerate(self.poses) if pose in self.poses[:number]]
        if twice:
            raise ConfigError(f"the pose '{twice[0]}' stands twice in poses")
        if self.alignment_grid < 0:
            raise ConfigError(f"alignment_grid must be 0 (the descriptor's own) or more, not {self.alignment_grid}")
        if self.masked_out == "far" and (self.distance, self.neighbour) != ("imd", "l2"):
            raise ConfigError("masked_out=far is for distance=imd with neighbour=l2; take masked_out=left-out")


@torch.inference_mode()
def pose_distances(
    sources: Float[torch.Tensor, "b d sh sw"],
    target: Float[torch.Tensor, "d gh gw"],
    params: PoseAlignmentParams,
    *,
    source_masks: Bool[torch.Tensor, "b mh mw"],
    target_mask: Bool[torch.Tensor, "mh mw"],
) -> Float[torch.Tensor, " b"]:
    """How far the descriptors of a source in b poses are from those of the target.

    Descriptors are brought to unit length and then resized, not the other way round, as in the released code.

    Args:
        sources: not normalised.
        target: not normalised.
        params: of the alignment.
        source_masks: on the grid of the alignment.
        target_mask: on the same grid.

    Returns:
        Infinity for a pose in which no cell is to be compared.
    """
    grid = (int(target_mask.shape[0]), int(target_mask.shape[1]))
    maps = _normalised(sources, grid)
    targets, target_masks = (
        x.expand(len(maps), *x.shape[1:]) for x in (_normalised(target[None], grid), target_mask[None])
    )
    if params.distance == "mutual":
        return mutual_nearest(
            maps,
            targets,
            source_mask=source_masks,
            target_mask=target_masks,
            neighbour=params.neighbour,
            power=params.power,
            pooling=params.pooling,
        )
    return imd(
        maps,
        targets,
        source_mask=source_masks,
        target_mask=target_masks,
        neighbour=params.neighbour,
        power=params.power,
        pooling=params.pooling,
        masked_out=params.masked_out,
    )


def _normalised(maps: Float[torch.Tensor, "b d _ _"], grid: tuple[int, int]) -> Float[torch.Tensor, "b d h w"]:
    # with channels last torch resizes many of them seven times faster
    last = maps.float().contiguous(memory_format=torch.channels_last)
    return resize(unit(last.movedim(1, -1)).movedim(-1, 1), grid)


def imd(
    source: Float[torch.Tensor, "b d sh sw"],
    target: Float[torch.Tensor, "b d gh gw"],
    *,
    source_mask: Bool[torch.Tensor, "b sh sw"],
    target_mask: Bool[torch.Tensor, "b gh gw"],
    neighbour: Neighbour = "l2",
    power: Power = "plain",
    pooling: Pooling = "mean",
    masked_out: MaskedOut = "left-out",
) -> Float[torch.Tensor, " b"]:
    """The instance matching distance: from every cell of the source's object to its nearest cell of the target.

    The defaults are the released code's but for `masked_out` (see `PoseAlignmentParams`). Maps are taken as they are.

    Returns:
        Infinity where one of the masks has no cell.
    """
    found = []
    for number in range(len(source)):
        rows = _cells(source[number], source_mask[number])
        columns = _cells(target[number], target_mask[number])
        if min(len(rows), len(columns)) == 0:
            found.append(source.new_tensor(torch.inf))
            continue
        # without a zero among what counts, a far cell is nobody's neighbour
        if masked_out == "far" and bool((rows == 0).any() or (columns == 0).any()):
            if not bool(target_mask[number].all()):
                columns = torch.cat([columns, columns.new_zeros(1, columns.shape[1])])  # stands for all masked cells
            of_row, _ = _nearest(rows, columns, "far")
            rows, columns = (x.masked_fill(x == 0, FAR) for x in (rows, columns))
        else:
            of_row, _ = _nearest(rows, columns, neighbour)
        found.append(_pooled(rows - columns[of_row], power, pooling))
    return torch.stack(found)


def mutual_nearest(
    source: Float[torch.Tensor, "b d sh sw"],
    target: Float[torch.Tensor, "b d gh gw"],
    *,
    source_mask: Bool[torch.Tensor, "b sh sw"],
    target_mask: Bool[torch.Tensor, "b gh gw"],
    neighbour: Neighbour = "l2",
    power: Power = "plain",
    pooling: Pooling = "mean",
) -> Float[torch.Tensor, " b"]:
    """The distance of those cells of source and target that are nearest to each other.

    It needs no masks (give masks that are all true), as the background seldom has mutual neighbours that are near.

    Returns:
        Infinity where one of the masks has no cell.
    """
    found = []
    for number in range(len(source)):
        rows = _cells(source[number], source_mask[number])
        columns = _cells(target[number], target_mask[number])
        if min(len(rows), len(columns)) == 0:
            found.append(source.new_tensor(torch.inf))
            continue
        of_row, of_column = _nearest(rows, columns, neighbour)
        mutual = of_column[of_row] == torch.arange(len(rows), device=rows.device)
        found.append(_pooled(rows[mutual] - columns[of_row[mutual]], power, pooling))
    return torch.stack(found)


def _cells(
    descriptors: Float[torch.Tensor, "d gh gw"], mask: Bool[torch.Tensor, "gh gw"]
) -> Float[torch.Tensor, "_ d"]:
    return descriptors.movedim(0, -1)[mask]


def _pooled(differences: Float[torch.Tensor, "n d"], power: Power, pooling: Pooling) -> Float[torch.Tensor, ""]:
    squares = differences.square().sum(1)
    values = squares.sqrt() if power == "plain" else squares
    return values.mean() if pooling == "mean" else values.sum()


def _products(rows: Float[torch.Tensor, "n d"], columns: Float[torch.Tensor, "m d"]) -> Float[torch.Tensor, "n m"]:
    return -rows @ columns.T


def _far_squares(rows: Float[torch.Tensor, "n d"], columns: Float[torch.Tensor, "m d"]) -> Float[torch.Tensor, "n m"]:
    """Squared distances once zeros have become `FAR`.

    Channels are told apart by which of both is zero: the great numbers then never stand in a difference that they
    cancel out of, which single precision could not bear.
    """
    zero, other_zero = ((values == 0).to(values) for values in (rows, columns))
    there, other_there = 1 - zero, 1 - other_zero
    apart, other_apart = (rows - FAR).square() * there, (columns - FAR).square() * other_there
    left = torch.cat([rows.square(), -2 * rows, there, apart, zero], 1)
    return left @ torch.cat([other_there, columns, columns.square(), other_zero, other_apart], 1).T


Cost = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
COSTS: Mapping[str, Cost] = MappingProxyType({"l2": torch.cdist, "dot": _products, "far": _far_squares})
"""What is least for the nearest cells; their distance is then taken from their difference, which is more exact."""


def _nearest(
    rows: Float[torch.Tensor, "n d"], columns: Float[torch.Tensor, "m d"], kind: Literal["l2", "dot", "far"]
) -> tuple[Int[torch.Tensor, " n"], Int[torch.Tensor, " m"]]:
    """For every row its nearest column, and for every column its nearest row; the first of equals.

    Costs are made in blocks of rows, so memory does not grow with n times m.
    """
    size = max(1, BLOCK // len(columns))
    of_row = []
    least = columns.new_full((len(columns),), torch.inf)
    of_column = torch.zeros(len(columns), dtype=torch.long, device=columns.device)
    for first in range(0, len(rows), size):
        costs = COSTS[kind](rows[first : first + size], columns)
        of_row.append(costs.argmin(1))
        values, places = costs.min(0)
        of_column = torch.where(values < least, places + first, of_column)
        least = torch.minimum(values, least)
    return torch.cat(of_row), of_column
