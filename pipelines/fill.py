"""Fills a store with what a run computes: a thread of its own writes one image while the next ones are computed."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from matchkit.cache.store import FeatureStore
from matchkit.core.interfaces import Backbone
from matchkit.core.records import ImageRecord
from matchkit.extract.run import Extracted, feature_maps
from matchkit.pipelines.tally import Tally

WAITING = 4
"""Images that are computed and wait to be written; a slow disk slows down the rest."""


def fill(
    store: FeatureStore,
    backbone: Backbone,
    records: Sequence[ImageRecord],
    *,
    batch: int,
    threads: int,
    decoders: int,
    tally: Tally,
) -> None:
    """Computes and writes images, in their order; those that cannot be decoded are counted as failures.

    When it is interrupted, the images that wait are written, and what is being computed is dropped.

    Raises:
        StoreError: an image could not be written; nothing more is computed, and those that wait are still tried.
    """
    run = feature_maps(backbone, records, batch=batch, threads=threads, decoders=decoders)
    writes: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="matchkit-write") as writer, closing(run):
        writer.submit(int).result()  # its thread runs, and is waited for, before anything can be interrupted
        for extracted in run:
            if extracted.failure is None:
                writes.append(writer.submit(_write, store, extracted))
            else:
                tally.add(failures=[str(extracted.failure)])
            while writes and (writes[0].done() or len(writes) > WAITING):
                writes.popleft().result()
                tally.add(written=1)
        for write in writes:
            write.result()
            tally.add(written=1)


def _write(store: FeatureStore, extracted: Extracted) -> None:
    store.write(extracted.record.id, extracted.maps, image_crc32c=extracted.image_crc32c)
