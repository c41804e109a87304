"""The run over images: decode ahead, compute in batches, hand out the maps of one image after the other."""

import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

import google_crc32c
import torch
from jaxtyping import Float, Shaped
from torch.nn.modules.module import register_module_forward_pre_hook

from matchkit.core.errors import DatasetError
from matchkit.core.interfaces import Backbone
from matchkit.core.records import Canvas, ImageRecord
from matchkit.extract.images import load_image, to_input

AHEAD = 2
"""Batches beside those being computed: decoded before their turn, or computed and not yet handed out."""
Inputs = tuple[Float[torch.Tensor, "3 _ _"], ...]


@dataclass(frozen=True, slots=True)
class Extracted:
    """What became of one image.

    Attributes:
        record: which one.
        maps: {layer: (t,c,gh,gw)} on the CPU; none where it failed.
        image_crc32c: of the photograph's file, read before it was decoded.
        failure: why there are no maps.
    """

    record: ImageRecord
    maps: Mapping[str, Shaped[torch.Tensor, "t _ _ _"]]
    image_crc32c: int = 0
    failure: DatasetError | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Images whose maps are there once what is under way on a GPU has arrived."""

    images: list[Extracted]
    arrival: torch.cuda.Event | None

    def arrived(self) -> list[Extracted]:
        if self.arrival is not None:
            self.arrival.synchronize()
        return self.images


class _AbandonedError(Exception):
    """Raised from within a forward pass that nobody waits for any more."""


def feature_maps(
    backbone: Backbone, records: Sequence[ImageRecord], *, batch: int, threads: int, decoders: int
) -> Generator[Extracted, None, None]:
    """Yields every record with its maps, in order; one that cannot be decoded comes with its failure instead.

    `decoders` threads decode images ahead. `threads` threads take a batch each, and every batch is computed by one
    thread: features then do not depend on how many cores there are, and many small convolutions run faster so than
    spread over the cores. A partial batch is filled up with copies of its last image, so that every image is computed
    at one batch size wherever a run resumes. At most `threads` + 2 batches are in memory, whatever the number of
    images: who takes them slowly slows down the rest. Who leaves early ends what is being computed at its next layer.
    """
    pending: deque[Future[_Batch]] = deque()
    engine = _Engine(backbone, batch=batch, threads=threads, decoders=decoders)
    try:
        for start in range(0, len(records), batch):
            pending.append(engine.begin(records[start : start + batch]))
            if len(pending) >= threads + AHEAD:
                yield from _result(pending.popleft()).arrived()
        while pending:
            yield from _result(pending.popleft()).arrived()
    finally:
        engine.end()


def _result(future: Future[_Batch]) -> _Batch:
    """Waits a second at a time, for a signal that reached another thread is not seen while one waits."""
    while not wait([future], timeout=1).done:
        pass
    return future.result()


def _started(pool: ThreadPoolExecutor, threads: int) -> ThreadPoolExecutor:
    """The pool with all of its threads running: one that an interrupt catches at its start is never waited for."""
    go = threading.Event()
    try:
        for _ in range(threads):
            pool.submit(go.wait)
    finally:
        go.set()
    return pool


class _Engine:
    """The threads of a run."""

    def __init__(self, backbone: Backbone, *, batch: int, threads: int, decoders: int) -> None:
        self._backbone = backbone
        self._batch = batch
        self._side: torch.cuda.Stream | None = None
        self._threads = torch.get_num_threads()
        self._computing: set[int] = set()
        decoding = ThreadPoolExecutor(decoders, "matchkit-decode", torch.set_num_threads, (1,))
        self._decoders = _started(decoding, decoders)
        self._computers = _started(ThreadPoolExecutor(threads, "matchkit-compute", self._enter), threads)

    def _enter(self) -> None:
        torch.set_num_threads(1)
        self._computing.add(threading.get_ident())

    def begin(self, records: Sequence[ImageRecord]) -> Future[_Batch]:
        """Sees to it that some images are decoded, and computed when it is their turn."""
        canvases = self._backbone.canvases
        decoded = [(record, self._decoders.submit(_decode, record, canvases)) for record in records]
        return self._computers.submit(self._compute, decoded)

    def end(self) -> None:
        """Ends all threads, at once where something is left to do."""
        with self._abandoning():
            self._decoders.shutdown(cancel_futures=True)
            self._computers.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)  # torch takes what was set last for threads to come

    @contextmanager
    def _abandoning(self) -> Iterator[None]:
        def refuse(*_: object) -> None:
            if threading.get_ident() in self._computing:
                raise _AbandonedError

        hook = register_module_forward_pre_hook(refuse)
        try:
            yield
        finally:
            hook.remove()

    def _compute(self, decoded: Sequence[tuple[ImageRecord, Future[tuple[int, Inputs]]]]) -> _Batch:
        found: dict[str, tuple[int, Inputs]] = {}
        failures: dict[str, DatasetError] = {}
        for record, future in decoded:
            try:
                found[record.id] = future.result()
            except DatasetError as error:
                failures[record.id] = error
        if not found:
            return _Batch([Extracted(record, {}, failure=failures[record.id]) for record, _ in decoded], None)
        maps, arrival = self._maps(list(found), [placed for _, placed in found.values()])
        rows = {image_id: {layer: values[row] for layer, values in maps.items()} for row, image_id in enumerate(found)}
        images = [
            Extracted(record, {}, failure=failures[record.id])
            if record.id in failures
            else Extracted(record, rows[record.id], found[record.id][0])
            for record, _ in decoded
        ]
        return _Batch(images, arrival)

    def _maps(
        self, ids: Sequence[str], placed: Sequence[Inputs]
    ) -> tuple[Mapping[str, Shaped[torch.Tensor, "b t _ _ _"]], torch.cuda.Event | None]:
        padding = self._batch - len(ids)
        images, *others = (
            torch.stack([*of_canvas, *of_canvas[-1:] * padding]) for of_canvas in zip(*placed, strict=True)
        )
        maps = self._backbone(images, [*ids, *[ids[-1]] * padding], *others)
        if any(values.is_cuda for values in maps.values()):
            return self._fetch(maps)
        return {layer: values.cpu() for layer, values in maps.items()}, None

    def _fetch(
        self, maps: Mapping[str, Shaped[torch.Tensor, "b t _ _ _"]]
    ) -> tuple[dict[str, Shaped[torch.Tensor, "b t _ _ _"]], torch.cuda.Event]:
        """Starts to copy maps from a GPU into pinned memory, channels last, beside what is computed next."""
        device = next(iter(maps.values())).device
        side = self._side = self._side or torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        fetched = {}
        with torch.cuda.stream(side):
            for layer, values in maps.items():
                ordered = values.permute(0, 1, 3, 4, 2).contiguous()
                values.record_stream(side)  # its memory is not given away before it has been read
                pinned = torch.empty(ordered.shape, dtype=ordered.dtype, pin_memory=True)
                fetched[layer] = pinned.copy_(ordered, non_blocking=True).permute(0, 1, 4, 2, 3)
            arrival = torch.cuda.Event()
            arrival.record(side)
        return fetched, arrival


def _decode(record: ImageRecord, canvases: Sequence[Canvas]) -> tuple[int, Inputs]:
    return checksum(record), inputs(record, canvases)


def checksum(record: ImageRecord) -> int:
    """CRC-32C of a photograph's file; that of nothing where it cannot be read, which decoding it will say."""
    try:
        return int(google_crc32c.value(record.path.read_bytes()))
    except OSError:
        return 0


def inputs(record: ImageRecord, canvases: Sequence[Canvas]) -> Inputs:
    """A photograph on each of a backbone's canvases, values in [0, 1].

    Raises:
        DatasetError: it cannot be decoded.
    """
    images = {oriented: load_image(record, oriented=oriented) for oriented in {canvas.oriented for canvas in canvases}}
    return tuple(to_input(images[canvas.oriented], canvas)[0] for canvas in canvases)
