"""Pairs as a head trains on them, read from a store: each image once, held in memory up to a bound."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from cachetools import LRUCache
from jaxtyping import Shaped

from matchkit.cache.store import FeatureStore
from matchkit.core.errors import DatasetError
from matchkit.core.geometry import Points, cell_index, place
from matchkit.core.interfaces import PairBatch
from matchkit.core.records import ImageRecord, Pair, Placement

ImageMaps = dict[str, Shaped[torch.Tensor, "t _ _ _"]]
ToGrid = Callable[[Points, Placement, tuple[int, int]], Points]


class MapCache:
    """The maps of the images used last, as torch tensors in the stored type, in at most `limit` bytes of memory."""

    def __init__(self, store: FeatureStore, *, layers: Sequence[str], timesteps: Sequence[int], limit: int) -> None:
        self.store = store
        self._layers = tuple(layers)
        self._timesteps = tuple(timesteps)
        self._held: LRUCache[str, ImageMaps] = LRUCache(limit, getsizeof=_size)

    def __getitem__(self, image_id: str) -> ImageMaps:
        """The maps of one image, {layer: (t,c,gh,gw)}."""
        if image_id in self._held:
            return self._held[image_id]
        read = self.store.read(image_id, self._layers, self._timesteps)
        maps = {layer: torch.from_numpy(values) for layer, values in read.items()}
        if _size(maps) <= self._held.maxsize:
            self._held[image_id] = maps
        return maps

    def batch(self, ids: Sequence[str]) -> dict[str, Shaped[torch.Tensor, "b t _ _ _"]]:
        """The maps of some images as {layer: (b,t,c,gh,gw)}."""
        images = [self[image_id] for image_id in ids]
        return {layer: torch.stack([maps[layer] for maps in images]) for layer in self._layers}


def _size(maps: Mapping[str, torch.Tensor]) -> int:
    return sum(values.nbytes for values in maps.values())


class CachedPairs:
    """The pairs of a split with their maps, in a seeded order that a resumed run takes up where it stopped.

    Args:
        maps: where maps are read and held.
        pairs: the pairs; those without keypoints are left out.
        images: the dataset's images by id.
        grid: (height, width) in cells of the descriptor map on which keypoints are looked up.
        to_grid: how keypoints change from the image frame to the grid frame (`matchkit.core.geometry`).

    Raises:
        StoreError: an image of the pairs is not complete in the store.
        DatasetError: no pair has a keypoint.
    """

    def __init__(
        self,
        maps: MapCache,
        pairs: Sequence[Pair],
        images: Mapping[str, ImageRecord],
        *,
        grid: tuple[int, int],
        to_grid: ToGrid,
    ) -> None:
        self._maps = maps
        self._pairs = [pair for pair in pairs if len(pair.source_points)]
        self._images = images
        self._grid = grid
        self._to_grid = to_grid
        if not self._pairs:
            raise DatasetError("none of the pairs to be trained on has a keypoint")
        ids = sorted({image_id for pair in self._pairs for image_id in (pair.source, pair.target)})
        maps.store.require(ids, remedy="Run: matchkit extract")

    def __len__(self) -> int:
        return len(self._pairs)

    def batches(self, *, size: int, seed: int, start: int = 0) -> Iterator[PairBatch]:
        """Batches of `size` pairs without end, from batch number `start` on; every epoch has its own order.

        The batch of a number is the same in every run with this seed. An epoch's last partial batch is left out, so
        all batches are of one size; a split smaller than `size` is one batch.
        """
        size = min(size, len(self._pairs))
        in_epoch = len(self._pairs) // size
        number = start
        while True:
            epoch, position = divmod(number, in_epoch)
            order = np.random.default_rng([seed, epoch]).permutation(len(self._pairs))
            for first in range(position * size, in_epoch * size, size):
                yield self.collate([self._pairs[index] for index in order[first : first + size]])
                number += 1

    def collate(self, pairs: Sequence[Pair]) -> PairBatch:
        """Some pairs as a batch: every distinct image once."""
        ids = list(dict.fromkeys(image_id for pair in pairs for image_id in (pair.source, pair.target)))
        row = {image_id: number for number, image_id in enumerate(ids)}
        return PairBatch(
            maps=self._maps.batch(ids),
            source=tuple(row[pair.source] for pair in pairs),
            target=tuple(row[pair.target] for pair in pairs),
            source_cells=tuple(self._cells(pair.source, pair.source_points) for pair in pairs),
            target_cells=tuple(self._cells(pair.target, pair.target_points) for pair in pairs),
            grid=self._grid,
        )

    def _cells(self, image_id: str, points: Points) -> torch.Tensor:
        spec = self._maps.store.spec
        placement = place(self._images[image_id].size, spec.input_size, fit=spec.fit)
        return torch.from_numpy(cell_index(self._to_grid(points, placement, self._grid), self._grid))
