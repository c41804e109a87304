"""What a derived store costs: bytes, and layer by layer the error of the maps and how often a match stays the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int, Shaped

from matchkit.cache.care.survey import Survey
from matchkit.cache.layout import image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.core.geometry import cell_index, image_to_grid, place
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.similarity import cells, unit
from matchkit.core.spec import FeatureSpec


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """How a layer of a derived store differs from its parent's, over all timesteps of both images of some pairs.

    Attributes:
        layer: its name.
        error: root mean square of the difference, relative to that of the parent's values.
        agreement: share of the pairs' keypoints whose match, the cell of the target with the greatest cosine, stays.
        cells: the same over all cells of the source, most of which no annotator would have chosen.
    """

    layer: str
    error: float
    agreement: float
    cells: float


def bytes_an_image(store: FeatureStore) -> int:
    """Bytes of an image's maps on the disk, an average where they are compressed."""
    survey = Survey(store.place)
    if not survey.layout.compressed:
        return image_bytes(store.spec)
    shards = [
        file for array in survey.arrays for file in store.place.sizes(array.name).items() if file[0] != "zarr.json"
    ]
    return sum(size for _, size in shards) // len(store.ids)


def layer_losses(
    parent: FeatureStore,
    derived: FeatureStore,
    pairs: Sequence[Pair],
    images: Mapping[str, ImageRecord],
    *,
    done: Callable[[], object] = lambda: None,
) -> list[LayerLoss]:
    """Compares each layer of a derived store on some pairs with keypoints; `done` is called per pair."""
    sums = {name: _Sums() for name in derived.layers}
    for pair in pairs:
        both = pair.source, pair.target
        before = [parent.read(image_id, derived.layers, derived.timesteps) for image_id in both]
        after = [derived.read(image_id) for image_id in both]
        for name, total in sums.items():
            keypoints = _cells(pair, images[pair.source], parent.spec, parent.spec.layer(name).grid)
            total.add([maps[name] for maps in before], [maps[name] for maps in after], keypoints)
        done()
    return [LayerLoss(name, *total.means()) for name, total in sums.items()]


def _cells(pair: Pair, image: ImageRecord, spec: FeatureSpec, grid: tuple[int, int]) -> Int[torch.Tensor, " n"]:
    placement = place(image.size, spec.input_size, fit=spec.fit)
    return torch.from_numpy(cell_index(image_to_grid(pair.source_points, placement, grid), grid))


class _Sums:
    """What a layer's means are made of."""

    def __init__(self) -> None:
        self._error = self._square = 0.0
        self._same = [0, 0]
        self._matches = [0, 0]

    def add(
        self, before: Sequence[torch.Tensor], after: Sequence[torch.Tensor], keypoints: Int[torch.Tensor, " n"]
    ) -> None:
        for old, new in zip(before, after, strict=True):
            self._error += float((new.double() - old.double()).square().sum())
            self._square += float(old.double().square().sum())
        same = _nearest(*before) == _nearest(*after)
        for number, chosen in enumerate((same[:, keypoints], same)):
            self._same[number] += int(chosen.sum())
            self._matches[number] += chosen.numel()

    def means(self) -> tuple[float, float, float]:
        keypoints, cells_ = (same / matches for same, matches in zip(self._same, self._matches, strict=True))
        return (self._error / self._square) ** 0.5 if self._error else 0.0, keypoints, cells_


def _nearest(
    source: Shaped[torch.Tensor, "t c gh gw"], target: Shaped[torch.Tensor, "t c gh gw"]
) -> Int[torch.Tensor, "t n"]:
    # a timestep at a time: the cosines of 64 x 64 cells with as many take 67 MB
    return torch.stack(
        [
            (unit(cells(one.float())) @ unit(cells(other.float())).T).argmax(dim=1)
            for one, other in zip(source, target, strict=True)
        ]
    )
