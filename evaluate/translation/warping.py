"""How well cells of one image are matched with those of an exemplar, and whether the matching has failed altogether.

Numpy alone. A flow has for each cell of the target (x, y) in the exemplar, with centres at integers. Each number is of
one pair of images; the counts behind a PCK can be added up over pairs. Source: CoCosNet §6.3.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.geometry import cell_index

Flow = Float[np.ndarray, "gh gw 2"]
ROUND_TRIP = 1.5
"""Cells: from a cell to its match and back must be no farther. Source: MIDMs, by CoCosNet §6.2."""
COPIED = 1.0
"""Cells: a match as near as this to its own cell is a copy."""
COLLAPSED = 0.95
"""Share of the greatest entropy from which on matching is called collapsed. In the toy of CoCosNet §6.4 a collapsed
matching has 0.997."""


@dataclass(frozen=True, slots=True)
class DensePck:
    """The cells that were matched within alpha times the reference.

    Attributes:
        correct: how many, by alpha, e.g. `correct["0.10"]`.
        cells: all whose truth is known.
    """

    correct: Mapping[str, int]
    cells: int

    @property
    def scores(self) -> dict[str, float]:
        """PCK in percent by alpha; NaN where no truth is known."""
        return {
            alpha: round(100 * count / self.cells, 4) if self.cells else math.nan
            for alpha, count in self.correct.items()
        }


def dense_pck(found: Flow, truth: Flow, *, reference: float, alphas: Sequence[float]) -> DensePck:
    """Counts the cells whose match is at most alpha times the reference away from the truth.

    Args:
        found: the match of each cell of the target, in the exemplar's grid or image frame; NaN is wrong.
        truth: the same of the truth; NaN where the exemplar does not show what the cell does.
        reference: the length to which alpha is relative, in the same frame, e.g. the exemplar's longer edge.
        alphas: the thresholds.

    Raises:
        ConfigError: a reference or alpha that is not positive, or no alpha.
    """
    if reference <= 0 or not alphas or min(alphas) <= 0:
        raise ConfigError(f"PCK needs a positive reference and positive alphas, not {reference} and {list(alphas)}")
    known = np.isfinite(truth).all(axis=2)
    errors = np.linalg.norm(found[known].astype(np.float64) - truth[known], axis=1)
    names = (max(f"{alpha:.2f}", f"{alpha:g}", key=len) for alpha in alphas)
    correct = {name: int((errors <= alpha * reference).sum()) for name, alpha in zip(names, alphas, strict=True)}
    return DensePck(correct, int(known.sum()))


def pooled(parts: Sequence[DensePck]) -> DensePck:
    """The counts of several pairs of images together: each cell counts alike.

    Raises:
        ConfigError: there are none, or they are of other alphas.
    """
    if not parts or any(list(part.correct) != list(parts[0].correct) for part in parts):
        raise ConfigError("only the counts of one or more pairs at the same alphas can be added up")
    summed = {alpha: sum(part.correct[alpha] for part in parts) for alpha in parts[0].correct}
    return DensePck(summed, sum(part.cells for part in parts))


def part_agreement(
    warped_labels: Int[np.ndarray, "gh gw"], labels: Int[np.ndarray, "gh gw"], *, foreground: Bool[np.ndarray, "gh gw"]
) -> float:
    """The share of foreground cells to which the exemplar's labels, warped, bring the label that is there, 0 to 1.

    Raises:
        DatasetError: no cell is foreground.
    """
    return float((warped_labels == labels)[_some(foreground)].mean())


def row_entropies(probabilities: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """The entropy in nats of each cell's distribution over the m cells of the exemplar, 0 to ln m, in double precision.

    The rows may be any block of the matrix: what is kept of it is a number a row.

    Raises:
        ConfigError: a row that is not a distribution, by more than 1e-3.
    """
    rows = probabilities.astype(np.float64)
    if not ((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3)):
        raise ConfigError("entropies are of distributions: each row must be a softmax over all cells of the exemplar")
    return np.asarray(-(rows * np.log(np.where(rows > 0, rows, 1))).sum(axis=1))


def mean_entropy(probabilities: Float[np.ndarray, "n m"]) -> float:
    """The mean of the rows' entropies in nats.

    Raises:
        ConfigError: as `row_entropies`.
        DatasetError: there is no row.
    """
    if not len(probabilities):
        raise DatasetError("there is no matched cell to take an entropy of")
    return float(row_entropies(probabilities).mean())


def entropy_alarm(mean_entropy: float, cells: int, *, share: float = COLLAPSED) -> str:
    """A warning that every cell matches all of the exemplar's cells alike, or "".

    Args:
        mean_entropy: of the matching's rows, in nats.
        cells: of the exemplar.
        share: of ln(cells), from which on there is a warning.

    Raises:
        ConfigError: less than two cells, or a share outside (0, 1].
    """
    if cells < 2 or not 0 < share <= 1:
        raise ConfigError(f"an alarm needs 2 cells or more and a share in (0, 1], not {cells} and {share}")
    if mean_entropy < share * math.log(cells):
        return ""
    return (
        f"the matching has collapsed: its mean entropy is {mean_entropy:.2f} of at most ln {cells} = "
        f"{math.log(cells):.2f}. Weaken the domain loss, strengthen feat_sem, or start at a higher temperature"
    )


def round_trips(forward: Flow, backward: Float[np.ndarray, "eh ew 2"]) -> Float[np.ndarray, "gh gw"]:
    """How far each cell of the target is from where its match leads back to, in cells.

    Args:
        forward: for each cell of the target its match in the exemplar's grid frame.
        backward: for each cell of the exemplar its match in the target's grid frame; it is read at the cell in which
            the forward match lies.

    Raises:
        ConfigError: a match is not finite.
    """
    if not (np.isfinite(forward).all() and np.isfinite(backward).all()):
        raise ConfigError("a round trip needs a finite match of every cell, both ways")
    exemplar, target = (flow.shape[:2] for flow in (backward, forward))
    back = backward.reshape(-1, 2)[cell_index(forward.astype(np.float32), (exemplar[0], exemplar[1]))]
    return np.asarray(np.linalg.norm(back.astype(np.float64) - copied((target[0], target[1])), axis=2))


def cycle_error(
    forward: Flow, backward: Float[np.ndarray, "eh ew 2"], *, where: Bool[np.ndarray, "gh gw"] | None = None
) -> float:
    """The mean of the round trips in cells, over all cells or those of a mask.

    Raises:
        ConfigError: a match is not finite.
        DatasetError: the mask is empty.
    """
    return float(_counted(round_trips(forward, backward), where).mean())


def forward_backward_rate(
    forward: Flow,
    backward: Float[np.ndarray, "eh ew 2"],
    *,
    within: float = ROUND_TRIP,
    where: Bool[np.ndarray, "gh gw"] | None = None,
) -> float:
    """The share of cells u, all or those of a mask, whose round trip `||u - nn(nn(u))||` is at most `within` cells.

    Raises:
        ConfigError: a match is not finite.
        DatasetError: the mask is empty.
    """
    return float((_counted(round_trips(forward, backward), where) <= within).mean())


def copied(grid: tuple[int, int]) -> Float[np.ndarray, "gh gw 2"]:
    """The flow of a grid (height, width) that takes each cell to itself: the baseline that copies the exemplar."""
    return np.stack(np.meshgrid(np.arange(grid[1]), np.arange(grid[0])), axis=-1).astype(np.float32)


def copy_score(found: Flow, *, foreground: Bool[np.ndarray, "gh gw"], within: float = COPIED) -> float:
    """The share of foreground cells whose match is at most `within` cells from the cell itself, 0 to 1.

    Near 1 the exemplar is copied and the condition ignored (CoCosNet §7.1, threads 24 and 29), unless both show the
    same pose: compare it with the score of the truth. The grids must be of one size.

    Args:
        found: the match of each cell of the target, in the exemplar's grid frame; NaN is no copy.
        foreground: the target's cells that count.
        within: in cells.

    Raises:
        DatasetError: no cell is foreground.
    """
    chosen = _some(foreground)
    away = np.linalg.norm(found[chosen].astype(np.float64) - copied((found.shape[0], found.shape[1]))[chosen], axis=1)
    return float((away <= within).mean())


def _counted(values: Float[np.ndarray, "gh gw"], where: Bool[np.ndarray, "gh gw"] | None) -> Float[np.ndarray, " n"]:
    return values.ravel() if where is None else values[_some(where)]


def _some(mask: Bool[np.ndarray, "gh gw"]) -> Bool[np.ndarray, "gh gw"]:
    if not mask.any():
        raise DatasetError("no cell counts: the mask of the foreground shows nothing on this grid")
    return mask
