"""Stage extract: a dataset's images through a frozen backbone into a feature store, once."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from matchkit.cache.layout import image_bytes
from matchkit.cache.store import FeatureStore
from matchkit.core.errors import DatasetError
from matchkit.core.poses import Pose
from matchkit.core.records import ImageRecord
from matchkit.core.spec import FeatureSpec
from matchkit.extract.run import checksum
from matchkit.pipelines.cluster import Cluster, fill_by
from matchkit.pipelines.fill import fill
from matchkit.pipelines.prepare import Prepared, images_of, prepare
from matchkit.pipelines.settings import features_path
from matchkit.pipelines.space import absent, require_space
from matchkit.pipelines.tally import Tally

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What an extraction did: the store, its spec's digest, and images there were already and images done now."""

    store: str
    digest: str
    present: int
    done: int


def extract(
    dataset: str,
    entry: str,
    *,
    root: Path | None = None,
    weights: str | None = None,
    prompt: Path | None = None,
    out: Path | str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    limit: int | None = None,
    poses: tuple[Pose, ...] = (),
    force: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Extraction:
    """Extracts what is missing or stale; everything that can be decoded is done before a failure is raised.

    Args:
        dataset: name in the table of datasets.
        entry: of `params.yaml`, or a backbone.
        root: the dataset's tree.
        weights: of the backbone.
        prompt: file of a learned prompt that the backbone is given.
        out: the store's path or URL.
        settings: `key=value`, over `params.yaml`.
        device: on which to compute.
        limit: only so many images, the first ones by id.
        poses: also the images' copies in these, each with the ending of its pose after its id; where none is told,
            those of `params.yaml`.
        force: whether to begin on a disk without room for all of it.
        workers: processes to start on this machine, each with the backbone; None computes in this process.
        scheduler: address of a dask cluster that computes instead.

    Raises:
        SpecMismatchError: the store was made under another spec.
        StoreError: there is no room on the disk, or it cannot be written.
        DatasetError: images that cannot be decoded, all of them named, after the others are done.
    """
    cluster = Cluster(scheduler or "", workers or 0) if scheduler or workers else None
    prepared = prepare(dataset, entry, weights=weights, settings=settings, device=device, prompt=prompt, root=root)
    records = images_of(dataset, root, limit=limit, poses=poses or prepared.params.poses)
    spec, ids = prepared.backbone.spec, [record.id for record in records]
    where = out or features_path(dataset, prompt.stem if prompt else entry)
    if not force:
        require_space(where, spec, images=len(absent(where, spec, ids)))
    todo = _begin(where, spec, records)
    with _told_when_stopped(where, ids), Tally(images=len(todo), bytes_an_image=image_bytes(spec)) as tally:
        if todo and cluster:
            fill_by(cluster, where, prepared, todo, device=device, tally=tally)
        elif todo:
            _fill_here(where, prepared, todo, tally=tally)
    with FeatureStore.open(where) as store:
        store.finalize()
    if tally.failures:
        listed = "; ".join(tally.failures)
        raise DatasetError(f"{len(tally.failures)} of {len(records)} images cannot be extracted: {listed}")
    return Extraction(str(store), spec.digest(), present=len(records) - len(todo), done=len(todo))


def _begin(where: Path | str, spec: FeatureSpec, records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Lays the store out and returns the images that are to be done."""
    with FeatureStore.create(where, spec, [record.id for record in records]) as store:
        missing = set(store.missing(record.id for record in records))
        there = {record.id: checksum(record) for record in records if record.id not in missing and record.path.exists()}
        for image_id in store.stale(there):
            log.warning("%s: image '%s' has changed since it was extracted", store, image_id)
            store.withdraw(image_id)
            missing.add(image_id)
    return [record for record in records if record.id in missing]


def _fill_here(where: Path | str, prepared: Prepared, records: Sequence[ImageRecord], *, tally: Tally) -> None:
    with FeatureStore.open(where, prepared.backbone.spec) as store:
        fill(
            store,
            prepared.backbone,
            records,
            batch=prepared.params.batch,
            threads=prepared.threads,
            decoders=prepared.decoders,
            tally=tally,
        )


@contextmanager
def _told_when_stopped(where: Path | str, ids: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        kept = len(ids) - len(FeatureStore.open(where).missing(ids))
        log.warning(
            "%s: stopped. %s of %s images are complete and kept; the same command goes on from there",
            *(where, f"{kept:,}", f"{len(ids):,}"),
        )
        raise
