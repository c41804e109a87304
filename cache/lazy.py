"""A store as dask arrays, whatever its codec and its place."""

import dask.array as da
import numpy as np
import torch
from dask.delayed import delayed

from matchkit.cache.store import FeatureStore


def lazy(store: FeatureStore, layer: str) -> da.Array:
    """The maps of one layer of all complete images as (image, t, gh, gw, c), one image a chunk, read when computed.

    Maps in bfloat16, which numpy does not have, come as float32.
    """
    spec = store.spec.layer(layer)
    shape = (len(store.timesteps), *spec.grid, spec.channels)
    dtype = _rows(store.buffers([layer])[layer]).dtype
    images = [
        da.from_delayed(delayed(_read)(store, image_id, layer), shape=shape, dtype=dtype) for image_id in store.ids
    ]
    stacked: da.Array = da.stack(images) if images else da.zeros((0, *shape), dtype=dtype)
    return stacked


def _read(store: FeatureStore, image_id: str, layer: str) -> np.ndarray:
    return _rows(store.read(image_id, [layer])[layer])


def _rows(maps: torch.Tensor) -> np.ndarray:
    values = maps.permute(0, 2, 3, 1)
    return values.float().numpy() if values.dtype == torch.bfloat16 else values.numpy()
