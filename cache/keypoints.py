"""The keypoint table: the descriptors at an image's annotated keypoints as one contiguous row, for sparse training.

It is a feature store of one layer, (image, 1, 1, K, sum of channels x timesteps), and has all that a store has. What
its columns and its rows mean stands in the store's notes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped

from matchkit.cache.derive import outdated
from matchkit.cache.reader import ImageMaps
from matchkit.cache.scan import scan
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import DatasetError, StoreError
from matchkit.core.geometry import Points, image_to_grid, place
from matchkit.core.records import ImageRecord, Pair
from matchkit.core.similarity import sample
from matchkit.core.spec import LayerSpec

LAYER = "keypoints"
NOTE = "keypoint_table"
EXACT = ("fp16", "fp32", "bf16")
"""The codecs that a table takes over; from any other it is fp16, as a row is not of one layer or grid."""
Keypoints = Mapping[str, Mapping[str, Float[np.ndarray, " 2"]]]
"""By image id and keypoint id: (x, y) in the image frame."""


@dataclass(frozen=True, slots=True)
class Column:
    """Where in a row of the table the channels of a layer at a timestep stand."""

    layer: str
    timestep: int
    channels: slice


class KeypointTable:
    """The descriptors of keypoints, sampled bilinearly from the maps.

    Raises:
        StoreError: the store is none of keypoints.

    Attributes:
        store: what holds the table.
        columns: the layers and timesteps of a row, in their order.
    """

    def __init__(self, store: FeatureStore) -> None:
        if NOTE not in store.notes:
            raise StoreError(f"{store} is no keypoint table. Run: matchkit cache convert --keypoints")
        self.store = store
        self._slots: Mapping[str, Mapping[str, int]] = store.notes[NOTE]["slots"]
        self.columns = tuple(
            Column(layer, timestep, slice(first, last)) for layer, timestep, first, last in store.notes[NOTE]["columns"]
        )

    def keypoints(self, image_id: str) -> tuple[str, ...]:
        """The ids of an image's keypoints, in the order of the rows of `read`."""
        return tuple(self._slots[image_id])

    def read(self, image_id: str) -> Shaped[torch.Tensor, "n d"]:
        """The descriptors of an image's keypoints, all layers and timesteps side by side (see `columns`)."""
        whole = self.store.read(image_id, [LAYER])[LAYER]
        return whole[0, :, 0, : len(self._slots[image_id])].T


def keypoints_of(pairs: Sequence[Pair]) -> Keypoints:
    """Every image's keypoints, of all pairs that it is in.

    Raises:
        DatasetError: a keypoint of an image lies elsewhere in another pair.
    """
    found: dict[str, dict[str, Float[np.ndarray, " 2"]]] = {}
    for pair in pairs:
        for image_id, points in ((pair.source, pair.source_points), (pair.target, pair.target_points)):
            known = found.setdefault(image_id, {})
            for name, point in zip(pair.keypoint_ids, points, strict=True):
                if not np.array_equal(known.setdefault(name, point), point):
                    raise DatasetError(
                        f"keypoint '{name}' of image '{image_id}' lies at {known[name].tolist()} in one pair and at "
                        f"{point.tolist()} in pair '{pair.id}'. Give the keypoints of an image names of their own"
                    )
    return found


def build_table(
    parent: FeatureStore,
    where: str | Path,
    keypoints: Keypoints,
    images: Mapping[str, ImageRecord],
    *,
    done: Callable[[], object] = lambda: None,
) -> KeypointTable:
    """Samples the maps of `parent` at the keypoints; takes up where it was interrupted. `done` is called per image.

    Raises:
        StoreError: no keypoints, an image with some is not complete in the parent, or the place is taken.
    """
    if not keypoints:
        raise StoreError(f"there are no keypoints to sample {parent} at. Take a dataset that has some")
    parent.require(keypoints, remedy="Run: matchkit extract")
    widths = [(layer.name, step, layer.channels) for layer in parent.spec.layers for step in parent.timesteps]
    ends = np.cumsum([channels for *_, channels in widths]).tolist()
    columns = [(name, step, end - channels, end) for (name, step, channels), end in zip(widths, ends, strict=True)]
    slots = max(len(points) for points in keypoints.values())
    spec = parent.spec.derive(
        layers=(LayerSpec(LAYER, ends[-1], (1, slots)),),
        timesteps=(0,),
        dtype=parent.spec.dtype if parent.spec.dtype in EXACT else "fp16",
        options={**parent.spec.options, "keypoints": _digest(keypoints)},
    )
    with FeatureStore.create(where, spec, list(keypoints)) as store:
        order = {image_id: {name: slot for slot, name in enumerate(points)} for image_id, points in keypoints.items()}
        store.note(NOTE, {"columns": columns, "slots": order})
        todo = outdated(parent, store, keypoints)
        for _ in range(len(keypoints) - len(todo)):
            done()
        for image_id, maps in scan(parent, todo):
            points = np.stack(list(keypoints[image_id].values()))
            row = torch.zeros(slots, ends[-1])
            row[: len(points)] = _sampled(maps, points, images[image_id], parent)
            store.write(image_id, {LAYER: row.T[None, :, None]}, image_crc32c=parent.image_crc32c(image_id))
            done()
        store.finalize()
    return KeypointTable(FeatureStore.open(where, spec))


def _digest(keypoints: Keypoints) -> str:
    """Names the keypoints, whatever the order of the images: a table of others is another table."""
    told = {image_id: {name: at.tolist() for name, at in points.items()} for image_id, points in keypoints.items()}
    return hashlib.sha256(json.dumps(sorted(told.items())).encode()).hexdigest()[:12]


def _sampled(maps: ImageMaps, points: Points, image: ImageRecord, parent: FeatureStore) -> Float[torch.Tensor, "n d"]:
    placement = place(image.size, parent.spec.input_size, fit=parent.spec.fit)
    blocks = []
    for values in maps.values():
        at = torch.from_numpy(image_to_grid(points, placement, (values.shape[2], values.shape[3])))
        blocks += [sample(step.float(), at) for step in values]
    return torch.cat(blocks, dim=1)
