"""Images of a store one after the other, the next one read while this one is used."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from matchkit.cache.reader import ImageMaps
from matchkit.cache.store import FeatureStore


def scan(
    store: FeatureStore,
    ids: Sequence[str],
    layers: Sequence[str] | None = None,
    timesteps: Sequence[int] | None = None,
) -> Iterator[tuple[str, ImageMaps]]:
    """The maps of images, {layer: (t,c,gh,gw)}, in the order of `ids`.

    **The maps of an image are overwritten when the next one is asked for**; two images are in memory at a time.

    Raises:
        StoreError: an image is not complete, or damaged.
    """
    if not ids:
        return
    rooms = [store.buffers(layers, timesteps) for _ in range(2)]
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(store.read, ids[0], layers, timesteps, out=rooms[0])
        for number, image_id in enumerate(ids):
            maps = ahead.result()
            if number + 1 < len(ids):
                ahead = thread.submit(store.read, ids[number + 1], layers, timesteps, out=rooms[(number + 1) % 2])
            yield image_id, maps
