"""The run over images: decode and compute in batches, hand out the maps of one image after the other."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Shaped

from matchkit.core.errors import DatasetError
from matchkit.core.interfaces import Backbone
from matchkit.core.records import ImageRecord
from matchkit.extract.images import load_image, to_input


@dataclass(frozen=True, slots=True)
class Extracted:
    """What became of one image: its maps {layer: (t,c,gh,gw)}, or why there are none."""

    record: ImageRecord
    maps: dict[str, Shaped[torch.Tensor, "t _ _ _"]]
    failure: DatasetError | None = None


def feature_maps(
    backbone: Backbone, records: Sequence[ImageRecord], *, batch: int, workers: int
) -> Iterator[Extracted]:
    """Yields every record with its maps, in order; one that cannot be decoded comes with its failure instead.

    `workers` threads take a batch each, and every batch is computed by one thread: features then do not depend on how
    many cores there are, and many small convolutions run faster so than spread over the cores. A partial batch is
    filled up with copies of its last image, so that every image is computed at one batch size wherever a run resumes.
    At most `workers` + 1 batches are in memory.
    """
    groups = [records[start : start + batch] for start in range(0, len(records), batch)]
    pending: deque[Future[list[Extracted]]] = deque()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for group in groups:
                pending.append(pool.submit(_extract, backbone, group, batch=batch))
                if len(pending) > workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _extract(backbone: Backbone, group: Sequence[ImageRecord], *, batch: int) -> list[Extracted]:
    spec = backbone.spec
    inputs: dict[str, torch.Tensor] = {}
    failures: dict[str, DatasetError] = {}
    for record in group:
        try:
            inputs[record.id] = to_input(load_image(record), spec.input_size, fit=spec.fit)[0]
        except DatasetError as error:
            failures[record.id] = error
    maps = _compute(backbone, inputs, batch=batch) if inputs else {}
    return [Extracted(record, maps.get(record.id, {}), failures.get(record.id)) for record in group]


def _compute(
    backbone: Backbone, inputs: dict[str, torch.Tensor], *, batch: int
) -> dict[str, dict[str, Shaped[torch.Tensor, "t _ _ _"]]]:
    ids, images = list(inputs), list(inputs.values())
    padding = batch - len(ids)
    maps = backbone(torch.stack(images + images[-1:] * padding), ids + ids[-1:] * padding)
    return {image_id: {layer: values[row] for layer, values in maps.items()} for row, image_id in enumerate(ids)}
