"""What is known of a target and its exemplar, brought to the grid of a head and to the size of its pictures."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from PIL import Image

from matchkit.core.conditions import KnowsTruth
from matchkit.core.errors import DatasetError
from matchkit.core.geometry import Fit, grid_to_image, image_to_grid, place
from matchkit.core.records import Canvas, ImageRecord, Placement
from matchkit.evaluate.translation.tally import Wanted
from matchkit.evaluate.translation.warping import copied
from matchkit.extract.images import to_input

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """How images lie in the input of the networks: its (width, height) in pixels, and how they are put into it."""

    input_size: tuple[int, int]
    fit: Fit

    def placement(self, record: ImageRecord) -> Placement:
        """Of an image."""
        return place(record.size, self.input_size, fit=self.fit)

    def to_image(
        self, places: Float[np.ndarray, "gh gw 2"], record: ImageRecord, grid: Grid
    ) -> Float[np.ndarray, "gh gw 2"]:
        """Places of a grid's frame in an image's."""
        return grid_to_image(places.reshape(-1, 2), self.placement(record), grid).reshape(places.shape)

    def sampled(
        self, values: Shaped[np.ndarray, "h w *c"], record: ImageRecord, grid: Grid
    ) -> tuple[Shaped[np.ndarray, "gh gw *c"], Bool[np.ndarray, "gh gw"]]:
        """The values of an image's pixels in which a grid's cells have their centres, and which lie in the image."""
        centres = np.rint(self.to_image(copied(grid), record, grid)).astype(np.int64)
        size = np.asarray(record.size)
        inside = ((centres >= 0) & (centres < size)).all(2)
        x, y = np.moveaxis(np.clip(centres, 0, size - 1), 2, 0)
        return values[y, x], inside


class PairTruth:
    """What a dataset knows of a target and its exemplar; without truth there is none, and no picture.

    Args:
        data: the dataset, or None of one that knows nothing of these two.
        target: the target.
        exemplar: its exemplar.
        frame: how both lie in the networks' input.
        grid: (height, width) in cells.

    Attributes:
        wanted: of each cell.
        known: where the exemplar's place is.
        places: that place in the exemplar's grid frame.
    """

    def __init__(
        self, data: KnowsTruth | None, target: ImageRecord, exemplar: ImageRecord, *, frame: Frame, grid: Grid
    ) -> None:
        self._frame, self._target, self._grid = frame, target, grid
        self._labels = np.zeros(target.size[::-1], np.int64)
        self._picture: np.ndarray | None = None
        places = np.full((*grid, 2), np.nan, np.float32)
        reference = float(max(exemplar.size))
        if data is not None:
            self._labels = data.labels(target.id).astype(np.int64)
            reference = _longer_side(data.labels(exemplar.id) > 0)
            if target.category == exemplar.category:
                truth = data.truth(target.id, exemplar.id)
                self._picture = truth.picture
                flow, inside = frame.sampled(truth.flow, target, grid)
                places = np.where(inside[..., None], flow, np.nan).astype(np.float32)
        self.wanted = Wanted(places, self.labels(grid), reference)
        self.known: Bool[np.ndarray, "gh gw"] = np.asarray(np.isfinite(places).all(2))
        flat = image_to_grid(places.reshape(-1, 2), frame.placement(exemplar), grid)
        self.places: Float[np.ndarray, "gh gw 2"] = flat.reshape(places.shape)

    def labels(self, grid: Grid) -> Int[np.ndarray, "gh gw"]:
        """The part of each cell of a grid, 0 for the background and beyond the image."""
        labels, inside = self._frame.sampled(self._labels, self._target, grid)
        return np.asarray(np.where(inside, labels, 0))

    def picture(self, side: int) -> Float[np.ndarray, "s s 3"] | None:
        """What should come out, in [0, 1] at a size of the input's own shape; None where that is not known."""
        if self._picture is None:
            return None
        placed, _ = to_input(Image.fromarray(self._picture), Canvas((side, side), self._frame.fit))
        return placed.permute(1, 2, 0).numpy()


def _longer_side(figure: Bool[np.ndarray, "h w"]) -> float:
    """Of the box around what is shown, in pixels.

    Raises:
        DatasetError: nothing is.
    """
    if not figure.any():
        raise DatasetError("an exemplar shows nothing: its labels are all background")
    rows, columns = np.nonzero(figure)
    return float(max(np.ptp(rows), np.ptp(columns)) + 1)
