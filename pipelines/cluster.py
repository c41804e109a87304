"""An extraction by the workers of a dask cluster: each task is some images that no other task shares a file with.

The one place outside the cache that uses dask, and only its scheduler: it hands out tasks, notices workers that are
lost, and hands their tasks out again. What a task has written stands in the store, so only the rest is done again.
"""

import itertools
import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from matchkit.cache.group import read_layout
from matchkit.cache.layout import image_bytes
from matchkit.cache.places.place import is_url, open_place
from matchkit.cache.store import FeatureStore
from matchkit.core.device import choose_device
from matchkit.core.errors import ConfigError, MatchkitError
from matchkit.core.interfaces import Backbone
from matchkit.core.records import ImageRecord
from matchkit.pipelines.fill import fill
from matchkit.pipelines.prepare import Prepared
from matchkit.pipelines.prompted import Prompt, build_backbone
from matchkit.pipelines.tally import Tally

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 60.0
"""Seconds to wait for a scheduler, for its first worker, and for a worker that is lost but still holds some images."""

ROUNDS = 4
"""Tasks for each thread of the cluster, at least, lest one thread works on while the others have nothing to do."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where an extraction runs.

    Attributes:
        scheduler: address of a running scheduler, e.g. `tcp://10.0.0.1:8786`; "" starts one here.
        workers: processes that are started here where no scheduler is given.
    """

    scheduler: str = ""
    workers: int = 0

    def __post_init__(self) -> None:
        if bool(self.scheduler) == bool(self.workers):
            raise ConfigError("give --scheduler, or --workers, not both: a scheduler has workers of its own")


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker must know to extract images; all of it is the same for every task.

    Attributes:
        store: its path or URL, the same for every worker.
        digest: of the spec.
        backbone: name in the table of backbones.
        values: its parameters, as JSON.
        batch: images a batch.
        device: as `--device` names it.
        prompt: learned, that the backbone is given: a file that every worker can read.
    """

    store: str
    digest: str
    backbone: str
    values: str
    batch: int
    device: str
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Images that one worker does, with the numbers of all groups in which they share files."""

    records: tuple[ImageRecord, ...]
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a task: images that are complete, and why the others are not."""

    written: int
    failures: list[str]


def fill_by(
    cluster: Cluster,
    where: Path | str,
    prepared: Prepared,
    records: Sequence[ImageRecord],
    *,
    device: str,
    tally: Tally,
) -> None:
    """Lets a cluster compute and write images.

    Raises:
        ConfigError: no scheduler answers, or it has no worker.
        MatchkitError: what the first task that fails raises; several workers were lost at the same images; or the
            scheduler was lost.
    """
    from distributed import as_completed

    job = _job(where, prepared, device=device)
    with _client(cluster, threads=prepared.threads) as client:
        at_a_time = sum(client.nthreads().values())
        todo = tasks(job.store, records, batch=job.batch, at_a_time=at_a_time)
        futures = client.map(partial(work, job), todo, pure=False)
        try:
            with _losses_told(cluster):
                for future in as_completed(futures):
                    done = future.result()
                    tally.add(written=done.written, failures=done.failures)
        finally:
            client.cancel(futures)


@contextmanager
def _losses_told(cluster: Cluster) -> Iterator[None]:
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise MatchkitError(
            f"several workers were lost at the same images, for want of memory perhaps: {error}"
        ) from error
    except CancelledError as error:  # nobody but a client without its scheduler cancels them
        raise MatchkitError(
            f"the scheduler at {cluster.scheduler or 'this machine'} was lost. What was complete is kept; when there "
            "is a scheduler again, the same command goes on from there"
        ) from error


def _job(where: Path | str, prepared: Prepared, *, device: str) -> Job:
    values = {key: _absolute(key, value) for key, value in prepared.values.items()}
    store = str(where) if is_url(where) else str(Path(where).absolute())
    spec = prepared.backbone.spec
    told = json.dumps(values, sort_keys=True)
    return Job(store, spec.digest(), prepared.name, told, prepared.params.batch, device, prepared.prompt)


def _absolute(key: str, value: object) -> object:
    """A path among the parameters as every worker understands it, whatever folder it stands in."""
    if isinstance(value, str) and ("/" in value or key.endswith("weights")):
        from matchkit.extract.backbones.weights import EMBEDDED  # loaded by now, if there are weights

        path = Path(value).expanduser()
        return str(path.absolute()) if value != EMBEDDED and path.exists() else value
    return value


def tasks(store: str, records: Sequence[ImageRecord], *, batch: int, at_a_time: int) -> list[Task]:
    """Deals images out: those that share files stand in one task, since a file has one writer.

    Tasks are so large that they fill whole batches, and that writing overlaps computing, unless too few were left to
    keep `at_a_time` of them busy to the end.
    """
    layout = read_layout(open_place(store))
    together = max([1, *layout.shared.values()])
    rows = {image_id: row for row, image_id in enumerate(layout.ids)}
    size = _size(len(records), batch=batch, together=together, at_a_time=at_a_time)
    found: list[list[ImageRecord]] = [[]]
    ordered = sorted(records, key=lambda record: rows[record.id])
    for _, members in itertools.groupby(ordered, key=lambda record: rows[record.id] // together):
        if len(found[-1]) >= size:
            found.append([])
        found[-1] += (replace(record, path=record.path.absolute()) for record in members)
    return [Task(tuple(part), frozenset(rows[record.id] // together for record in part)) for part in found if part]


def _size(images: int, *, batch: int, together: int, at_a_time: int) -> int:
    whole = math.lcm(batch, together)
    for size in (4 * whole, whole):
        if images >= ROUNDS * at_a_time * size:
            return size
    return -(-batch // together) * together


@contextmanager
def _client(cluster: Cluster, *, threads: int) -> Iterator["Client"]:
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.WARNING)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # its errors are raised as well
    if not cluster.scheduler:
        each = max(1, threads // cluster.workers)
        # no diagnostics page: its usual port may be another one's
        quiet = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        local = LocalCluster(n_workers=cluster.workers, threads_per_worker=each, memory_limit=0, scheduler_kwargs=quiet)
        with local, Client(local) as client:
            yield client
        return
    try:
        client = Client(cluster.scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no dask scheduler answers at {cluster.scheduler} ({error}). Run: dask scheduler") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ConfigError(
                f"the scheduler at {cluster.scheduler} has no worker. Run: dask worker {cluster.scheduler}"
            ) from error
        yield client


def work(job: Job, task: Task) -> Done:
    """Does a task, in the process of a worker: on one thread, for a worker may have several tasks at a time."""
    backbone = _BACKBONES.get(job)
    with FeatureStore.open(job.store, backbone.spec) as store:
        _wait_until_free(store, task.groups)
        store.refresh()
        todo = set(store.missing(record.id for record in task.records))
        records = [record for record in task.records if record.id in todo]
        with Tally(images=len(records), bytes_an_image=image_bytes(backbone.spec), shown=False) as tally:
            fill(store, backbone, records, batch=job.batch, threads=1, decoders=1, tally=tally)
    return Done(len(task.records) - len(tally.failures), tally.failures)


def _wait_until_free(store: FeatureStore, groups: frozenset[int]) -> None:
    """A worker that the scheduler has given up may hold its images until its process is gone."""
    deadline = time.monotonic() + PATIENCE
    while groups & set(store.place.held("images")) and time.monotonic() < deadline:
        time.sleep(0.1)


class _Backbones:
    """The backbone of the last job, loaded once a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._backbone: Backbone | None = None

    def get(self, job: Job) -> Backbone:
        with self._lock:
            if self._backbone is None or job != self._job:
                self._backbone = _load(job)
                self._job = job
            return self._backbone


_BACKBONES = _Backbones()


def _load(job: Job) -> Backbone:
    device = choose_device(job.device)
    values = json.loads(job.values)
    backbone = build_backbone(job.backbone, values, where="worker", device=device, prompt=job.prompt)
    if backbone.spec.digest() != job.digest:
        other = "other weights, another prompt" if job.prompt else "other weights"
        raise ConfigError(
            f"this worker gives features of spec {backbone.spec.digest()}, not {job.digest}: it has {other} or another "
            "version of matchkit"
        )
    return backbone
