"""Pairs as a head trains on them, read from a store: each image once, held in memory up to a bound, a batch ahead."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle

import numpy as np
import torch
from jaxtyping import Int, Shaped

from matchkit.cache.reader import ImageMaps
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import ConfigError, DatasetError
from matchkit.core.flips import Flips
from matchkit.core.geometry import KEYPOINT_RULES, KeypointRule, place, stride
from matchkit.core.interfaces import BatchPair, PairBatch
from matchkit.core.poses import pose_of, posed, unposed_id
from matchkit.core.records import ImageRecord, Pair, Placement

BatchMaps = dict[str, Shaped[torch.Tensor, "b t _ _ _"]]
Room = dict[str, Shaped[torch.Tensor, "_ t _ _ _"]]
"""Memory for a number of images."""
CPU = torch.device("cpu")


class MapCache:
    """The maps of the images used last, in the type of the store, in at most `limit` bytes of one block of memory.

    Args:
        store: where maps are read.
        layers: which ones.
        timesteps: which ones, in this order.
        limit: bytes that are held; less than an image holds none.
        device: where they are held.

    Attributes:
        images: how many images fit.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        layers: Sequence[str],
        timesteps: Sequence[int],
        limit: int,
        device: torch.device = CPU,
    ) -> None:
        self.store = store
        self._layers = tuple(layers)
        self._timesteps = tuple(timesteps)
        self._device = device
        self._staging = store.buffers(layers, timesteps, pinned=device.type == "cuda")
        size = sum(values.nbytes for values in self._staging.values())
        self.images = min(limit // size, len(store.ids))
        self._held = self.room(self.images) if self.images else {}
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._free = list(range(self.images))
        self._lock = threading.Lock()

    def room(self, images: int) -> Room:
        """Memory for the maps of some images on the device of the cache."""
        return self.store.batch_buffers(images, self._layers, self._timesteps, device=self._device)

    def batch(self, ids: Sequence[str], out: Room | None = None) -> BatchMaps:
        """The maps of some images as {layer: (b,t,c,gh,gw)}, views of channels-last memory.

        Args:
            ids: of the images.
            out: memory of `room` for at least as many images.
        """
        maps = {name: values[: len(ids)] for name, values in (out or self.room(len(ids))).items()}
        with self._lock:
            for number, image_id in enumerate(ids):
                row = {name: values[number] for name, values in maps.items()}
                if self.images:
                    _copy(self._hold(image_id), row)
                else:
                    self._read(image_id, row)
        return maps

    def _hold(self, image_id: str) -> ImageMaps:
        slot = self._slots.pop(image_id, None)
        if slot is None:
            if not self._free:
                self._free.append(self._slots.popitem(last=False)[1])
            slot = self._free[-1]
            self._read(image_id, {name: values[slot] for name, values in self._held.items()})
            self._free.pop()  # only now: a slot whose reading failed holds nothing
        self._slots[image_id] = slot
        return {name: values[slot] for name, values in self._held.items()}

    def _read(self, image_id: str, into: ImageMaps) -> None:
        if self._device.type == "cpu":
            self.store.read(image_id, self._layers, self._timesteps, out=into)
        else:
            _copy(self.store.read(image_id, self._layers, self._timesteps, out=self._staging), into)


def _copy(maps: ImageMaps, into: ImageMaps) -> None:
    for name, values in into.items():
        values.copy_(maps[name])


class CachedPairs:
    """The pairs of a split with their maps, in a seeded order that a resumed run takes up where it stopped.

    Where the cache cannot hold all images, pairs whose images are at hand together come together: an epoch then takes
    blocks of images two at a time, and its pairs are in random order only within these.

    Args:
        maps: where maps are read and held.
        pairs: the pairs; those without keypoints are left out.
        images: the dataset's images by id.
        grid: (height, width) in cells of the descriptor map on which keypoints are looked up.
        rule: how keypoints change from the image frame to the grid frame.
        flips: what makes a pair's variants with mirrored images; none without it.

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
        rule: KeypointRule = KEYPOINT_RULES["centre"],
        flips: Flips | None = None,
    ) -> None:
        self._maps = maps
        self._pairs = [pair for pair in pairs if len(pair.source_points)]
        self._images = images
        self._grid = grid
        self._rule = rule
        self._flips = flips
        if not self._pairs:
            raise DatasetError("none of the pairs to be trained on has a keypoint")
        self._ids = sorted({image_id for pair in self._pairs for image_id in (pair.source, pair.target)})
        maps.store.require(self._ids, remedy="Run: matchkit extract")
        self._copies = flips.copies(self._pairs) if flips else []
        maps.store.require(self._copies, remedy="Run: matchkit extract --flip")

    @property
    def holds_all(self) -> bool:
        """Whether all images of the pairs are at hand together; where not, their number shapes the order."""
        return self._maps.images >= len(self._ids) + len(self._copies)

    @property
    def shapes_order(self) -> dict[str, int]:
        """What shapes the order of the pairs beside the seed: where not all images are at hand, how many are."""
        return {} if self.holds_all else {"at_once": self._maps.images}

    @property
    def _an_image(self) -> int:
        """How many images may be read for one of a pair's."""
        return 2 if self._copies else 1

    def __len__(self) -> int:
        return len(self._pairs)

    def batches(self, *, size: int, seed: int, start: int = 0, share: tuple[int, int] = (0, 1)) -> Iterator[PairBatch]:
        """Batches of `size` pairs without end, from batch number `start` on; every epoch has its own order.

        The batch of a number is the same in every run with this seed. An epoch's last partial batch is left out, so
        all batches are of one size; a split smaller than `size` is one batch. A thread reads the next batch meanwhile.
        **The maps of a batch are overwritten when the next one is asked for.**

        Args:
            size: pairs a batch, of all processes together.
            seed: of the order.
            start: the number of the first batch.
            share: the number of this process and how many there are; each has as many pairs of a batch, and batches of
                its own numbers.

        Raises:
            ConfigError: the pairs of a batch cannot be shared out evenly.
        """
        size, (own, processes) = min(size, len(self._pairs)), share
        if size % processes:
            raise ConfigError(f"{size} pairs a step cannot be shared out evenly to {processes} processes")
        rooms = [self._maps.room(min(2 * size // processes, len(self._ids)) * self._an_image) for _ in range(2)]
        shares = (pairs[own::processes] for pairs in self._chosen(size=size, seed=seed, start=start))
        numbered = ((number * processes + own, pairs) for number, pairs in enumerate(shares, start))
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:
            room = cycle(rooms)
            ahead = self._read_by(thread, *next(numbered), next(room))
            for number, pairs in numbered:
                batch = ahead.result()
                ahead = self._read_by(thread, number, pairs, next(room))
                yield batch

    def _read_by(self, thread: ThreadPoolExecutor, number: int, pairs: Sequence[Pair], room: Room) -> Future[PairBatch]:
        return thread.submit(self.collate, pairs, room, number=number)

    def _chosen(self, *, size: int, seed: int, start: int) -> Iterator[list[Pair]]:
        in_epoch = len(self._pairs) // size
        epoch, position = divmod(start, in_epoch)
        while True:
            order = self._order(np.random.default_rng([seed, epoch]))
            for first in range(position * size, in_epoch * size, size):
                yield [self._pairs[index] for index in order[first : first + size]]
            epoch, position = epoch + 1, 0

    def _order(self, generator: np.random.Generator) -> Int[np.ndarray, " n"]:
        """An epoch's order of the pairs."""
        if self.holds_all:
            return generator.permutation(len(self._pairs))
        blocks = generator.permutation(len(self._ids)) // max(1, self._maps.images // (2 * self._an_image))
        block = dict(zip(self._ids, blocks.tolist(), strict=True))
        together = np.array([sorted((block[pair.source], block[pair.target])) for pair in self._pairs])
        return np.lexsort((generator.permutation(len(self._pairs)), together[:, 1], together[:, 0]))

    def collate(self, pairs: Sequence[Pair], room: Room | None = None, *, number: int = 0) -> PairBatch:
        """Some pairs as a batch, of this number: every distinct image once."""
        variants = [self._flips(pair) if self._flips else [] for pair in pairs]
        every = [*pairs, *(variant for of_pair in variants for _, variant in of_pair)]
        ids = list(dict.fromkeys(image_id for pair in every for image_id in (pair.source, pair.target)))
        row = {image_id: index for index, image_id in enumerate(ids)}
        return PairBatch(
            maps=self._maps.batch(ids, room),
            pairs=tuple(
                self._of_batch(
                    pair, row, variants=tuple(self._of_batch(other, row, weight=weight) for weight, other in of_pair)
                )
                for pair, of_pair in zip(pairs, variants, strict=True)
            ),
            ids=tuple(ids),
            grid=self._grid,
            number=number,
        )

    def _of_batch(
        self, pair: Pair, row: Mapping[str, int], *, weight: float = 1.0, variants: tuple[BatchPair, ...] = ()
    ) -> BatchPair:
        source = self._rule.to_grid(pair.source_points, self._placement(pair.source), self._grid)
        target = self._rule.to_grid(pair.target_points, self._placement(pair.target), self._grid)
        return BatchPair(
            source=row[pair.source],
            target=row[pair.target],
            source_points=torch.from_numpy(source),
            target_points=torch.from_numpy(target),
            source_cells=torch.from_numpy(self._rule.cells(source, self._grid)),
            target_cells=torch.from_numpy(self._rule.cells(target, self._grid)),
            target_side=self._side(pair),
            weight=weight,
            variants=variants,
        )

    def _side(self, pair: Pair) -> float:
        """The longer side of the target's box, or of the target, in cells."""
        placement = self._placement(pair.target)
        width, height = placement.image_size
        left, top, right, bottom = pair.target_box or (0, 0, width, height)
        cells = np.multiply((right - left, bottom - top), placement.scale) / stride(placement, self._grid)
        return float(cells.max())

    def _placement(self, image_id: str) -> Placement:
        spec = self._maps.store.spec
        record = posed(self._images[unposed_id(image_id)], pose_of(image_id))
        return place(record.size, spec.input_size, fit=spec.fit)
