"""One vector an image: the mean direction of a layer's cells."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from matchkit.cache.scan import scan
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import StoreError
from matchkit.core.similarity import EPSILON


def pooled(
    store: FeatureStore, ids: Sequence[str], layer: str, *, done: Callable[[], object] = lambda: None
) -> Float[np.ndarray, "n c"]:
    """The mean over a layer's unit-length cells, at all timesteps of the store, a row an image in the order of `ids`.

    Its length says how alike the cells are: at most 1. Images are read one after the other; `done` is called per image.

    Raises:
        StoreError: no such layer, or an image that is not complete, damaged, or has values that are no numbers.
    """
    channels = store.spec.layer(layer).channels
    vectors = np.empty((len(ids), channels), np.float32)
    for row, (image_id, maps) in enumerate(scan(store, ids, [layer])):
        cells = maps[layer].permute(0, 2, 3, 1).reshape(-1, channels).float()
        # weighted by their lengths' inverses and summed: a map of normalised cells is never written
        weights = 1 / torch.linalg.vector_norm(cells, dim=1).clamp_min(EPSILON)
        vectors[row] = (weights @ cells / len(cells)).numpy()
        if not np.isfinite(vectors[row]).all():
            raise StoreError(f"{store}: layer '{layer}' of image '{image_id}' has values that are no numbers")
        done()
    return vectors
