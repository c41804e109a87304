"""Maps read from shard files into memory: our own layout straight from the files, any other through zarr."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np
import torch
from jaxtyping import Shaped

from matchkit.cache import group
from matchkit.cache.buffers import memory
from matchkit.cache.codecs.codec import Codec
from matchkit.cache.layout import ArrayLayout, StoreLayout
from matchkit.cache.ledger import Ledger
from matchkit.cache.places.place import Piece, Place
from matchkit.cache.shards import pieces, read_or_refuse
from matchkit.core.errors import StoreError
from matchkit.core.spec import LayerSpec

if TYPE_CHECKING:
    from matchkit.cache.foreign import ForeignArray

ImageMaps = dict[str, Shaped[torch.Tensor, "t _ _ _"]]

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer and the arrays that hold it; `first` is the position of its first chunk among an image's checksums."""

    spec: LayerSpec
    arrays: tuple[ArrayLayout, ...]
    first: int


class MapReader:
    """Reads the maps of images by their rows.

    Args:
        place: where the store lies.
        layout: of the store.
        encoding: the codec of its arrays.

    Raises:
        StoreError: an array is not there, or not as the spec says.

    Attributes:
        layers: by name, in the spec's order.
        arrays: all arrays, in the order of an image's checksums.
        steps: timesteps of an image.
        read_only: whether another program laid out an array, so that none can be written here.
    """

    def __init__(self, place: Place, layout: StoreLayout, encoding: Codec) -> None:
        self._place = place
        self._codec = encoding
        self.steps = len(layout.spec.timesteps)
        self.layers: dict[str, StoredLayer] = {}
        arrays: list[ArrayLayout] = []
        for layer in layout.spec.layers:
            self.layers[layer.name] = StoredLayer(layer, layout.arrays(layer, encoding), len(arrays) * self.steps)
            arrays += self.layers[layer.name].arrays
        self.arrays = tuple(arrays)
        foreign = group.foreign_arrays(place, self.arrays)
        self.read_only = bool(foreign)
        self.foreign = _open_foreign(place, foreign | {array.name for array in arrays if array.compressed})

    def read(
        self,
        row: int,
        names: Sequence[str],
        steps: Sequence[int],
        *,
        ledger: Ledger,
        out: Mapping[str, Shaped[torch.Tensor, "t _ _ _"]] | None,
    ) -> ImageMaps:
        """The maps of some layers at some positions of the stored axis, as `FeatureStore.read` hands them out.

        Raises:
            StoreError: a shard is damaged or gone, or `out` is of another shape.
        """
        fits = isinstance(out, Room) and out.made_for == (self, tuple(names), len(steps))
        room = out if isinstance(out, Room) and fits else self._room_around(names, len(steps), out)
        wanted: list[Piece] = []
        for name in names:
            layer = self.layers[name]
            for number, (array, values) in enumerate(zip(layer.arrays, room.parts[name], strict=True)):
                if array.name in self.foreign:
                    known = ledger.checksums(row)[layer.first + number * self.steps :]
                    values[:] = self._read_foreign(array, row, steps, known)
                else:
                    wanted += pieces(array, row, steps, values)
        read_or_refuse(self._place, wanted)
        for name in names:
            if name not in room.shared:
                tensors = [torch.from_numpy(values) for values in room.parts[name]]
                into = room[name].permute(0, 2, 3, 1)
                fitting = into if into.is_contiguous() and into.dtype == self._codec.decoded else None
                decoded = self._codec.decode(self.layers[name].spec, tensors, steps, out=fitting)
                if fitting is None:
                    into.copy_(decoded)
        return room

    def room(self, names: Sequence[str], steps: int, *, pinned: bool) -> "Room":
        """Memory for the maps of some layers at `steps` timesteps."""
        return self._room_around(names, steps, {name: self.buffer(name, (steps,), pinned=pinned) for name in names})

    def _room_around(
        self, names: Sequence[str], steps: int, out: Mapping[str, Shaped[torch.Tensor, "t _ _ _"]] | None
    ) -> "Room":
        if out is None:
            return self.room(names, steps, pinned=False)
        maps = {name: self._fitting(out, name, steps) for name in names}
        parts = {name: [self._memory(array, steps, maps[name]) for array in self.layers[name].arrays] for name in names}
        return Room(maps, parts, made_for=(self, tuple(names), steps))

    def _memory(
        self, array: ArrayLayout, steps: int, maps: Shaped[torch.Tensor, "t c gh gw"]
    ) -> Shaped[np.ndarray, "t ..."]:
        """The memory of the maps where the array's values are the maps themselves, else memory to decode from."""
        if self._codec.plain:
            bits = maps.view(torch.uint16) if maps.dtype == torch.bfloat16 else maps
            values: np.ndarray = bits.permute(0, 2, 3, 1).numpy()
            if values.dtype == array.dtype and values.flags.c_contiguous:
                return values
        return memory((steps, *array.shape[1:]), array.dtype)

    def _fitting(
        self, out: Mapping[str, Shaped[torch.Tensor, "t _ _ _"]], name: str, steps: int
    ) -> Shaped[torch.Tensor, "t c gh gw"]:
        layer = self.layers[name].spec
        shape = (steps, layer.channels, *layer.grid)
        if name not in out or tuple(out[name].shape) != shape:
            found = tuple(out[name].shape) if name in out else "nothing"
            raise StoreError(f"the memory for layer '{name}' of {self._place.url} is to be {shape}, not {found}")
        return out[name]

    def _read_foreign(
        self, array: ArrayLayout, row: int, steps: Sequence[int], known: Sequence[int]
    ) -> Shaped[np.ndarray, "t ..."]:
        """Compares what zarr gives with the ledger: zarr takes a chunk that is not there for zeros."""
        values = np.ascontiguousarray(self.foreign[array.name].read(row, steps))
        if any(google_crc32c.value(chunk) != known[step] for step, chunk in zip(steps, values, strict=True)):
            url = self._place.url
            raise StoreError(f"{url}/{array.file(row)} is damaged or gone. Run: matchkit cache verify --repair {url}")
        return values

    def buffer(
        self, name: str, shape: Sequence[int], *, pinned: bool = False, device: torch.device = CPU
    ) -> Shaped[torch.Tensor, "*b c gh gw"]:
        """Memory for maps of a layer, channels last; `shape` is what stands before their own axes."""
        layer, dtype = self.layers[name].spec, self._codec.decoded
        whole = (*shape, *layer.grid, layer.channels)
        if device.type != "cpu" or pinned:
            block = torch.empty(whole, dtype=dtype, device=device, pin_memory=pinned)
        else:
            flat = memory((math.prod(whole) * dtype.itemsize,), np.dtype(np.uint8))
            block = torch.from_numpy(flat).view(dtype).view(whole) if len(flat) else torch.empty(whole, dtype=dtype)
        return block.movedim(-1, -3)


class Room(dict[str, Shaped[torch.Tensor, "t _ _ _"]]):
    """Memory for the maps of an image, {layer: (t,c,gh,gw)}, and for what they are decoded from.

    Attributes:
        parts: for each layer the memory that its arrays are read into.
        shared: the layers for which that is the memory of the maps themselves.
        made_for: the reader, the layers and how many timesteps it is for.
    """

    def __init__(
        self,
        maps: ImageMaps,
        parts: Mapping[str, Sequence[Shaped[np.ndarray, "t ..."]]],
        *,
        made_for: tuple[MapReader, tuple[str, ...], int],
    ) -> None:
        super().__init__(maps)
        self.parts = parts
        self.made_for = made_for
        self.shared = {name for name, values in parts.items() if values[0].ctypes.data == maps[name].data_ptr()}


def _open_foreign(place: Place, names: Collection[str]) -> "dict[str, ForeignArray]":
    if not names:  # the import of zarr takes longer than reading hundreds of images
        return {}
    from matchkit.cache.foreign import ForeignArray

    return {name: ForeignArray(place, name) for name in names}
